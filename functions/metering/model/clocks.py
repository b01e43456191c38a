"""The age of cached reads, measured on two clocks.

Lambda freezes an execution environment between invocations. Its monotonic clock can then stop for hours, while the wall
clock goes on. A wall clock can be set back. So a cached read expires as soon as it is too old by either clock.
"""

import math
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple


class Moment(NamedTuple):
    """A moment on both clocks."""

    wall: datetime
    monotonic_s: float
    set_backs: int
    """How often the wall clock had been set back before this moment."""


class Clocks:
    """The clocks of an execution environment. `now` returns an aware datetime, `monotonic` returns seconds."""

    def __init__(self, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self.now = now
        self.monotonic = monotonic
        self._latest: datetime | None = None
        self._set_backs = 0

    def moment(self) -> Moment:
        """Return the present moment. Call it before a read, because the data can be as old as the request for it."""
        wall = self.now()
        if self._latest is not None and wall < self._latest:
            self._set_backs += 1
        self._latest = wall
        return Moment(wall, self.monotonic(), self._set_backs)

    def seconds_since(self, moment: Moment) -> float:
        """Return the greater age of `moment` by the two clocks; infinite if the wall clock was set back since."""
        present = self.moment()
        if present.set_backs != moment.set_backs:
            return math.inf
        return max((present.wall - moment.wall).total_seconds(), present.monotonic_s - moment.monotonic_s)
