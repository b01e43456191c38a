"""Simulated time that the driver moves: one shared clock, and two clocks of each execution environment.

    wall clock   the shared time, plus the lateness of the invocation, plus a constant skew
    monotonic    the same without the skew; it may stop while the environment is frozen between invocations

All processes share the numbers through a file. No process really waits. A sleep only increases the lateness of its own
environment.
"""

import mmap
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The shared time, then five numbers for each environment. Only one process changes a number while it works.
_SLOTS = 256
_OF_EACH = 5
# The real time of a sleep, so that the thread or process it waits for can run.
_NAP_S = 0.001


class SharedClock:
    """The shared time, in seconds since 1970, and the lateness of all environments, in a file."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * _SLOTS))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8 * _SLOTS)
        # Any, because the type checker only knows memoryviews of integers.
        self.numbers: Any = memoryview(self._shared).cast("d")

    @property
    def at_s(self) -> float:
        return float(self.numbers[0])

    @at_s.setter
    def at_s(self, at_s: float) -> None:
        self.numbers[0] = at_s

    def clock(self, environment: int) -> "Clock":
        """The clock of the environment with this number, counted from 0."""
        return Clock(self.numbers, 1 + _OF_EACH * environment)


class Clock:
    """The clocks of one execution environment, for both its process and the driver.

    They are safe to use from threads. Sleeps of several threads add up, as if one thread slept after the other.
    """

    def __init__(self, numbers: Any, slot: int) -> None:
        self._numbers = numbers
        self._delayed, self._slept, self._before, self._frozen, self._skew = range(slot, slot + _OF_EACH)
        self._lock = threading.Lock()
        self._awake_in_between = 1.0
        self._left_at_s: float | None = None

    def set_apart(self, skew_s: float, awake_in_between: float) -> None:
        """Set the skew of the wall clock and the behaviour of the monotonic clock.

        `awake_in_between` is the share of the time between invocations that the monotonic clock counts.
        """
        self._numbers[self._skew] = skew_s
        self._awake_in_between = awake_in_between

    @property
    def late_s(self) -> float:
        """How far the current invocation is behind the shared time: the seconds that it was delayed and slept."""
        return float(self._numbers[self._delayed] + self._numbers[self._slept])

    def start_invocation(self) -> None:
        """Thaw the environment and reset its lateness to 0.

        The monotonic clock keeps the earlier lateness, because it never goes back.
        """
        if self._left_at_s is not None:
            idle_s = self._numbers[0] - self._left_at_s
            self._numbers[self._frozen] += idle_s * (1.0 - self._awake_in_between)
        self._numbers[self._before] += self.late_s
        self._numbers[self._delayed] = self._numbers[self._slept] = 0.0

    def end_invocation(self) -> None:
        """Freeze the environment until its next invocation starts."""
        self._left_at_s = self._numbers[0]

    def fall_behind(self, seconds: float) -> None:
        """Delay the environment by `seconds`; called by the driver for a slow call."""
        self._add(self._delayed, seconds)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._numbers[0] + self.late_s + self._numbers[self._skew], UTC)

    def monotonic(self) -> float:
        return float(self._numbers[0] + self.late_s + self._numbers[self._before] - self._numbers[self._frozen])

    def sleep(self, seconds: float) -> None:
        """Advance the environment's clocks by `seconds`; called by the function itself."""
        self._add(self._slept, seconds)
        _really_sleep(min(seconds, _NAP_S))

    def _add(self, slot: int, seconds: float) -> None:
        with self._lock:
            self._numbers[slot] += seconds


# Kept, because a simulated environment replaces time.sleep.
_really_sleep = time.sleep
