"""How long one request may go on trying, and how it waits between tries."""

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

# An item is held for about 6 ms by a transaction, so the first wait may already be enough; a throttled partition
# needs seconds, hence the doubling up to a second.
_FIRST_WAIT_S = 0.02
_LONGEST_WAIT_S = 1.0


def wait_s(attempt: int, random: Random) -> float:
    """How long to wait before the next try, with full jitter: a random part of a span that doubles with each `attempt`.

    `attempt` is 0 after the first try.
    """
    return random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt, 16)))


@dataclass
class RetryBudget:
    """One request's tries: shared by all its calls, so that their sum is bounded, and counted for the metrics."""

    deadline_s: float
    """The moment, on `monotonic`'s clock, after which no further call may start."""
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Random
    retries: int = 0
    conflicts: int = 0

    def check(self) -> None:
        """Let a further call start.

        Raises:
            Unavailable: it could end only after the deadline.
        """
        if self.monotonic() > self.deadline_s:
            raise Unavailable(retry_after_s=1)

    def back_off(self, attempt: int) -> None:
        """Wait before the next try, as `wait_s` says.

        Raises:
            Unavailable: the wait would end after the deadline.
        """
        wait = wait_s(attempt, self.random)
        if self.monotonic() + wait > self.deadline_s:
            raise Unavailable(retry_after_s=math.ceil(_LONGEST_WAIT_S))
        self.sleep(wait)
        self.retries += 1


def until_answered(call: Callable[[], T], budget: RetryBudget) -> T:
    """What `call` returns, called again for as long as the store is busy.

    Raises:
        Unavailable: the deadline came first.
    """
    for attempt in itertools.count():
        budget.check()
        try:
            return call()
        except StoreBusy:
            budget.back_off(attempt)
    raise AssertionError("itertools.count() ended")


def until_free(subjects: Sequence[T], ask: Callable[[Sequence[T]], Sequence[T]], budget: RetryBudget) -> None:
    """Call `ask` until it has been answered for all subjects.

    It returns those that another transaction holds, and has then done nothing for the others either. These are asked
    for again at once, and the busy ones after a wait: one busy item holds up nobody else.

    Raises:
        Unavailable: the deadline came first.
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
