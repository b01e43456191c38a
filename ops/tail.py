"""Follow a file to which another process appends lines."""

import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

# Short enough to feel immediate, and long enough to use hardly any CPU time.
_PAUSE_S = 0.05


# Longer than any line: an EventBridge entry has up to 256 KB, and escapes make it longer here.
_LONGEST_LINE = 2 * 1024 * 1024


def end_of(path: Path) -> int:
    """The byte after the last complete line of `path`, or 0 without a complete line."""
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
    """Yield each complete line of `path` from byte `position` on, without its line end, as soon as it is written.

    Waits for the file, and for the end of an incomplete line. Ends when `is_over()` is true, after all lines written by
    then. Keeps following the first file that it found, even if that file is removed or replaced.
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
