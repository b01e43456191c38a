"""A tether for a command: the command and its child processes end when the owner ends, even by `kill -9`.

    owner ──(pipe to stdin)── tether ── the command and its children, in their own process group

The owner has the only writing end of the pipe. So end of file means that the owner closed it or ended. A bare Python
runs this file, so it imports only the standard library.
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

# The emulator ends within 0.2 s. A process that needs longer than this is killed: it has no state to save.
GRACE_S = 3.0


def start(
    command: Sequence[str | Path], environment: Mapping[str, str], directory: Path, log: IO[bytes], keep_open: int
) -> subprocess.Popen[bytes]:
    """Start `command` in `directory` on a tether, with its output in `log`. Ctrl-C in a terminal does not reach it.

    `keep_open` is the file descriptor of a lock. Only the tether inherits it, and the tether ends after the command and
    its children. So the lock stays held until all of them have ended.

    Returns: the tether, which ends together with the command and with its exit code.
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
    """End the process group of `tether`, and wait until it has ended."""
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
    # The command has ended, so only the tether can still end its children.
    _end_rest(held.pid)
    return code if code >= 0 else 128 - code


def _end_with_owner(group: int) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _signal(group, signal.SIGTERM)
    time.sleep(GRACE_S)
    # The tether is still running, so the group's leader is too.
    _signal(group, signal.SIGKILL)


def _end_rest(group: int) -> None:
    deadline = time.monotonic() + 0.3
    # The loop has a deadline, because in some containers dead processes are never reaped.
    while _signal(group, signal.SIGKILL) and time.monotonic() < deadline:
        time.sleep(0.02)


def _signal(group: int, number: signal.Signals) -> bool:
    # macOS raises PermissionError if the group has only dead processes that are not reaped yet.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
