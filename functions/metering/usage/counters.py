"""An execution environment's cache of counters: their shards, pages and totals.

    adding            shard 0; if it is busy, up to 8 shards of the first page; if these are busy, further pages
    reading a total   one page: a consistent read each time
                      several pages: a read of all pages about once a second, plus this cache's additions since then

A lost cache only costs reads.
"""

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from metering.model.clocks import Clocks, Moment
from metering.model.usage import CounterId
from metering.storage import counter_pages
from metering.storage.counter_items import FIRST_SHARD
from metering.storage.retry import RetryBudget, until_answered
from metering.storage.signals import StoreBusy
from metering.usage.shard_policy import ShardState, cached_s

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Bounds the memory of an execution environment.
_MAX_CACHED = 10_000


class _Total(NamedTuple):
    """A counter's total as read from all of its pages, plus this execution environment's additions since then."""

    quantity: int
    read_at: Moment
    """The start of the read."""
    for_s: float
    """How long the total is valid, from `read_at`, in seconds."""


class _Known(NamedTuple):
    """The cached knowledge of one counter."""

    is_soft: bool = False
    """Whether a read showed that the counter has no hard limit.

    A soft counter can use several shards, and stays soft until its billing period ends.
    """
    state: ShardState = ShardState()
    total: _Total | None = None


@dataclass
class Counters:
    """The cache of the counters in `table`."""

    client: "DynamoDBClient"
    table: str
    clocks: Clocks
    _known: dict[CounterId, _Known] = field(init=False, default_factory=dict)

    def shard(self, counter: CounterId, random: Random, busy: int | None = None) -> int:
        """Choose the shard to add to, and avoid the `busy` shard if the counter can use another."""
        known = self._of(counter)
        # A hard limit needs all usage in the first shard. So only counters that are known to be soft use other shards.
        return known.state.shard(random, busy) if known.is_soft else FIRST_SHARD

    def increment_committed(self, counter: CounterId, shard: int, quantity: int) -> None:
        """Learn that an addition of `quantity` to this shard was committed."""
        known = self._of(counter)
        total = known.total
        if total is not None:
            total = total._replace(quantity=total.quantity + quantity)
        self._learn(counter, known._replace(state=known.state.increment_committed(shard), total=total))

    def shard_available(self, counter: CounterId, shard: int) -> None:
        """Learn that the shard was not busy: another item was the reason for the cancelled transaction."""
        known = self._of(counter)
        self._learn(counter, known._replace(state=known.state.increment_committed(shard)))

    def shard_busy(self, counter: CounterId, shard: int, budget: RetryBudget, *, throttled: bool) -> bool:
        """Learn that the shard was busy, and use more shards if the counter is soft.

        This call reads the first page, unless the counter is known to be soft and has enough pages. If there are too
        few pages, this call announces more. If the store does not answer, the next busy shard leads to another try.

        Returns: whether the next addition chooses among more shards than before.
        Raises:
            Unavailable: the deadline passed.
            MalformedItem: the counter's first page cannot be read.
        """
        width = self._of(counter).state.width
        try:
            budget.check()
            if self.is_known_soft(counter) or self.read_first_page(counter).is_soft:
                known = self._of(counter)
                self._learn(counter, known._replace(state=known.state.shard_busy(shard, throttled=throttled)))
                self._widen(counter, budget)
        except StoreBusy:
            pass
        return self._of(counter).state.width > width

    def is_known_soft(self, counter: CounterId) -> bool:
        """Return whether a read showed that the counter is soft. It then stays soft until its billing period ends."""
        return self._of(counter).is_soft

    def total(self, counter: CounterId, budget: RetryBudget, *, consistent: bool = False) -> int:
        """Return the counter's total.

        With `consistent`, or for a counter with one page, the total comes from consistent reads, one for each page.
        The total then includes all usage acknowledged before this call. Otherwise the total can come from the cache. A
        cached total can lack usage that other execution environments recorded in the last 2 seconds.

        Raises:
            Unavailable: the deadline passed.
            MalformedItem: the counter cannot be read.
        """
        known = self._of(counter)
        # A page serves 3,000 reads a second. A read by each request on a busy counter would exceed that rate.
        total = known.total
        can_use_cache = known.state.pages > 1 and not consistent
        if can_use_cache and total is not None and self.clocks.seconds_since(total.read_at) < total.for_s:
            return total.quantity
        return self._read(counter, budget)

    def read_first_page(self, counter: CounterId) -> counter_pages.FirstPage:
        """Read the counter's first page, and update the cache from it.

        Raises:
            StoreBusy: DynamoDB throttled the read or did not answer.
            MalformedItem: the page cannot be read.
        """
        first = counter_pages.first_page(self.client, self.table, counter)
        known = self._of(counter)
        state = known.state.after_read(first.shards, first.pages)
        self._learn(counter, known._replace(is_soft=known.is_soft or first.is_soft, state=state))
        return first

    def _read(self, counter: CounterId, budget: RetryBudget) -> int:
        # The total's age starts before the read, because the total can lack usage that was recorded during the read.
        read_at = self.clocks.moment()
        first = until_answered(lambda: self.read_first_page(counter), budget)
        total = first.total + counter_pages.total_of_further_pages(
            self.client, self.table, counter, first.pages, budget
        )
        self._learn(counter, self._of(counter)._replace(total=_Total(total, read_at, cached_s(budget.random))))
        return total

    def _widen(self, counter: CounterId, budget: RetryBudget) -> None:
        if self._of(counter).state.pages_wanted is None:
            return
        budget.check()
        # Other execution environments meet the same busy shards, so the pages are often announced already.
        self.read_first_page(counter)
        wanted = self._of(counter).state.pages_wanted
        if wanted is None:
            return
        budget.check()
        # A crash after this call leaves announced pages without shards. Their sum is 0.
        pages = counter_pages.announce(self.client, self.table, counter, wanted)
        known = self._of(counter)
        self._learn(counter, known._replace(state=known.state.after_read(0, pages)))

    def _of(self, counter: CounterId) -> _Known:
        return self._known.get(counter, _Known())

    def _learn(self, counter: CounterId, known: _Known) -> None:
        if counter not in self._known and len(self._known) >= _MAX_CACHED:
            self._known.clear()
        self._known[counter] = known
