import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local import lock, tether

# Starts a child, prints both process ids, and keeps running.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def _start(code: str, tmp_path: Path, *arguments: str) -> "tuple[subprocess.Popen[bytes], Path]":
    log = tmp_path / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-c", code, *arguments]
        return tether.start(command, os.environ, tmp_path, file, keep_open=file.fileno()), log


def _read(log: Path) -> str:
    """Wait for the first line of `log` and return its text."""
    _wait_until(lambda: "\n" in log.read_text())
    return log.read_text()


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    """Whether `pid` still runs. A dead process that its new parent has not reaped does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607
    return state.stdout.strip()[:1] not in ("", "Z")


def test_ending_the_tether_ends_the_whole_process_tree(tmp_path: Path) -> None:
    held, log = _start(FAMILY, tmp_path)
    family = [int(pid) for pid in _read(log).split()]

    tether.end(held)

    assert not any(_is_running(pid) for pid in family)


def test_the_whole_process_tree_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    script = """
import os, sys, time
from pathlib import Path
from local import tether
with open(sys.argv[2], "wb") as log:
    tether.start([sys.executable, "-c", sys.argv[1]], os.environ, Path("."), log, log.fileno())
time.sleep(60)
"""
    log = tmp_path / "log"
    log.touch()
    with subprocess.Popen([sys.executable, "-c", script, FAMILY, log]) as owner:
        family = [int(pid) for pid in _read(log).split()]
        assert all(_is_running(pid) for pid in family)

        owner.kill()

    _wait_until(lambda: not any(_is_running(pid) for pid in family))


def test_processes_that_a_command_leaves_running_end_with_it(tmp_path: Path) -> None:
    leaving_a_child = FAMILY.rpartition("time.sleep(60)")[0]
    held, log = _start(leaving_a_child, tmp_path)

    assert held.wait(10) == 0

    _leader, child = (int(pid) for pid in _read(log).split())
    assert not _is_running(child)


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    held, log = _start(STUBBORN, tmp_path)
    _read(log)

    started = time.monotonic()
    tether.end(held)

    assert held.returncode == 128 + signal.SIGKILL
    assert time.monotonic() - started < tether.GRACE_S + 2


def test_a_lock_stays_held_until_everything_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (tmp_path / "log").open("wb") as log, lock.held(path, 0, lambda: None) as descriptor:
        held = tether.start([sys.executable, "-c", FAMILY], os.environ, tmp_path, log, keep_open=descriptor)

    with pytest.raises(lock.Locked), lock.held(path, 0, lambda: None):
        pass
    tether.end(held)
    with lock.held(path, 0, lambda: None):
        pass


def test_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    held, _ = _start("raise SystemExit(7)", tmp_path)

    assert held.wait(10) == 7


def test_output_and_errors_are_logged_in_the_given_directory(tmp_path: Path) -> None:
    held, log = _start("import os, sys; print(os.getcwd(), flush=True); sys.exit('an error')", tmp_path)
    held.wait(10)

    assert log.read_text() == f"{tmp_path.resolve()}\nan error\n"


def test_nothing_of_the_users_environment_is_passed_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-c", "import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))"]
        held = tether.start(command, {"ONLY": "this"}, tmp_path, file, keep_open=file.fileno())
    held.wait(10)

    assert log.read_text() == "['ONLY']\n"
