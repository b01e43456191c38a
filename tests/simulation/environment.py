"""One execution environment: its clocks, its random numbers, and its end.

The wall clock may be wrong, and may be set back between invocations. The monotonic clock may skip the time between
invocations, while Lambda freezes the environment.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.simulation.world import World
from tests.testing.service import Context


class Killed(BaseException):
    """The environment was killed. No code of a function may catch this."""


class Environment:
    """Runs one invocation after the other until it is killed."""

    def __init__(
        self,
        world: World,
        timeout_s: float,
        function: "Callable[[Environment], Callable[[Any, Any], Any]]",
        *,
        luck: float = 1.0,
    ) -> None:
        self.world = world
        self.number = world.next_environment()
        self.timeout_s = timeout_s
        self.luck = luck
        """A divisor of the fault rates: at 4.0, calls fail a quarter as often as at 1.0."""
        self.is_dead = False
        self.is_busy = False
        self.label = ""
        """The current invocation's label."""
        self.random = Random(f"{world.seed} environment {self.number}")
        """Each invocation seeds it with its label, so that no invocation depends on another."""
        self.until_s = 0.0
        """When Lambda ends the current invocation, in simulated time."""
        self.last_effect_s = 0.0
        """When the last late effect of its calls happens, in simulated time; 0: none is late."""
        self._frozen_s = 0.0
        self._idle_since_s = world.now_s
        self._skew_s = self.random.uniform(-world.rates.skew_s, world.rates.skew_s)
        self._calls = 0
        self._tokens = 0
        self._respond = function(self)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.world.scheduler.now_s + self._skew_s, UTC)

    def monotonic(self) -> float:
        return self.world.scheduler.now_s - self._frozen_s

    def sleep(self, seconds: float) -> None:
        """`wait`, as the function's own code calls it."""
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Let time pass in the current invocation.

        Raises:
            Killed: the invocation has run out of time, or one of its threads was killed meanwhile.
        """
        scheduler = self.world.scheduler
        left_s = self.until_s - scheduler.now_s
        if seconds >= left_s:
            scheduler.sleep(max(left_s, 0.0))
            if not self.is_dead:
                self.world.tally["fault: timed out"] += 1
                self.world.say(f"{self.label}: timed out")
            self.die()
        else:
            scheduler.sleep(seconds)
        if self.is_dead:
            raise Killed

    def die(self) -> None:
        self.is_dead = True

    def next_call(self, operation: str) -> str:
        """The label of the call that starts now.

        Raises:
            Killed: the environment was killed.
        """
        if self.is_dead:
            raise Killed
        self._calls += 1
        return f"{self.label}/{self._calls} {operation}"

    def next_token(self) -> str:
        self._tokens += 1
        return f"{self.number}.{self._tokens}"

    def invoke(self, event: Any, label: str) -> Any:
        """Run one invocation.

        Returns: the function's answer; None if the environment was killed.
        Raises: as the function does.
        """
        self._thaw()
        self.label = label
        self.random.seed(f"{self.world.seed} {label}")
        self._calls = 0
        self.until_s = self.world.now_s + self.timeout_s
        self.last_effect_s = 0.0
        self.is_busy = True
        try:
            return self._respond(event, Context(self, self.timeout_s))
        except Killed:
            self.is_dead = True
            return None
        finally:
            self.is_busy = False
            self._idle_since_s = self.world.now_s

    def _thaw(self) -> None:
        rates, idle_s = self.world.rates, self.world.now_s - self._idle_since_s
        self._frozen_s += rates.frozen * idle_s
        if rates.steps_back and self._skew_s > 0 and self.random.random() < 0.2:
            self._skew_s = self.random.uniform(max(-rates.skew_s, self._skew_s - 2), self._skew_s)
