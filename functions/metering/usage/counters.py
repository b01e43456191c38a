"""What an execution environment knows of the counters that it adds to: how widely they spread, and what they come to.

    adding    calm: shard 0 → shard busy: more of the first page's 8 → still busy: announce pages, then add
    reading   one page: a consistent read each time → more: every page once a second, and what was added here since

Forgetting any of it costs reads and nothing else.
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

# A bound on memory.
_MAX_CACHED = 10_000


class _Total(NamedTuple):
    """What a counter came to when all of its pages were read, and what was added from here since."""

    quantity: int
    read_at: Moment
    """When its reading began."""
    for_s: float
    """For how long it may be used from then on."""


class _Known(NamedTuple):
    """What is known of one counter."""

    is_soft: bool = False
    """It was seen begun without a hard limit: it may spread over shards, and no hard limit applies in its period."""
    state: ShardState = ShardState()
    total: _Total | None = None


@dataclass
class Counters:
    """The counters in `table`, as this environment knows them."""

    client: "DynamoDBClient"
    table: str
    clocks: Clocks
    _known: dict[CounterId, _Known] = field(init=False, default_factory=dict)

    def shard(self, counter: CounterId, random: Random, busy: int | None = None) -> int:
        """The shard to add to now, and not the `busy` one if there is a choice. A hard limit needs the first."""
        known = self._of(counter)
        # A hard limit needs all usage in the first shard, so only a counter that is known to be soft uses others.
        return known.state.shard(random, busy) if known.is_soft else FIRST_SHARD

    def increment_committed(self, counter: CounterId, shard: int, quantity: int) -> None:
        """An addition of so much to this shard went through."""
        known = self._of(counter)
        total = known.total
        if total is not None:
            total = total._replace(quantity=total.quantity + quantity)
        self._learn(counter, known._replace(state=known.state.increment_committed(shard), total=total))

    def shard_available(self, counter: CounterId, shard: int) -> None:
        """An addition to this shard would have gone through, had nothing else cancelled its transaction."""
        known = self._of(counter)
        self._learn(counter, known._replace(state=known.state.increment_committed(shard)))

    def shard_busy(self, counter: CounterId, shard: int, budget: RetryBudget, *, throttled: bool) -> bool:
        """An addition to this shard met another one, or was throttled: spread more, if the counter may.

        Reads the first page once for that. If the store does not answer, the next busy shard asks again.

        Returns: whether the next addition chooses among more shards than this one did.
        Raises:
            Unavailable: the deadline came first.
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
        """Whether the counter was seen begun without a hard limit: that stays so in its period."""
        return self._of(counter).is_soft

    def total(self, counter: CounterId, budget: RetryBudget, *, at_once: bool = False) -> int:
        """What the counter comes to.

        Consistent, whatever was answered as recorded before this call is in it, as long as its shards stand on one
        page, or if it is wanted `at_once`. Else what is recorded elsewhere may be missing for a second or two.

        Raises:
            Unavailable: the deadline came first.
        """
        known = self._of(counter)
        # A page answers 3,000 reads a second: those of a busy counter, each by every request, would be more.
        total = known.total
        may_remember = known.state.pages > 1 and not at_once
        if may_remember and total is not None and self.clocks.seconds_since(total.read_at) < total.for_s:
            return total.quantity
        return self._read(counter, budget)

    def read_first_page(self, counter: CounterId) -> counter_pages.FirstPage:
        """The counter's first page, and learn from it.

        Raises:
            StoreBusy: throttled or unanswered.
        """
        first = counter_pages.first_page(self.client, self.table, counter)
        known = self._of(counter)
        state = known.state.after_read(first.shards, first.pages)
        self._learn(counter, known._replace(is_soft=known.is_soft or first.is_soft, state=state))
        return first

    def _read(self, counter: CounterId, budget: RetryBudget) -> int:
        # From before the first page is read: what is recorded during it may be missing.
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
        # Others meet busy shards as well: most find the pages that one has announced.
        self.read_first_page(counter)
        wanted = self._of(counter).state.pages_wanted
        if wanted is None:
            return
        budget.check()
        # A crash after this line leaves a page announced to which nobody has added: its sum is nothing.
        pages = counter_pages.announce(self.client, self.table, counter, wanted)
        known = self._of(counter)
        self._learn(counter, known._replace(state=known.state.after_read(0, pages)))

    def _of(self, counter: CounterId) -> _Known:
        return self._known.get(counter, _Known())

    def _learn(self, counter: CounterId, known: _Known) -> None:
        if counter not in self._known and len(self._known) >= _MAX_CACHED:
            self._known.clear()
        self._known[counter] = known
