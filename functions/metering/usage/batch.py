"""The state of a batch of usages, and its two pure functions: plan and apply. `recorder` does the I/O between them.

    next_step   plans one step: commit, read counters, read terms, find records, or wait
    apply_…     applies the answer to a step: sets the outcomes of usages, and updates the knowledge of counters

A batch has the same outcomes as its usages sent one by one, in the same order. A single usage is a batch of one.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from metering.model.errors import InvalidRequest, KeyReused, Unavailable
from metering.model.usage import CounterId, Usage
from metering.storage.counter_items import FIRST_SHARD
from metering.storage.counter_pages import FirstPage
from metering.storage.ledger import MAX_ACTIONS, Addition, Cancellation, FoundRecords, Recorded, match_record
from metering.storage.signals import MalformedItem
from metering.storage.usage_records import StoredUsage

# Each counter needs at least two actions of a transaction: put a record, and update the counter.
MAX_COUNTERS = MAX_ACTIONS // 2


class Terms(NamedTuple):
    """The limit for an organization's new usage of a feature, or the reason why that usage is invalid."""

    problem: InvalidRequest | None = None
    """The reason why new usage is invalid. None: new usage is valid."""
    limit: int | None = None
    hard: bool = False

    @property
    def hard_limit(self) -> int | None:
        return self.limit if self.hard else None


class OverLimit(NamedTuple):
    """The usage does not fit a hard limit. Nothing was stored, and its idempotency key is still free."""


# InvalidRequest: the key has other content, or the terms have a problem. Unavailable: it is unknown whether the usage
# is recorded. MalformedItem: the stored record or the counter cannot be read.
EntryOutcome: TypeAlias = Recorded | OverLimit | InvalidRequest | Unavailable | MalformedItem


@dataclass
class Entry:
    """One usage of the batch. It is open until it has an outcome."""

    usage: Usage
    counter: CounterId
    terms: Terms
    outcome: EntryOutcome | None = None


@dataclass
class KnownCounter:
    """The request's knowledge of one counter."""

    at_least: int = 0
    """A lower bound of the total: the last total that was read, plus the request's own additions."""
    is_read: bool = False
    """Whether `at_least` is the total as just read: the request has neither committed nor waited since the read."""
    mode_is_known: bool = False
    """Whether the request knows if the counter has a hard limit.

    If so, usage that would exceed the limit is refused without a further read of the counter.
    """
    is_unanswered: bool = False
    """Whether a read of the counter has failed since the last wait."""
    is_soft: bool = False
    """Whether the counter has no hard limit in its period: it began without one, or a request removed it (ADR 8)."""
    lifts_limit: bool = False
    """Whether the next addition removes the counter's stored hard limit, because the plan no longer has it."""
    busy_shard: int | None = None
    """The shard that was busy at the last try."""


class BusyShard(NamedTuple):
    """A shard that another transaction held, or whose partition was throttled."""

    counter: CounterId
    shard: int
    throttled: bool


@dataclass
class Batch:
    """Usages of one organization, and the request's knowledge of their counters."""

    entries: list[Entry]
    counters: defaultdict[CounterId, KnownCounter] = field(default_factory=lambda: defaultdict(KnownCounter))
    busy_keys: set[str] = field(default_factory=set)
    """Idempotency keys whose records were locked by another transaction, or throttled."""
    unexpectedly_hard: list[CounterId] = field(default_factory=list)
    """Counters under a hard limit that the terms do not have. The terms can be out of date."""
    busy: list[BusyShard] = field(default_factory=list)
    """The busy shards of the last try, for additions without a hard limit. The next try can use other shards."""
    is_waiting: bool = False
    """Whether to wait before the next try, because a shard was busy or the store did not answer."""
    waits: int = 0
    """The number of waits since the last commit, or since a counter got more shards."""
    counters_per_transaction: int = MAX_COUNTERS
    """The maximum number of counters in one transaction.

    One busy shard cancels the whole transaction, so the next transaction has half as many counters.
    """

    @property
    def open(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.outcome is None]

    def hard_limit(self, entry: Entry) -> int | None:
        return None if self.counters[entry.counter].is_soft else entry.terms.hard_limit


