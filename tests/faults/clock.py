"""Time that the driver moves: one world's clock, and each execution environment's two beside it.

    wall clock   the world's time, what the invocation has slept, and a skew that never changes
    monotonic    the same without the skew; it may stand still while the environment is frozen between invocations

A file of numbers, shared by the processes. Nobody waits: who sleeps moves its own lateness.
"""

import mmap
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The world's time, then five numbers for each environment, each of which one process alone changes while it works.
_SLOTS = 256
_OF_EACH = 5
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
        return Clock(self.numbers, 1 + _OF_EACH * environment)


class Clock:
    """One execution environment's clock, as both its process and the driver see it.

    Threads may use it: what they sleep adds up, as if one slept after the other.
    """

    def __init__(self, numbers: Any, slot: int) -> None:
        self._numbers = numbers
        self._delayed, self._slept, self._before, self._frozen, self._skew = range(slot, slot + _OF_EACH)
        self._lock = threading.Lock()
        self._awake_in_between = 1.0
        self._left_at_s: float | None = None

    def set_apart(self, skew_s: float, awake_in_between: float) -> None:
        """Set the wall clock so far off the world's time; how much of the time between invocations monotonic counts."""
        self._numbers[self._skew] = skew_s
        self._awake_in_between = awake_in_between

    @property
    def late_s(self) -> float:
        """How far the present invocation has fallen behind the world."""
        return float(self._numbers[self._delayed] + self._numbers[self._slept])

    def start_invocation(self) -> None:
        """Thaw, and be on time again. What was slept still counts as passed: a monotonic clock never goes back."""
        if self._left_at_s is not None:
            idle_s = self._numbers[0] - self._left_at_s
            self._numbers[self._frozen] += idle_s * (1.0 - self._awake_in_between)
        self._numbers[self._before] += self.late_s
        self._numbers[self._delayed] = self._numbers[self._slept] = 0.0

    def end_invocation(self) -> None:
        """Freeze, until the next one starts."""
        self._left_at_s = self._numbers[0]

    def fall_behind(self, seconds: float) -> None:
        """Let the environment's calls take so long; the driver's."""
        self._add(self._delayed, seconds)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._numbers[0] + self.late_s + self._numbers[self._skew], UTC)

    def monotonic(self) -> float:
        return float(self._numbers[0] + self.late_s + self._numbers[self._before] - self._numbers[self._frozen])

    def sleep(self, seconds: float) -> None:
        """The environment's own."""
        self._add(self._slept, seconds)
        _really_sleep(min(seconds, _NAP_S))

    def _add(self, slot: int, seconds: float) -> None:
        with self._lock:
            self._numbers[slot] += seconds


# Kept, because a simulated environment replaces time.sleep.
_really_sleep = time.sleep
