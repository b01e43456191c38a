"""The policy that chooses the shard of a counter to add to. It does no I/O.

A counter's total is the sum of its shards. Shards 0 to 7 are the first page. Each further page has 8 more shards and
its own partition key. Each counter starts in shard 0, and an environment adds to more shards when it finds them busy:

- 2, 4, then 8 shards: after every busy shard, because more shards on one page cost a reader nothing. Chance conflicts
  bring even a calm counter to 8 shards.
- 8, 16, 32, then 64 pages: only on strong evidence that a page is too little, because each page costs readers a query.

Each execution environment has a `ShardState` for each counter that it adds to. Its reads of the total show the shards
and pages that other environments use. Each billing period has its own counters, so each period starts with one shard.
The simulation in `benchmarks/scale` determined the numbers.
"""

from dataclasses import dataclass, replace
from random import Random

from metering.storage.counter_items import FIRST_SHARD, MAX_PAGES, SHARDS_PER_PAGE

# A conflict outweighs four committed additions, so pressure rises when more than one try in five finds its shard busy.
# Below that rate, fewer than one request in a hundred needs more than three tries.
_CONFLICT = 4
# Each page costs every reader of the total a query. At 200 additions a second, one in seven meets another on a page's
# 8 shards. Chance alone then brings the pressure this high once in some hundred million tries.
_TOO_MUCH_FOR_ONE_PAGE = 150
# With several pages, reads are costly already, and too few pages cost retries. So the threshold is lower.
_TOO_MUCH_FOR_SEVERAL = 60
# A throttle does not happen by chance, but another counter may have caused a single one. So two are enough.
_THROTTLES_ENOUGH = 2
# The first step is wide, because each step costs all requests at that moment a round of tries.
_FEWEST_FURTHER_PAGES = 8

# About a second on average.
_MIN_CACHED_S, _MAX_CACHED_S = 0.5, 1.5


def cached_s(random: Random) -> float:
    """How long to cache a total that was read from several pages, in seconds.

    The time is random for each read. Otherwise environments that learned of the pages at the same moment would always
    read all pages at the same moment. While they read, requests go to other environments, which then read all pages,
    too.
    """
    return random.uniform(_MIN_CACHED_S, _MAX_CACHED_S)


@dataclass(frozen=True)
class ShardState:
    """The shards and pages of one counter that one environment chooses among."""

    width: int = 1
    """The number of shards that the next addition chooses among, from shard 0."""
    pages: int = 1
    """The number of pages known to be announced. Additions to other pages are not allowed."""
    pressure: int = 0
    """The evidence for more pages. Busy shards raise it, and committed additions lower it.

    With several pages, only the newer half of the shards counts. Environments that do not know the new pages yet still
    add to the older half. If that half counted, all environments would announce more pages while the last announcement
    is still spreading.
    """

    def shard(self, random: Random, busy: int | None = None) -> int:
        """Choose a random shard to add to, but not the one that was `busy` at the last try if there is a choice."""
        if self.width == 1:
            return FIRST_SHARD
        shard = random.randrange(self.width)
        while shard == busy:
            shard = random.randrange(self.width)
        return shard

    def increment_committed(self, shard: int) -> "ShardState":
        """The state after an addition to `shard` that was committed, or that met a free shard."""
        if self.pressure == 0 or not self._counts(shard):
            return self
        return replace(self, pressure=self.pressure - 1)

    def shard_busy(self, shard: int, *, throttled: bool) -> "ShardState":
        """The state after `shard` was busy: its partition was `throttled`, or else another transaction held it."""
        if self.width < SHARDS_PER_PAGE:
            return replace(self, width=self.width * 2)
        if not self._counts(shard):
            return self
        return replace(self, pressure=self.pressure + (self._too_much // _THROTTLES_ENOUGH if throttled else _CONFLICT))

    @property
    def pages_wanted(self) -> int | None:
        """The number of pages to announce, or to find announced, before the next try. None: there are enough."""
        if self.pressure < self._too_much or self.pages >= MAX_PAGES:
            return None
        return min(max(_FEWEST_FURTHER_PAGES, self.pages * 2), MAX_PAGES)

    def after_read(self, shards: int, pages: int) -> "ShardState":
        """The state after a read that found shards 0 to `shards` - 1 on the first page, and `pages` announced."""
        width = min(SHARDS_PER_PAGE, 1 << (max(shards, 1) - 1).bit_length()) if pages == 1 else pages * SHARDS_PER_PAGE
        return self if width <= self.width else ShardState(width, pages)

    def _counts(self, shard: int) -> bool:
        return self.pages == 1 or shard >= self.width // 2

    @property
    def _too_much(self) -> int:
        return _TOO_MUCH_FOR_ONE_PAGE if self.pages == 1 else _TOO_MUCH_FOR_SEVERAL
