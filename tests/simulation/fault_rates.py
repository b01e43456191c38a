"""The faults of one run and how often each occurs. A seed decides."""

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from random import Random

# The faults of a call, and how many calls of a thousand have each at ordinary rates.
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
# The largest sum of all chances: calls that cannot succeed prove nothing.
_MOST_FATES = 0.7


@dataclass(frozen=True)
class FaultRates:
    """How often each fault occurs. Chances are per call unless another measure is named."""

    fates: tuple[float, ...] = ()
    """The chance of each of FATES."""
    answers_lost: float = 0.0
    """The chance that a function's response does not reach its caller."""
    torn: float = 0.0
    """The share of transactions that become visible item by item."""
    torn_s: float = 0.02
    """The longest time until the last item is visible, if the answer was lost; 10 ms if it was not."""
    partial: float = 0.0
    """The chance that a cancelled transaction omits some of its reasons."""
    crowd: float = 0.0
    """The chance that an addition without a hard limit finds its shard held by another transaction, or throttled."""
    crowd_throttles: float = 0.5
    """The share of throttled shards among those."""
    skew_s: float = 0.0
    """The largest difference between an environment's wall clock and the simulated time."""
    steps_back: bool = False
    """Whether wall clocks may step back between invocations."""
    frozen: float = 0.0
    """The share of the time between invocations that a monotonic clock does not count."""
    most_environments: int = 2
    """The largest number of environments of the record function."""
    reuse: float = 0.8
    """The chance that a request goes to a warm environment although a new one could start."""
    index_lag_s: float = 0.0
    stream_lag_s: float = 0.2
    small_pages: bool = False
    """Whether queries that read several pages get pages of few items."""
    botocore_tries: float = 0.0
    """The chance that botocore sends a failed call once more, with the same token."""
    bus_fails: float = 0.0
    """The chance that the bus rejects an entry that it accepts later."""
    rejects_one_in: int = 0
    """The bus never accepts one event in this many; 0: it accepts all."""
    repeats: float = 0.0
    """The chance that the stream delivers finished records again."""

    def with_fates(self, chances: Mapping[str, float]) -> "FaultRates":
        """These rates with only these fates. If their chances add up to more than 0.7, all are scaled down to 0.7."""
        scale = min(1.0, _MOST_FATES / sum(chances.values())) if any(chances.values()) else 1.0
        return replace(self, fates=tuple(chances.get(fate, 0.0) * scale for fate in FATES))

    @cached_property
    def bounds(self) -> list[float]:
        """The end of each fate's share of the numbers from 0 to 1."""
        return list(accumulate(self.fates))

    def fate(self, chance: float) -> str | None:
        """The fate that this number from 0 to 1 chooses; None: no fault."""
        place = bisect(self.bounds, chance)
        return FATES[place] if place < len(self.fates) else None


CALM = FaultRates()


def drawn(random: Random) -> FaultRates:
    """Random rates: often ordinary, sometimes lower or much higher, and different for each fault."""
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
        rejects_one_in=random.choice([0, 30]),
        repeats=random.choice([0, 0.05, 0.2]),
    )
