"""One stack per directory: a lock that the kernel releases when its last holder ends, even after `kill -9`."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Locked(Exception):
    """Another process holds the lock. The message is that process's id, if known."""


@contextmanager
def held(path: Path, wait_s: float, say_waiting: Callable[[], None]) -> Iterator[int]:
    """Hold the lock `path`, and write this process's id to it.

    Waits up to `wait_s`, because the processes of a killed run can release the lock later. The lock file stays, because
    its removal would be a race.

    Yields: the file descriptor. A process that inherits it holds the lock as well.
    Raises:
        Locked: another process held the lock for `wait_s`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, wait_s, say_waiting)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, wait_s: float, say_waiting: Callable[[], None]) -> None:
    if _is_acquired(descriptor):
        return
    say_waiting()
    deadline = time.monotonic() + wait_s
    while not _is_acquired(descriptor):
        if time.monotonic() >= deadline:
            raise Locked(os.pread(descriptor, 32, 0).decode() or "(unknown id)")
        time.sleep(0.1)


def _is_acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
