"""How long an environment may go by what it has read.

Lambda freezes an environment between invocations: its monotonic clock may then stand still for hours while the wall
clock goes on. A wall clock may be set back. So a memory ends by the clock that says so first.
"""

import math
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple


class Moment(NamedTuple):
    """One moment on both clocks."""

    wall: datetime
    monotonic_s: float
    set_backs: int
    """How often the wall clock had been set back by then."""


class Clocks:
    """The two clocks of an execution environment: `now` is aware, `monotonic` in seconds."""

    def __init__(self, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self.now = now
        self.monotonic = monotonic
        self._latest: datetime | None = None
        self._set_backs = 0

    def moment(self) -> Moment:
        """The present moment. Take it before a read: the answer is as old as the question."""
        wall = self.now()
        if self._latest is not None and wall < self._latest:
            self._set_backs += 1
        self._latest = wall
        return Moment(wall, self.monotonic(), self._set_backs)

    def seconds_since(self, moment: Moment) -> float:
        """How long ago `moment` was, by the clock that says longest; infinite if the wall clock was set back since."""
        present = self.moment()
        if present.set_backs != moment.set_backs:
            return math.inf
        return max((present.wall - moment.wall).total_seconds(), present.monotonic_s - moment.monotonic_s)
