"""The policy that chooses a counter's shard for an addition. It does no I/O.

A counter's total is the sum of its shards. Shards 0 to 7 are the first page. Each further page has 8 more shards and
its own partition key. Each counter starts in shard 0. An execution environment uses more shards when it finds shards
busy:

- 2, 4, then 8 shards: after every busy shard, because more shards on one page cost a reader nothing. Chance conflicts
  bring even a quiet counter to 8 shards.
- 8, 16, 32, then 64 pages: only on strong evidence that there are too few pages, because each page costs readers a
  query.

Each execution environment has a `ShardState` for each counter that it adds to. Reads of the total show the shards and
pages that other execution environments use. Each billing period has its own counters, so each period starts with one
shard. The simulation in `benchmarks/scale` determined the numbers.
"""

from dataclasses import dataclass, replace
from random import Random

from metering.storage.counter_items import FIRST_SHARD, MAX_PAGES, SHARDS_PER_PAGE

# A conflict outweighs four committed additions, so pressure rises when more than one try in five finds its shard busy.
# Below that rate, fewer than one request in a hundred needs more than three tries.
_CONFLICT = 4
# Each page costs every reader of the total a query. At 200 additions a second on a page's 8 shards, one in seven finds
# its shard busy. Chance alone then raises the pressure to this number once in some hundred million tries.
_TOO_MUCH_FOR_ONE_PAGE = 150
# With several pages, reads are already costly, and too few pages cost retries. So a lower pressure is enough.
_TOO_MUCH_FOR_SEVERAL = 60
# DynamoDB does not throttle by chance, but another counter can cause a single throttle. So two throttles are enough.
_THROTTLES_ENOUGH = 2
# The first step is large, because each step costs all requests at that moment another try.
_FEWEST_FURTHER_PAGES = 8

# About a second on average.
_MIN_CACHED_S, _MAX_CACHED_S = 0.5, 1.5


def cached_s(random: Random) -> float:
    """Return how long to cache a total that was read from several pages, in seconds.

    The time is random for each read. Execution environments can learn of the pages at the same moment. With equal times
    they would then always read all pages at the same moment. During these reads, requests go to other execution
    environments, which then also read all pages.
    """
    return random.uniform(_MIN_CACHED_S, _MAX_CACHED_S)


@dataclass(frozen=True)
class ShardState:
    """The shards and pages of one counter that one execution environment chooses among."""

    width: int = 1
    """The number of shards that the next addition chooses among, from shard 0."""
    pages: int = 1
    """The number of pages that are known to be announced. Additions to other pages are not allowed."""
    pressure: int = 0
    """The evidence for more pages. Busy shards raise it, and committed additions lower it.

    With several pages, only the newer half of the shards counts. Execution environments that do not know the new pages
    yet still add to the older half. If the older half counted, all of them would announce more pages before the last
    announcement has reached each of them.
    """

    def shard(self, random: Random, busy: int | None = None) -> int:
        """Choose a random shard to add to. Avoid the shard that was `busy` at the last try if there is another."""
        if self.width == 1:
            return FIRST_SHARD
        shard = random.randrange(self.width)
        while shard == busy:
            shard = random.randrange(self.width)
        return shard

    def increment_committed(self, shard: int) -> "ShardState":
        """Return the state after an addition to `shard` that was committed, or that found the shard not busy."""
        if self.pressure == 0 or not self._counts(shard):
            return self
        return replace(self, pressure=self.pressure - 1)

    def shard_busy(self, shard: int, *, throttled: bool) -> "ShardState":
        """Return the state after `shard` was busy.

        `throttled`: DynamoDB throttled its partition. Otherwise another transaction held the shard.
        """
        if self.width < SHARDS_PER_PAGE:
            return replace(self, width=self.width * 2)
        if not self._counts(shard):
            return self
        return replace(self, pressure=self.pressure + (self._too_much // _THROTTLES_ENOUGH if throttled else _CONFLICT))

    @property
    def pages_wanted(self) -> int | None:
        """The number of pages that must be announced before the next try. None: there are enough pages."""
        if self.pressure < self._too_much or self.pages >= MAX_PAGES:
            return None
        return min(max(_FEWEST_FURTHER_PAGES, self.pages * 2), MAX_PAGES)

    def after_read(self, shards: int, pages: int) -> "ShardState":
        """Return the state after a read. It found shards 0 to `shards` - 1 on the first page, and `pages` announced."""
        width = min(SHARDS_PER_PAGE, 1 << (max(shards, 1) - 1).bit_length()) if pages == 1 else pages * SHARDS_PER_PAGE
        return self if width <= self.width else ShardState(width, pages)

    def _counts(self, shard: int) -> bool:
        return self.pages == 1 or shard >= self.width // 2

    @property
    def _too_much(self) -> int:
        return _TOO_MUCH_FOR_ONE_PAGE if self.pages == 1 else _TOO_MUCH_FOR_SEVERAL
