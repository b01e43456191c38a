"""The setup of a checkout, with fake installs."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tools import setup


@pytest.fixture
def made(tmp_path: Path) -> list[str]:
    (tmp_path / "lock").write_text("1")
    return []


def _make(folder: Path, made: list[str], install: str = "it") -> None:
    setup._make("it", [folder / "lock"], folder / "target", lambda: made.append(install))


def test_what_was_made_is_made_again_only_when_its_inputs_change(tmp_path: Path, made: list[str]) -> None:
    for _ in range(2):
        _make(tmp_path, made)
    assert made == ["it"]
    (tmp_path / "lock").write_text("2")
    _make(tmp_path, made)
    assert made == ["it", "it"]


def test_there_may_be_nothing_to_install(tmp_path: Path, made: list[str]) -> None:
    # npm creates no folder if a package is published only for other platforms.
    _make(tmp_path, made)
    assert (tmp_path / "target" / ".made-from").exists()


def test_what_failed_is_made_again(tmp_path: Path, made: list[str]) -> None:
    def fail() -> None:
        raise setup.SetupFailed("the registry is out of reach")

    with pytest.raises(setup.SetupFailed):
        setup._make("it", [tmp_path / "lock"], tmp_path / "target", fail)
    _make(tmp_path, made)
    assert made == ["it"]


def test_a_setup_that_nobody_watches_goes_on(tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as unread:
        monkeypatch.setattr("sys.stderr", unread)
        _make(tmp_path, made)
    assert made == ["it"]


@pytest.mark.parametrize(
    ("target", "is_for_tests"),
    [
        *(
            (target, False)
            for target in ("run", "setup", "lint", "types", "format", "openapi", "bundle", "synth", "deploy")
        ),
        *(
            (target, True)
            for target in ("test", "verify", "check", "soak", "simulate", "fuzz", "permissions", "mutations", "bench")
        ),
    ],
)
def test_only_targets_that_test_install_what_only_tests_use(target: str, is_for_tests: bool) -> None:
    command = [shutil.which("make") or "make", "--dry-run", target]
    shown = subprocess.run(command, cwd=setup.ROOT, check=True, capture_output=True, text=True).stdout
    runs = [shlex.split(line)[2:] for line in shown.splitlines() if "tools/setup.py" in line]
    assert [] in runs
    assert (["--tests"] in runs) is is_for_tests
    installed = {package.folder for arguments in runs for package in setup.packages("--tests" in arguments)}
    assert ("tests/browser" in installed, "tests/testing" in installed) == (is_for_tests, is_for_tests)
    assert {"infra", "local"} <= installed
