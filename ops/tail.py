"""Following a file that another process appends lines to."""

import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

# Quick enough to feel at once, and not worth mentioning in the processor's time.
_PAUSE_S = 0.05


# Longer than any line can be: EventBridge takes entries of up to 256 KB, written here with escapes.
_LONGEST_LINE = 2 * 1024 * 1024


def end_of(path: Path) -> int:
    """Where the next whole line of `path` will begin: behind the last line's end, or 0 while there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - _LONGEST_LINE))
            return start + file.read(size - start).rfind(b"\n") + 1
    except FileNotFoundError:
        return 0


def follow(
    path: Path, position: int, is_over: Callable[[], bool], pause_s: float = _PAUSE_S
) -> Generator[str, None, None]:
    """The whole lines of `path` from byte `position` on, without their ends, as they are written.

    A line without its end is still being written: it comes when it is complete. Ends when `is_over()`, after the lines
    that were there by then. The file may be removed or replaced meanwhile: what is followed is the one found first.
    """
    while not path.exists():
        if is_over():
            return
        time.sleep(pause_s)
    with path.open("rb") as file:
        file.seek(position)
        begun = b""
        while True:
            over = is_over()
            *lines, begun = (begun + file.read()).split(b"\n")
            for line in lines:
                yield line.decode()
            if over:
                return
            if not lines:
                time.sleep(pause_s)
