"""Operators at work, and other services' events: both try again until it is done."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.faults.clock import World
from tests.faults.environment import OPERATOR, SUBSCRIPTIONS, Died, Environment
from tests.faults.evidence import Done
from tests.faults.workload import UNTIL_ANSWERED, Deed, EventSent


class Others:
    """Whoever else changes what the table says, on whichever environment is free."""

    def __init__(self, environments: Sequence[Environment], world: World) -> None:
        self._world = world
        self._idle: dict[str, queue.Queue[Environment]] = {OPERATOR: queue.Queue(), SUBSCRIPTIONS: queue.Queue()}
        for environment in environments:
            self._idle[environment.function].put(environment)
        self._lock = threading.Lock()
        self.log: list[Done] = []
        self.given_up: list[str] = []
        """What was tried over and over and never done."""

    @contextmanager
    def logged(self, deed: Deed) -> Iterator[None]:
        """Log that the block does this, when nobody else is at work."""
        began = time.monotonic_ns()
        yield
        self.log.append(Done(deed, began, time.monotonic_ns(), self._world.at_s, self._world.at_s))

    def do(self, deed: Deed) -> None:
        """Have it done, however often it takes: an event is delivered again until the function ends without error."""
        began, began_at_s = time.monotonic_ns(), self._world.at_s
        latest_s = 0.0
        for number in range(UNTIL_ANSWERED):
            done, late_s = self._try(deed, number)
            latest_s = max(latest_s, late_s)
            if done:
                break
        else:
            self.given_up.append(f"deed {deed.id}")
        ended_at_s = self._world.at_s + latest_s
        with self._lock:
            self.log.append(Done(deed, began, time.monotonic_ns(), began_at_s, ended_at_s))

    def _try(self, deed: Deed, number: int) -> tuple[bool, float]:
        function, verb = (SUBSCRIPTIONS, "consume") if isinstance(deed, EventSent) else (OPERATOR, "operate")
        environment = self._idle[function].get()
        try:
            done = environment.invoke(_order(deed), f"{verb} {deed.id}.{number}") is None
        except Died:
            done = False
        late_s = environment.clock.late_s
        self._idle[function].put(environment)
        return done, late_s


def _order(deed: Deed) -> dict[str, object]:
    if isinstance(deed, EventSent):
        return deed.event
    return {name: value for name, value in vars(deed).items() if name not in ("id", "after")}
