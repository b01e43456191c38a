"""Simulated time, and processes that take turns on one thread in an order that the seed decides."""

import heapq
from collections.abc import Callable

from greenlet import getcurrent, greenlet


class Scheduler:
    """Runs processes until each of them has ended. A process gives up its turn only where it sleeps."""

    def __init__(self, starts_at_s: float) -> None:
        self.now_s = starts_at_s
        """Seconds since 1970. Time passes only while all processes sleep."""
        self._hub = getcurrent()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._number = 0
        self._moment = 0

    def moment(self) -> int:
        """A number greater than all before. It orders events at the same time."""
        self._moment += 1
        return self._moment

    def at(self, at_s: float, action: Callable[[], object]) -> None:
        """Run `action` at this time, or now if the time has passed.

        Actions of the same time run in the order of these calls. The action must not sleep.
        """
        self._number += 1
        heapq.heappush(self._due, (at_s, self._number, action))

    def start(self, process: Callable[[], object], at_s: float | None = None) -> None:
        """Start a process at this time, or now."""
        self.at(self.now_s if at_s is None else at_s, greenlet(process, self._hub).switch)

    def sleep(self, seconds: float) -> None:
        """Let time pass for the calling process."""
        self.at(self.now_s + seconds, getcurrent().switch)
        self._hub.switch()

    def run(self) -> None:
        """Run all processes and actions until none is left.

        Raises: any exception that a process does not catch.
        """
        due = self._due
        while due:
            at_s, _, action = heapq.heappop(due)
            if at_s > self.now_s:
                self.now_s = at_s
            action()
