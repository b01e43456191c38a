"""Operators and other services. Both retry each action until it succeeds."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.faults.clock import SharedClock
from tests.faults.environment import OPERATOR, SUBSCRIPTIONS, Died, Environment
from tests.faults.evidence import Done
from tests.faults.workload import UNTIL_ANSWERED, Action, EventSent


class Others:
    """Runs the actions of operators and other services, each on a free environment."""

    def __init__(self, environments: Sequence[Environment], shared_clock: SharedClock) -> None:
        self._shared_clock = shared_clock
        self._idle: dict[str, queue.Queue[Environment]] = {OPERATOR: queue.Queue(), SUBSCRIPTIONS: queue.Queue()}
        for environment in environments:
            self._idle[environment.function].put(environment)
        self._lock = threading.Lock()
        self.log: list[Done] = []
        self.given_up: list[str] = []
        """Actions that never succeeded."""

    @contextmanager
    def logged(self, action: Action) -> Iterator[None]:
        """Log the block as this action. No other work may run at the same time."""
        began = time.monotonic_ns()
        yield
        self.log.append(Done(action, began, time.monotonic_ns(), self._shared_clock.at_s, self._shared_clock.at_s))

    def do(self, action: Action) -> None:
        """Retry the action until it succeeds. An event is delivered again until the function ends without an error."""
        began, began_at_s = time.monotonic_ns(), self._shared_clock.at_s
        latest_s = 0.0
        for number in range(UNTIL_ANSWERED):
            done, late_s = self._try(action, number)
            latest_s = max(latest_s, late_s)
            if done:
                break
        else:
            self.given_up.append(f"action {action.id}")
        ended_at_s = self._shared_clock.at_s + latest_s
        with self._lock:
            self.log.append(Done(action, began, time.monotonic_ns(), began_at_s, ended_at_s))

    def _try(self, action: Action, number: int) -> tuple[bool, float]:
        function, verb = (SUBSCRIPTIONS, "consume") if isinstance(action, EventSent) else (OPERATOR, "operate")
        environment = self._idle[function].get()
        try:
            done = environment.invoke(_order(action), f"{verb} {action.id}.{number}") is None
        except Died:
            done = False
        late_s = environment.clock.late_s
        self._idle[function].put(environment)
        return done, late_s


def _order(action: Action) -> dict[str, object]:
    if isinstance(action, EventSent):
        return action.event
    return {name: value for name, value in vars(action).items() if name not in ("id", "after")}
