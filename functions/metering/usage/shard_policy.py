"""The policy that chooses the shard of a counter to add to. It reads and writes nothing.

A counter is a set of items whose sum is the total. Shards 0 to 7 are its first page; pages of eight more have partition
keys of their own. Each counter begins in shard 0. An environment that finds a shard busy, because another transaction
holds it or its partition is throttled, spreads over more of them: over 2, 4, 8 shards at once, as those cost readers
nothing, so that chance meetings bring a calm counter there, too; and over 8, 16, 32, 64 pages when a page is too little
beyond doubt.

Each execution environment has a `ShardState` for each counter that it adds to, and learns from its reads of the total
what the others have found out. A billing period's counters are its own: each period starts narrow. The numbers are
chosen by the simulation in `benchmarks/scale`.
"""

from dataclasses import dataclass, replace
from random import Random

from metering.storage.counter_items import FIRST_SHARD, MAX_PAGES, SHARDS_PER_PAGE

# A conflict outweighs four committed additions: pressure rises when more than one try in five finds its shard busy.
# Up to there, hardly one request in a hundred needs more than three tries.
_CONFLICT = 4
# Each page costs every reader of the total a query. At 200 additions a second one in seven meets another on a page's
# eight shards: chance alone then comes as far as this once in some hundred million tries.
_TOO_MUCH_FOR_ONE_PAGE = 150
# With several pages, reads are costly already and too few pages cost retries, so a lower threshold suffices.
_TOO_MUCH_FOR_SEVERAL = 60
# A throttle is no chance meeting, but one alone may have another reason than this counter.
_THROTTLES_ENOUGH = 2
# The first step is a wide one: when a counter flares up, each step costs all requests of the moment a round of tries.
_FEWEST_FURTHER_PAGES = 8

# About a second.
_MIN_CACHED_S, _MAX_CACHED_S = 0.5, 1.5


def cached_s(random: Random) -> float:
    """For how long a total that was read from several pages now may be remembered.

    Another time for each read: environments that have learned of the pages in one moment would else read them all in
    one moment ever after. While they are busy with that, others have to serve, and these read all pages, too.
    """
    return random.uniform(_MIN_CACHED_S, _MAX_CACHED_S)


@dataclass(frozen=True)
class ShardState:
    """How widely one environment spreads what it adds to one counter."""

    width: int = 1
    """The number of shards among which the next addition chooses: those from 0 on."""
    pages: int = 1
    """The number of pages that are known to be announced; nothing may be added to any other."""
    pressure: int = 0
    """What speaks for more pages: rises with busy shards, falls with committed additions.

    Of several pages only the newer half counts: the older one also takes what others add who have not heard of the
    newer one, and going by it, everybody would announce more pages while the last announcement is still spreading.
    """

    def shard(self, random: Random, busy: int | None = None) -> int:
        """The shard to add to now: any, but not the one that was `busy` at the last try, if there is a choice."""
        if self.width == 1:
            return FIRST_SHARD
        shard = random.randrange(self.width)
        while shard == busy:
            shard = random.randrange(self.width)
        return shard

    def increment_committed(self, shard: int) -> "ShardState":
        """After an addition to `shard` that went through, or would have."""
        if self.pressure == 0 or not self._counts(shard):
            return self
        return replace(self, pressure=self.pressure - 1)

    def shard_busy(self, shard: int, *, throttled: bool) -> "ShardState":
        """After one that did not: another transaction locked the shard, or its partition key is `throttled`."""
        if self.width < SHARDS_PER_PAGE:
            return replace(self, width=self.width * 2)
        if not self._counts(shard):
            return self
        return replace(self, pressure=self.pressure + (self._too_much // _THROTTLES_ENOUGH if throttled else _CONFLICT))

    @property
    def pages_wanted(self) -> int | None:
        """How many pages to announce, or to find announced by others, before the next try; None: there are enough."""
        if self.pressure < self._too_much or self.pages >= MAX_PAGES:
            return None
        return min(max(_FEWEST_FURTHER_PAGES, self.pages * 2), MAX_PAGES)

    def after_read(self, shards: int, pages: int) -> "ShardState":
        """After a read that found so many `shards` on the first page, from 0 on, and so many `pages` announced."""
        width = min(SHARDS_PER_PAGE, 1 << (max(shards, 1) - 1).bit_length()) if pages == 1 else pages * SHARDS_PER_PAGE
        return self if width <= self.width else ShardState(width, pages)

    def _counts(self, shard: int) -> bool:
        return self.pages == 1 or shard >= self.width // 2

    @property
    def _too_much(self) -> int:
        return _TOO_MUCH_FOR_ONE_PAGE if self.pages == 1 else _TOO_MUCH_FOR_SEVERAL
