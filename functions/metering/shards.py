"""Which shard of a counter an addition goes to: the policy, which asks nothing and writes nothing.

A counter is a set of items whose sum is the total. Shards 0 to 7 are its first page; pages of eight more have partition
keys of their own. A calm counter stays in shard 0, so that reading it reads one item. Who is turned away, because
another transaction holds the shard or its partition is throttled, spreads over more of them.

Each execution environment has a `Spread` for each counter that it adds to, and learns from its reads of the total what
the others have found out. A billing period's counters are its own: each period starts narrow.
"""

from dataclasses import dataclass, replace
from random import Random

from metering.items import FIRST_SHARD, MOST_PAGES, SHARDS_PER_PAGE

# Share of the last tries that were turned away, above which a full page is not enough.
_TOO_MANY = 0.2
# How much a single try counts in that share.
_WEIGHT = 1 / 32


@dataclass(frozen=True)
class Spread:
    """How widely one environment spreads what it adds to one counter."""

    width: int = 1
    """The number of shards among which the next addition chooses: those from 0 on."""
    pages: int = 1
    """The number of pages that are known to be announced; nothing may be added to any other."""
    turned_away_share: float = 0.0
    """Of the latest tries, with the latest counting most, since the width last changed."""

    def shard(self, random: Random, held: int | None = None) -> int:
        """The shard to add to now: any of them, but not the one that another `held` just now if there is a choice."""
        choice = [shard for shard in range(self.width) if shard != held]
        return random.choice(choice) if choice else FIRST_SHARD

    def landed(self) -> "Spread":
        """After an addition that went through."""
        return replace(self, turned_away_share=self.turned_away_share * (1 - _WEIGHT))

    def turned_away(self) -> "Spread":
        """After one that did not: somebody held the shard, or its partition is throttled."""
        if self.width < SHARDS_PER_PAGE:
            return replace(self, width=self.width * 2)
        return replace(self, turned_away_share=self.turned_away_share * (1 - _WEIGHT) + _WEIGHT)

    @property
    def pages_wanted(self) -> int | None:
        """How many pages to announce, or to find announced by others, before the next try; None: there are enough."""
        if self.turned_away_share <= _TOO_MANY or self.pages >= MOST_PAGES:
            return None
        return self.pages * 2

    def saw(self, shards: int, pages: int) -> "Spread":
        """After a read that found the first so many `shards` of the first page, and so many `pages` announced."""
        width = min(SHARDS_PER_PAGE, 1 << (max(shards, 1) - 1).bit_length()) if pages == 1 else pages * SHARDS_PER_PAGE
        if width <= self.width:
            return self
        return Spread(width, max(pages, self.pages))