class ReadTerms(NamedTuple):
    """Read the organization and its plan from the table, not from the cache."""


class ReadCounters(NamedTuple):
    """Read the counters where an open usage can exceed the hard limit."""

    counters: list[CounterId]


class Commit(NamedTuple):
    """Record these usages in one transaction."""

    additions: list[Addition]


class BackOff(NamedTuple):
    """First let counters with `busy` shards use more shards, if possible. Then wait, longer with each `attempt`."""

    attempt: int
    busy: list[BusyShard]
    releases_keys: bool
    """Whether to try usages with busy records again after the wait. True if no other usage can be tried."""


class FindRecords(NamedTuple):
    """Look for records of usages that cannot be recorded now, because of their terms or a hard limit."""

    usages: list[Usage]


Step: TypeAlias = ReadTerms | ReadCounters | Commit | BackOff | FindRecords
# Chooses a counter's shard for an addition, and avoids the given busy shard if the counter can use another.
ChooseShard: TypeAlias = Callable[[CounterId, int | None], int]


def next_step(batch: Batch, choose_shard: ChooseShard) -> Step | None:
    """Plan the next step for the open usages. Return None if no usage is open."""
    if not batch.open:
        return None
    if batch.unexpectedly_hard:
        return ReadTerms()
    if batch.is_waiting:
        return BackOff(batch.waits, batch.busy, releases_keys=not _usages_to_record(batch))
    if counters := _counters_to_read(batch):
        return ReadCounters(counters)
    if additions := _pack(batch, _usages_to_record(batch), choose_shard):
        return Commit(additions)
    if batch.busy_keys or any(counter.is_unanswered for counter in batch.counters.values()):
        return BackOff(batch.waits, [], releases_keys=True)
    return FindRecords(list({entry.usage.idempotency_key: entry.usage for entry in batch.open}.values()))


def _counters_to_read(batch: Batch) -> list[CounterId]:
    """Return the counters to read, because an open usage can exceed their hard limit.

    Usage that fits on top of `at_least` needs no read, because its transaction checks the limit.
    """
    wanted: dict[CounterId, int] = defaultdict(int)
    to_read: dict[CounterId, None] = {}
    for entry in batch.open:
        name, limit = entry.counter, batch.hard_limit(entry)
        counter = batch.counters[name]
        if entry.terms.problem is not None or limit is None or counter.mode_is_known or counter.is_unanswered:
            continue
        wanted[name] += entry.usage.quantity
        if counter.at_least + wanted[name] > limit:
            to_read[name] = None
    return list(to_read)


def _usages_to_record(batch: Batch) -> dict[CounterId, list[Entry]]:
    """Return the usages to record now, by counter and in input order.

    Their terms allow new usage, they fit the hard limit, and their records are not busy. A usage waits while an earlier
    open usage can need the same part of the limit.

    Example: the total is 0, the hard limit is 10, and the batch is k1:9, k2:3, k2:1, k3:1 (key:quantity).

    - k1:9 is recorded now.
    - k2:3 does not fit after k1:9. It fits if k1 is a replay from an earlier period, which adds nothing to this total.
    - k2:1 waits, because k2:3 has the same key. If k2:3 is recorded, k2:1 is a conflict.
    - k3:1 waits, because k2:1 comes first and can need the last unit of the limit.
    """
    # Idempotency key -> fingerprint of the key's first usage that can still be recorded.
    claimed: dict[str, str] = {}
    # Counters with a waiting usage that later usages must not overtake.
    blocked: set[CounterId] = set()
    wanted: dict[CounterId, int] = defaultdict(int)
    chosen: dict[CounterId, list[Entry]] = defaultdict(list)
    for entry in batch.open:
        usage, name, limit = entry.usage, entry.counter, batch.hard_limit(entry)
        counter = batch.counters[name]
        if entry.terms.problem is not None:
            continue
        if usage.idempotency_key in claimed:
            # Wait for the key's first usage. If that usage is refused, this one can be recorded in its place. So later
            # usages must not use up the limit.
            if limit is not None and claimed[usage.idempotency_key] != usage.fingerprint:
                blocked.add(name)
            continue
        if limit is not None and counter.at_least + wanted[name] + usage.quantity > limit:
            # This usage can still fit: an earlier usage can be a replay, or the unread counter can be soft. So reserve
            # the key for this usage.
            if counter.is_unanswered or counter.at_least + usage.quantity <= limit:
                claimed[usage.idempotency_key] = usage.fingerprint
            continue
        claimed[usage.idempotency_key] = usage.fingerprint
        if usage.idempotency_key in batch.busy_keys:
            # Later usages must not use up the limit before this usage.
            if limit is not None:
                blocked.add(name)
        elif name not in blocked:
            wanted[name] += usage.quantity
            chosen[name].append(entry)
    return chosen


