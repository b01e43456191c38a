"""A leash for a process: what it started ends when its owner does, also by `kill -9`.

    owner ──(pipe to stdin)── tether ── the command and whatever that starts, in a process group of their own

The owner holds the pipe's only writing end, so the end of the file means that the owner let go or is gone, however it
ended. Run as a file of its own, by a bare Python: standard library only, and nothing of ours is imported.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

# The emulator needs a fifth of a second to end; what takes longer than this has nothing that would be worth it.
GRACE_S = 3.0


def start(
    command: Sequence[str | Path], environment: Mapping[str, str], directory: Path, log: IO[bytes], keep_open: int
) -> subprocess.Popen[bytes]:
    """Start `command` in `directory`, on a leash, with its output in `log`. Ctrl-C in a terminal does not reach it.

    `keep_open` is a file descriptor that stays open until everything has ended: a lock's, which tells others so.

    Returns: the tether, which ends when the command does, with its exit code.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", Path(__file__).resolve(), *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd=directory,
        start_new_session=True,
        pass_fds=[keep_open],
    )


def end(tether: subprocess.Popen[bytes]) -> None:
    """End what `tether` holds, the whole group, and wait until it has ended."""
    if tether.stdin is not None:
        tether.stdin.close()
    try:
        tether.wait(3 * GRACE_S)
    except subprocess.TimeoutExpired:
        tether.kill()
        tether.wait()


def main(command: Sequence[str]) -> int:
    held = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_owner, args=[held.pid], daemon=True).start()
    code = held.wait()
    # The group's leader is gone; what it left running has nobody else who would end it.
    _end_rest(held.pid)
    return code if code >= 0 else 128 - code


def _end_with_owner(group: int) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _signal(group, signal.SIGTERM)
    time.sleep(GRACE_S)
    # We are still here, so the leader is as well.
    _signal(group, signal.SIGKILL)


def _end_rest(group: int) -> None:
    deadline = time.monotonic() + 0.3
    # Bounded, because in a container nobody may reap what is dead.
    while _signal(group, signal.SIGKILL) and time.monotonic() < deadline:
        time.sleep(0.02)


def _signal(group: int, number: signal.Signals) -> bool:
    # PermissionError: macOS, when all that is left of the group is dead and not yet reaped.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
