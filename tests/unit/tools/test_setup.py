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


def test_a_target_is_made_again_only_when_its_inputs_change(tmp_path: Path, made: list[str]) -> None:
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


def test_a_failed_target_is_made_again(tmp_path: Path, made: list[str]) -> None:
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


_DAILY = ("run", "setup", "lint", "types", "format", "openapi", "bundle", "synth", "deploy")
_TESTING = ("test", "verify", "check", "soak", "simulate", "fuzz", "permissions", "mutations", "bench")


@pytest.mark.parametrize(
    ("target", "has_site", "has_tests"),
    [
        *((target, False, False) for target in _DAILY),
        ("docs", True, False),
        *((target, True, True) for target in _TESTING),
    ],
)
def test_each_target_installs_only_what_it_needs(target: str, has_site: bool, has_tests: bool) -> None:
    command = [shutil.which("make") or "make", "--dry-run", target]
    shown = subprocess.run(command, cwd=setup.ROOT, check=True, capture_output=True, text=True).stdout
    runs = [shlex.split(line)[2:] for line in shown.splitlines() if "tools/setup.py" in line]
    installed = {
        package.folder
        for arguments in runs
        for package in setup.packages("--docs" in arguments or "--tests" in arguments, "--tests" in arguments)
    }
    assert ("tools" in installed) is has_site
    assert ("tests/browser" in installed, "tests/testing" in installed) == (has_tests, has_tests)
    assert {"infra", "local"} <= installed
