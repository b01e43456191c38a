"""What can go wrong in one run, and how often. A seed decides."""

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from random import Random

# What may become of one call, and how often of a thousand, in ordinary rates.
_FATES = {
    "killed before": 5,
    "killed after": 4,
    "killed, late": 2,
    "not sent": 40,
    "throttled": 25,
    "server error": 5,
    "server error after": 5,
    "answer lost": 45,
    "late": 45,
    "slow": 20,
    "conflict": 50,
    "item throttled": 30,
}
FATES = tuple(_FATES)
# Calls that cannot succeed prove nothing.
_MOST_FATES = 0.7


@dataclass(frozen=True)
class FaultRates:
    """How unkind the world is. Chances are per call unless another measure is named."""

    fates: tuple[float, ...] = ()
    """The chance of each of FATES."""
    answers_lost: float = 0.0
    """The chance that a function answers and its caller hears nothing."""
    torn: float = 0.0
    """The share of transactions that become visible item by item."""
    torn_s: float = 0.02
    """How long that may take when the answer was lost; at most 10 ms when it was not."""
    partial: float = 0.0
    """The chance that a cancelled transaction leaves reasons out although they hold."""
    crowd: float = 0.0
    """The chance that an addition without a hard limit finds its shard held by others, or throttled."""
    crowd_throttles: float = 0.5
    """The share of throttles in that."""
    skew_s: float = 0.0
    """How far an environment's wall clock may be from the world's."""
    steps_back: bool = False
    """Whether wall clocks may step back between invocations."""
    frozen: float = 0.0
    """The share of the time between invocations that a monotonic clock does not count."""
    most_environments: int = 2
    """Of the record function."""
    reuse: float = 0.8
    """How often a request goes to a warm environment although one more could be started."""
    index_lag_s: float = 0.0
    stream_lag_s: float = 0.2
    small_pages: bool = False
    """Whether queries that read on after a page get pages of few items."""
    botocore_tries: float = 0.0
    """The chance that a failed call is sent once more inside the call, with the same token."""
    bus_fails: float = 0.0
    """The chance of each entry to be refused for now."""
    spoilt_in: int = 0
    """One event in so many is never taken by the bus; 0: none."""
    repeats: float = 0.0
    """The chance that the stream delivers again what was done."""

    def with_fates(self, chances: Mapping[str, float]) -> "FaultRates":
        """The same with these fates and no others; what comes to more than is likely to end is scaled down."""
        scale = min(1.0, _MOST_FATES / sum(chances.values())) if any(chances.values()) else 1.0
        return replace(self, fates=tuple(chances.get(fate, 0.0) * scale for fate in FATES))

    @cached_property
    def bounds(self) -> list[float]:
        """Where each fate's share of the numbers from 0 to 1 ends."""
        return list(accumulate(self.fates))

    def fate(self, chance: float) -> str | None:
        """The fate that this number from 0 to 1 stands for; None: nothing goes wrong."""
        place = bisect(self.bounds, chance)
        return FATES[place] if place < len(self.fates) else None


CALM = FaultRates()


def drawn(random: Random) -> FaultRates:
    """Some rates: often ordinary, at times quiet or much worse, and never all of it alike."""
    harshness = random.choice([0, 0.3, 1, 1, 2, 3])
    often = {fate: share / 1000 * harshness * random.choice([0, 1, 1, 2]) for fate, share in _FATES.items()}
    return replace(
        CALM.with_fates(often),
        answers_lost=random.choice([0, 0.03]),
        torn=random.choice([0, 0.3, 0.8, 1]),
        torn_s=random.choice([0.003, 0.02, 0.2, 2]),
        skew_s=random.choice([0, 0, 0.3, 2]),
        steps_back=random.random() < 0.3,
        frozen=random.choice([0, 0, 0.5, 1]),
        most_environments=random.choice([1, 2, 3, 4]),
        reuse=random.choice([0.3, 0.8, 0.8]),
        index_lag_s=random.choice([0, 0.1, 5]),
        stream_lag_s=random.choice([0.1, 2, 20]),
        small_pages=random.random() < 0.3,
        botocore_tries=random.choice([0, 0.5]),
        bus_fails=random.choice([0, 0.05, 0.6]),
        spoilt_in=random.choice([0, 30]),
        repeats=random.choice([0, 0.05, 0.2]),
    )