def _pack(batch: Batch, chosen: dict[CounterId, list[Entry]], choose_shard: ChooseShard) -> list[Addition]:
    """Fill one transaction with the usages of one counter after the other.

    Each counter costs an extra update, so this order leaves more actions for records. Counters with a busy shard come
    last, so that they do not delay the other counters.
    """
    additions: list[Addition] = []
    left = MAX_ACTIONS
    ordered = sorted(chosen, key=lambda name: batch.counters[name].busy_shard is not None)
    for name in ordered[: batch.counters_per_transaction]:
        # A counter needs two actions: the put of a record, and the update of the counter.
        if left < 2:
            break
        entries = chosen[name][: left - 1]
        left -= len(entries) + 1
        counter, limit = batch.counters[name], batch.hard_limit(entries[0])
        # A hard-limited counter uses only its first shard (ADR 8).
        shard = choose_shard(name, counter.busy_shard) if limit is None else FIRST_SHARD
        additions.append(Addition(name, [entry.usage for entry in entries], shard, limit, counter.lifts_limit))
    return additions


def apply_terms(batch: Batch, terms: Mapping[str, Terms]) -> None:
    """Apply the terms that were just read from the table, by feature.

    A usage that is already refused or invalid keeps its old terms, because they explain its outcome.
    """
    for entry in batch.entries:
        if entry.outcome is None or isinstance(entry.outcome, Recorded):
            entry.terms = terms[entry.usage.feature]
    # If the new terms have a hard limit, `lifts_limit` has no effect: `ledger` then keeps the counter's hard limit.
    for name in batch.unexpectedly_hard:
        batch.counters[name].lifts_limit = True
    batch.unexpectedly_hard.clear()


def apply_counter(batch: Batch, name: CounterId, page: FirstPage | MalformedItem | None) -> None:
    """Apply the read of a counter's first page. None: the store did not answer."""
    counter = batch.counters[name]
    if page is None:
        # Still commit usage that fits, because its transaction checks the limit. Only likely refusals wait for a read.
        counter.is_unanswered = True
    elif isinstance(page, MalformedItem):
        apply_malformed(batch, name, page)
    else:
        counter.at_least, counter.is_read, counter.mode_is_known = page.total, True, True
        counter.is_soft = counter.is_soft or page.is_soft


def apply_malformed(batch: Batch, name: CounterId, malformed: MalformedItem) -> None:
    """Make `malformed` the outcome of the counter's open usages, because the counter cannot be read or updated."""
    for entry in batch.open:
        if entry.counter == name:
            entry.outcome = malformed


def apply_commit(batch: Batch, additions: Sequence[Addition]) -> None:
    """Apply the commit of these additions."""
    batch.waits = 0
    _outdate_totals(batch)
    batch.counters_per_transaction = min(2 * batch.counters_per_transaction, MAX_COUNTERS)
    for addition in additions:
        counter = batch.counters[addition.counter]
        counter.at_least += addition.quantity
        counter.mode_is_known = counter.mode_is_known or addition.hard_limit is not None
        for usage in addition.usages:
            _settle_key(batch, StoredUsage(usage))


