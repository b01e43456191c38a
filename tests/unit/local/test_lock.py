import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local import lock


def _say_nothing() -> None:
    pass


def test_only_one_process_holds_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with lock.held(path, 0, _say_nothing), pytest.raises(lock.Locked), lock.held(path, 0, _say_nothing):
        pass


def test_a_failed_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with (
        lock.held(path, 0, _say_nothing),
        pytest.raises(lock.Locked, match=f"^{os.getpid()}$"),
        lock.held(path, 0, _say_nothing),
    ):
        pass


def test_a_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    with lock.held(tmp_path / "lock", 0, _say_nothing):
        pass
    with lock.held(tmp_path / "lock", 0, _say_nothing):
        pass


def test_a_lock_is_waited_for_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    happened: list[str] = []

    def hold() -> None:
        with lock.held(path, 0, _say_nothing):
            has_it.set()
            is_waited_for.wait(30)
            happened.append("let go")

    def say_waiting() -> None:
        happened.append("said")
        is_waited_for.set()

    has_it, is_waited_for = threading.Event(), threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    has_it.wait()

    with lock.held(path, 60, say_waiting):
        assert happened == ["said", "let go"]
    holder.join()


def test_a_child_that_inherits_a_lock_keeps_it_after_its_parent_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = """
import subprocess, sys, time
from pathlib import Path
from local import lock
with lock.held(Path(sys.argv[1]), 0, lambda: None) as descriptor:
    child = subprocess.Popen(["sleep", "30"], pass_fds=[descriptor], stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    time.sleep(30)
"""
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        heir = int(holder.stdout.readline())
        holder.kill()

    with pytest.raises(lock.Locked), lock.held(path, 0, _say_nothing):
        pass
    os.kill(heir, signal.SIGKILL)
    with lock.held(path, 5, _say_nothing):
        pass
