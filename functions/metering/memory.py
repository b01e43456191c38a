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


class Clocks(NamedTuple):
    """The two clocks of an execution environment: `now` is aware, `monotonic` in seconds."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]

    def moment(self) -> Moment:
        """The present moment. Take it before a read: the answer is as old as the question."""
        return Moment(self.now(), self.monotonic())

    def seconds_since(self, moment: Moment) -> float:
        """How long ago `moment` was, by the clock that says longest; infinite if the wall clock was set back."""
        wall_s = (self.now() - moment.wall).total_seconds()
        return math.inf if wall_s < 0 else max(wall_s, self.monotonic() - moment.monotonic_s)
