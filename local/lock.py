"""One stack per directory: a lock that ends with its last holder, however that ended."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Locked(Exception):
    """Somebody else holds the lock; the message is their process id, if known."""


@contextmanager
def held(path: Path, wait_s: float, say_waiting: Callable[[], None]) -> Iterator[int]:
    """Hold the lock `path`, which says by whom.

    A run that was just killed may take `wait_s` to let go of it. The file stays: removing it would race.

    Yields: the file descriptor. Whoever inherits it holds the lock too.
    Raises:
        Locked: it was not to be had.
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
            raise Locked(os.pread(descriptor, 32, 0).decode() or "of unknown number")
        time.sleep(0.1)


def _is_acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
