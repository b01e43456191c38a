"""The world's time, and processes that take turns on one thread in an order that the seed decides."""

import heapq
from collections.abc import Callable

from greenlet import getcurrent, greenlet


class Scheduler:
    """Runs processes until each of them has ended. A process gives up its turn only where it sleeps."""

    def __init__(self, starts_at_s: float) -> None:
        self.now_s = starts_at_s
        """Seconds since 1970. It stands still while a process runs."""
        self._hub = getcurrent()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._number = 0
        self._moment = 0

    def moment(self) -> int:
        """A number greater than all before: it orders what happens at one time."""
        self._moment += 1
        return self._moment

    def at(self, at_s: float, action: Callable[[], object]) -> None:
        """Do `action` at this time, or now if that has passed. Of one time, the first that was asked for comes first.

        The action is none that sleeps.
        """
        self._number += 1
        heapq.heappush(self._due, (at_s, self._number, action))

    def start(self, process: Callable[[], object], at_s: float | None = None) -> None:
        """Begin a process at this time, or now."""
        self.at(self.now_s if at_s is None else at_s, greenlet(process, self._hub).switch)

    def sleep(self, seconds: float) -> None:
        """Let time pass for the present process."""
        self.at(self.now_s + seconds, getcurrent().switch)
        self._hub.switch()

    def run(self) -> None:
        """Return when nothing is left to do.

        Raises: what a process did not catch.
        """
        due = self._due
        while due:
            at_s, _, action = heapq.heappop(due)
            if at_s > self.now_s:
                self.now_s = at_s
            action()
