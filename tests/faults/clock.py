"""Time that the driver moves: one world's clock, and how far each execution environment has fallen behind it.

A file of numbers, shared by the processes. Nobody waits: who sleeps moves its own lateness.
"""

import mmap
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The world's time, then two numbers for each environment.
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
        return Clock(self.numbers, 1 + 2 * environment)


class Clock:
    """One execution environment's clock, as both its process and the driver see it."""

    def __init__(self, numbers: Any, slot: int) -> None:
        self._numbers = numbers
        self._late, self._before = slot, slot + 1

    @property
    def late_s(self) -> float:
        """How far the present invocation has fallen behind the world."""
        return float(self._numbers[self._late])

    def start_invocation(self) -> None:
        """Be on time again. What was slept before still counts as passed: a monotonic clock never goes back."""
        self._numbers[self._before] += self._numbers[self._late]
        self._numbers[self._late] = 0.0

    def fall_behind(self, seconds: float) -> None:
        self._numbers[self._late] += seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._numbers[0] + self._numbers[self._late], UTC)

    def monotonic(self) -> float:
        return float(self._numbers[0] + self._numbers[self._late] + self._numbers[self._before])

    def sleep(self, seconds: float) -> None:
        self.fall_behind(seconds)
        _really_sleep(min(seconds, _NAP_S))


# Kept, because a simulated environment replaces time.sleep.
_really_sleep = time.sleep