def apply_cancellation(batch: Batch, additions: Sequence[Addition], cancelled: Cancellation) -> None:
    """Apply the cancellation of these additions' transaction, which wrote nothing."""
    batch.unexpectedly_hard = cancelled.hard
    for stored in cancelled.stored:
        _settle_key(batch, stored)
    _settle_malformed(batch, cancelled.malformed)
    for name, malformed in cancelled.unreadable.items():
        apply_malformed(batch, name, malformed)
    batch.busy_keys |= {usage.idempotency_key for usage in cancelled.busy_records}
    for name, total in cancelled.full.items():
        counter = batch.counters[name]
        counter.at_least, counter.is_read, counter.mode_is_known = total, True, True
    for name in cancelled.soft:
        batch.counters[name].is_soft = True
    if not cancelled.busy_shards:
        return
    batch.is_waiting = True
    batch.counters_per_transaction = max(1, len(additions) // 2)
    # The other transaction has a record of this one. It is most likely a retry with the same usages, and no sign that
    # the counters need more shards.
    if cancelled.busy_records:
        return
    for addition in additions:
        throttled = cancelled.busy_shards.get(addition.counter)
        if throttled is not None:
            batch.counters[addition.counter].busy_shard = addition.shard
            if addition.hard_limit is None:
                batch.busy.append(BusyShard(addition.counter, addition.shard, throttled))


def apply_unanswered(batch: Batch) -> None:
    """Apply a commit that got no answer.

    If the transaction was committed, the next try finds records with this request's event ids.
    """
    batch.is_waiting = True


def apply_wait(batch: Batch, step: BackOff, *, is_wider: bool) -> None:
    """Apply a finished wait. `is_wider`: a counter got more shards, so the waits count from 1 again."""
    batch.waits = 1 if is_wider else batch.waits + 1
    batch.is_waiting = False
    batch.busy = []
    if step.releases_keys:
        batch.busy_keys.clear()
    _outdate_totals(batch)
    for counter in batch.counters.values():
        counter.is_unanswered = False


def apply_found(batch: Batch, usages: Sequence[Usage], found: FoundRecords) -> None:
    """Apply the search for records under the keys of `usages`. A usage without a record is refused or invalid."""
    for stored in found.stored:
        _settle_key(batch, stored)
    _settle_malformed(batch, found.malformed)
    keys = {usage.idempotency_key for usage in usages}
    for entry in batch.open:
        if entry.usage.idempotency_key in keys:
            entry.outcome = _not_recorded(entry)


def apply_deadline(batch: Batch, unavailable: Unavailable) -> None:
    """Make `unavailable` the outcome of all open usages. It is unknown whether they are recorded."""
    for entry in batch.open:
        entry.outcome = unavailable


def _outdate_totals(batch: Batch) -> None:
    """Mark all totals as outdated, because other requests can have added to the counters."""
    for counter in batch.counters.values():
        counter.is_read = False


def _settle_key(batch: Batch, stored: StoredUsage) -> None:
    """Set the outcome of every open usage with this record's key."""
    key, event_id = stored.usage.idempotency_key, stored.usage.event_id
    if stored.shard is not None:
        # The record's quantity can have been added after the read of the counter.
        batch.counters[stored.usage.counter].is_read = False
    alike = [entry for entry in batch.open if entry.usage.idempotency_key == key]
    ids = [entry.usage.event_id for entry in alike]
    position = ids.index(event_id) if event_id in ids else 0
    # If a usage of this batch wrote the record, the key's earlier usages in the batch were invalid or refused.
    for entry in alike[:position]:
        entry.outcome = _not_recorded(entry)
    for entry in alike[position:]:
        entry.outcome = match_record(stored, entry.usage) or KeyReused()


def _settle_malformed(batch: Batch, malformed: Mapping[str, MalformedItem]) -> None:
    """Set the outcome of usages whose record cannot be read. Other usages are not affected."""
    for entry in batch.open:
        if entry.usage.idempotency_key in malformed:
            entry.outcome = malformed[entry.usage.idempotency_key]


def _not_recorded(entry: Entry) -> InvalidRequest | OverLimit:
    return entry.terms.problem or OverLimit()
