"""The ways to count a request: the deployed policy, and a fixed number of shards under one partition key."""

import itertools
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Protocol

from metering.storage.counter_items import SHARDS_PER_PAGE
from metering.storage.retry import wait_s
from metering.usage.shard_policy import cached_s

from benchmarks.scale.model import Clock, Environment, Key, Known, Partition, Process, ShardBusy, Table, Throttled


class Late(Exception):
    """The request's deadline came before its end."""


@dataclass
class Tries:
    """Counts one request's tries, and bounds them by its deadline."""

    clock: Clock
    random: Random
    deadline_s: float
    count: int = 0

    def back_off(self, attempt: int) -> Process[None]:
        """Wait as the record function does before its next try.

        Raises:
            Late: the wait would end after the deadline.
        """
        wait = wait_s(attempt, self.random)
        if self.clock.now_s + wait > self.deadline_s:
            raise Late
        yield wait


class Contender(Protocol):
    """A way to count requests."""

    def serve(self, tries: Tries, table: Table, environment: Environment, period: int) -> Process[None]:
        """Record the request's usage, then read the total.

        Raises:
            Late: the deadline came first.
        """


@dataclass(frozen=True)
class Fixed:
    """A fixed number of shards under one partition key. Each try adds to any of them, and each total queries all."""

    shards: int

    def serve(self, tries: Tries, table: Table, environment: Environment, period: int) -> Process[None]:  # noqa: ARG002 - it remembers nothing
        """Record and read; see Contender."""
        for attempt in itertools.count():
            tries.count += 1
            try:
                yield from table.add((period, 0), tries.random.randrange(self.shards))
                break
            except ShardBusy:
                yield from tries.back_off(attempt)
        yield from _queried(table, (period, 0), tries)


@dataclass(frozen=True)
class Spreading:
    """Counters that shard themselves: the deployed policy, called as the record function calls it."""

    transactions: int = 1
    """Transactions of each request, one after the other. A batch of 100 records of one feature takes two, because a
    transaction holds 100 items and one of them is the counter's."""

    def serve(self, tries: Tries, table: Table, environment: Environment, period: int) -> Process[None]:
        """Record and read; see Contender."""
        known = environment.counters.setdefault(period, Known())
        for _ in range(self.transactions):
            yield from self._record(tries, table, known, period)
        yield from self._read_total(tries, table, known, period)

    def _record(self, tries: Tries, table: Table, known: Known, period: int) -> Process[None]:
        held: int | None = None
        attempt = 0
        while True:
            before = known.spread
            shard = before.shard(tries.random, held)
            tries.count += 1
            try:
                yield from table.add((period, shard // SHARDS_PER_PAGE), shard)
            except ShardBusy as busy:
                # If the read or the announcement is throttled too, the next try that meets a busy shard repeats it.
                with suppress(Throttled):
                    yield from self._spread(table, known, period, shard, throttled=isinstance(busy, Throttled))
            else:
                known.spread = known.spread.increment_committed(shard)
                return
            # A wider counter is likely to have a free shard, so the backoff starts again from its shortest wait.
            if known.spread.width > before.width:
                attempt = 0
            yield from tries.back_off(attempt)
            attempt += 1
            held = shard

    def _spread(self, table: Table, known: Known, period: int, shard: int, *, throttled: bool) -> Process[None]:
        if not known.soft:
            yield from self._look(table, known, period)
        if not known.soft:
            return
        known.spread = known.spread.shard_busy(shard, throttled=throttled)
        if known.spread.pages_wanted is not None:
            # Another environment may have announced them already.
            yield from self._look(table, known, period)
        wanted = known.spread.pages_wanted
        if wanted is not None:
            pages = yield from table.announce((period, 0), wanted)
            known.spread = known.spread.after_read(SHARDS_PER_PAGE, pages)

    def _look(self, table: Table, known: Known, period: int) -> Process[None]:
        _learn(known, (yield from table.query((period, 0))))

    def _read_total(self, tries: Tries, table: Table, known: Known, period: int) -> Process[None]:
        if known.spread.pages > 1 and table.clock.now_s < known.recent_until_s:
            return
        # As in the functions, the total's age counts from before the first read.
        recent_until_s = table.clock.now_s + cached_s(tries.random)
        first = yield from _queried(table, (period, 0), tries)
        _learn(known, first)
        for page in range(1, first.pages):
            yield from _queried(table, (period, page), tries)
        known.recent_until_s = recent_until_s


def _learn(known: Known, first: Partition) -> None:
    known.soft = known.soft or first.added[0] > 0
    known.spread = known.spread.after_read(max(first.added, default=0) + 1, first.pages)


def _queried(table: Table, key: Key, tries: Tries) -> Process[Partition]:
    """Query a partition key, and repeat the query while the key is throttled.

    Raises:
        Late: the deadline came first.
    """
    for attempt in itertools.count():
        try:
            return (yield from table.query(key))
        except Throttled:
            yield from tries.back_off(attempt)
    raise AssertionError("itertools.count() ended")
