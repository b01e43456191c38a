import subprocess
import sys
from pathlib import Path

import pytest

from tools import compiler
from tools.compiler import CompilerUnusable


def test_a_python_that_only_bears_the_name_is_passed_over(tmp_path: Path) -> None:
    broken, working = tmp_path / "broken", tmp_path / "working"
    _program(broken / "python3.13", "exit 127")
    _program(working / "python3.13", "echo 3.13 3.13.7 from a test")
    found = compiler.find({"PATH": f"{broken}:{working}"})
    # If the Python of this test is a 3.13, it comes first.
    assert found == (sys.executable if _is_313(sys.executable) else str(working / "python3.13"))


def test_a_python3_of_the_right_version_is_found_too(tmp_path: Path) -> None:
    _program(tmp_path / "python3", "echo 3.13 3.13.7 from a test")
    found = compiler.find({"PATH": str(tmp_path)})
    assert found == (sys.executable if _is_313(sys.executable) else str(tmp_path / "python3"))


def test_the_python_that_is_named_is_taken(tmp_path: Path) -> None:
    named = tmp_path / "some-python"
    _program(named, "echo 3.13 3.13.7 from a test")
    assert compiler.find({"PYTHON313": str(named), "PATH": ""}) == str(named)


@pytest.mark.parametrize("said", ["echo 3.12 3.12.4 from a test", "exit 1", "echo 3.13; exit 1"])
def test_a_named_python_that_is_none_is_refused(tmp_path: Path, said: str) -> None:
    named = tmp_path / "some-python"
    _program(named, said)
    with pytest.raises(CompilerUnusable, match=r"which is not a working Python 3\.13"):
        compiler.find({"PYTHON313": str(named)})


def test_a_named_python_that_is_not_there_is_refused() -> None:
    with pytest.raises(CompilerUnusable, match="no/such/python"):
        compiler.find({"PYTHON313": "no/such/python"})


def _program(path: Path, does: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)


def _is_313(python: str) -> bool:
    ask = "import sys; sys.exit(sys.version_info[:2] != (3, 13))"
    return subprocess.run([python, "-c", ask], check=False).returncode == 0
