"""Time that the driver moves: one world's clock, and how far each execution environment has fallen behind it.

A file of numbers, shared by the processes. Nobody waits: who sleeps moves its own lateness.
"""

import mmap
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The world's time, then three numbers for each environment, each of which one process alone changes while it works.
_SLOTS = 256
# What a sleep really takes, so that whoever is waited for gets on.
_NAP_S = 0.001


class World:
    """The world's time, in seconds since 1970, and all environments' lateness, in a file that processes share."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * _SLOTS))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8 * _SLOTS)
        # Any: the type checker knows memoryviews of integers only.
        self.numbers: Any = memoryview(self._shared).cast("d")

    @property
    def at_s(self) -> float:
        return float(self.numbers[0])

    @at_s.setter
    def at_s(self, at_s: float) -> None:
        self.numbers[0] = at_s

    def clock(self, environment: int) -> "Clock":
        """The clock of the environment with this number, from 0."""
        return Clock(self.numbers, 1 + 3 * environment)


class Clock:
    """One execution environment's clock, as both its process and the driver see it.

    Threads may use it: what they sleep adds up, as if one slept after the other.
    """

    def __init__(self, numbers: Any, slot: int) -> None:
        self._numbers = numbers
        self._delayed, self._slept, self._before = slot, slot + 1, slot + 2
        self._lock = threading.Lock()

    @property
    def late_s(self) -> float:
        """How far the present invocation has fallen behind the world."""
        return float(self._numbers[self._delayed] + self._numbers[self._slept])

    def start_invocation(self) -> None:
        """Be on time again. What was slept before still counts as passed: a monotonic clock never goes back."""
        self._numbers[self._before] += self.late_s
        self._numbers[self._delayed] = self._numbers[self._slept] = 0.0

    def fall_behind(self, seconds: float) -> None:
        """Let the environment's calls take so long; the driver's."""
        self._add(self._delayed, seconds)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._numbers[0] + self.late_s, UTC)

    def monotonic(self) -> float:
        return float(self._numbers[0] + self.late_s + self._numbers[self._before])

    def sleep(self, seconds: float) -> None:
        """The environment's own."""
        self._add(self._slept, seconds)
        _really_sleep(min(seconds, _NAP_S))

    def _add(self, slot: int, seconds: float) -> None:
        with self._lock:
            self._numbers[slot] += seconds


# Kept, because a simulated environment replaces time.sleep.
_really_sleep = time.sleep
