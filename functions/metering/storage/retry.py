"""The retry budget: the time for all tries of one request, and the waits between them."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TypeVar

from metering.model.errors import Unavailable
from metering.storage.signals import StoreBusy

T = TypeVar("T")

# A transaction holds an item for about 6 ms, so the first wait is often enough. A throttled partition needs seconds, so
# the waits double up to a second.
_FIRST_WAIT_S = 0.02
_LONGEST_WAIT_S = 1.0


def wait_s(attempt: int, random: Random) -> float:
    """Return the wait before the next try, with full jitter: a random part of a span.

    The span doubles with each `attempt`, up to a second. `attempt` is 0 after the first try.
    """
    return random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt, 16)))


@dataclass
class RetryBudget:
    """The retry budget of one request. All its calls share it, and its counts go to the metrics."""

    deadline_s: float
    """The moment on `monotonic`'s clock after which no further call starts."""
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Random
    retries: int = 0
    conflicts: int = 0

    def check(self) -> None:
        """Check that a further call is allowed to start.

        Raises:
            Unavailable: the deadline has passed.
        """
        if self.monotonic() > self.deadline_s:
            raise Unavailable(retry_after_s=1)

    def back_off(self, attempt: int) -> None:
        """Wait before the next try, for the time that `wait_s` returns.

        Raises:
            Unavailable: the wait would end after the deadline.
        """
        wait = wait_s(attempt, self.random)
        if self.monotonic() + wait > self.deadline_s:
            raise Unavailable(retry_after_s=math.ceil(_LONGEST_WAIT_S))
        self.sleep(wait)
        self.retries += 1


def until_answered(call: Callable[[], T], budget: RetryBudget) -> T:
    """Call again until the store is not busy, and return the result.

    Raises:
        Unavailable: the deadline passed before the store answered.
    """
    for attempt in itertools.count():
        budget.check()
        try:
            return call()
        except StoreBusy:
            budget.back_off(attempt)
    raise AssertionError("itertools.count() ended")


def until_free(subjects: Sequence[T], ask: Callable[[Sequence[T]], Sequence[T]], budget: RetryBudget) -> None:
    """Call `ask` until it has succeeded for all subjects.

    `ask` returns the subjects that another transaction holds. If there are any, `ask` has done nothing for the other
    subjects either. `ask` is called again for the others immediately, and for the busy subjects after a wait. So a busy
    subject delays no other.

    Raises:
        Unavailable: the deadline passed before `ask` succeeded for all subjects.
    """
    left, busy = list(subjects), list[T]()
    for attempt in itertools.count():
        while left:
            more = until_answered(partial(ask, left), budget)
            busy += more
            left = [subject for subject in left if subject not in more] if more else []
        if not busy:
            return
        budget.back_off(attempt)
        left, busy = busy, []
