"""The state of a batch of usages, and the pure steps plan and apply. `recorder` does the I/O between them.

    next_step   the next step: commit the usages that fit, in input order, or first read, find records or back off
    apply_…     the answer to a step: usages get their outcomes, and counters become known
    None        the step when every usage has its outcome

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

# A record and the update of its counter are two actions of a transaction.
MAX_COUNTERS = MAX_ACTIONS // 2


class Terms(NamedTuple):
    """An organization's entitlement for new usage of a feature, or the reason why none is recorded."""

    problem: InvalidRequest | None = None
    """The reason why new usage is not recorded."""
    limit: int | None = None
    hard: bool = False

    @property
    def hard_limit(self) -> int | None:
        return self.limit if self.hard else None


class OverLimit(NamedTuple):
    """The usage does not fit a hard limit. Nothing was stored, and its idempotency key is still free."""


# InvalidRequest: the key has other content, or the terms have a problem. Unavailable: the usage may be recorded.
# MalformedItem: the stored record or the counter cannot be read.
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
    """Whether `at_least` is a total just read: the request has neither committed nor waited since."""
    is_known: bool = False
    """Whether the request knows if the counter has a hard limit.

    Usage that does not fit on top of `at_least` is then refused without a read.
    """
    is_unanswered: bool = False
    """Whether a read of the counter has failed since the last wait."""
    is_soft: bool = False
    """Whether the counter began without a hard limit, so that no hard limit applies in its period (ADR 8)."""
    lifts_limit: bool = False
    """Whether the next addition removes the counter's hard limit, because the plan no longer has one."""
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
    """Counters under a hard limit that the terms do not have, so that the terms may be out of date."""
    busy: list[BusyShard] = field(default_factory=list)
    """Shards that were busy at the last try, of counters that may use other shards."""
    is_waiting: bool = False
    """Whether to wait before the next try, because a shard was busy or the store did not answer."""
    waits: int = 0
    """The number of waits since the last commit, or since there were more shards to choose among."""
    counters_at_once: int = MAX_COUNTERS
    """The most counters for one transaction. It is lower after a busy shard, which cancels the whole transaction."""

    @property
    def open(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.outcome is None]

    def hard_limit(self, entry: Entry) -> int | None:
        return None if self.counters[entry.counter].is_soft else entry.terms.hard_limit


class ReadTerms(NamedTuple):
    """Read the organization and its plan as stored now."""


class ReadCounters(NamedTuple):
    """Read the totals of counters whose hard limits may refuse a usage."""

    counters: list[CounterId]


class Commit(NamedTuple):
    """Record these usages in one transaction."""

    additions: list[Addition]


class BackOff(NamedTuple):
    """Wait, longer with each `attempt`. Counters with `busy` shards then choose among more shards, if they may."""

    attempt: int
    busy: list[BusyShard]
    releases_keys: bool
    """Whether usages with busy records are tried again after the wait, because no other usage can be tried."""


class FindRecords(NamedTuple):
    """Look for existing records of usages that may not be recorded now."""

    usages: list[Usage]


Step: TypeAlias = ReadTerms | ReadCounters | Commit | BackOff | FindRecords
# Chooses the shard of a counter to add to, and avoids the given busy shard if there is a choice.
ChooseShard: TypeAlias = Callable[[CounterId, int | None], int]


def next_step(batch: Batch, choose_shard: ChooseShard) -> Step | None:
    """Plan the next step for the open usages. None: no usage is open."""
    if not batch.open:
        return None
    if batch.unexpectedly_hard:
        return ReadTerms()
    if batch.is_waiting:
        return BackOff(batch.waits, batch.busy, releases_keys=not _to_record(batch))
    if counters := _to_read(batch):
        return ReadCounters(counters)
    if additions := _packed(batch, _to_record(batch), choose_shard):
        return Commit(additions)
    if batch.busy_keys or any(counter.is_unanswered for counter in batch.counters.values()):
        return BackOff(batch.waits, [], releases_keys=True)
    return FindRecords(list({entry.usage.idempotency_key: entry.usage for entry in batch.open}.values()))


def _to_read(batch: Batch) -> list[CounterId]:
    """Counters to read, because their hard limit may refuse an open usage.

    Usage that fits by `at_least` needs no read, because its transaction checks the limit.
    """
    wanted: dict[CounterId, int] = defaultdict(int)
    to_read: dict[CounterId, None] = {}
    for entry in batch.open:
        name, limit = entry.counter, batch.hard_limit(entry)
        counter = batch.counters[name]
        if entry.terms.problem is not None or limit is None or counter.is_known or counter.is_unanswered:
            continue
        wanted[name] += entry.usage.quantity
        if counter.at_least + wanted[name] > limit:
            to_read[name] = None
    return list(to_read)


def _to_record(batch: Batch) -> dict[CounterId, list[Entry]]:
    """The usages to record now, by counter and in input order: allowed, fitting, and with no busy record.

    Example: the hard limit is 10, and the batch is k1:9, k2:3, k2:1, k3:1 (key:quantity).

    - k1:9 is recorded now.
    - k2:3 does not fit after k1:9, but fits if k1 is a replay.
    - k2:1 waits for the outcome of k2:3, because both have the same key.
    - k3:1 waits, because k2:1 may need its room.
    """
    # By idempotency key: the fingerprint of the first usage that may still be recorded under it.
    claimed: dict[str, str] = {}
    # Counters on which later records must not overtake an earlier one.
    blocked: set[CounterId] = set()
    wanted: dict[CounterId, int] = defaultdict(int)
    chosen: dict[CounterId, list[Entry]] = defaultdict(list)
    for entry in batch.open:
        usage, name, limit = entry.usage, entry.counter, batch.hard_limit(entry)
        counter = batch.counters[name]
        if entry.terms.problem is not None:
            continue
        if usage.idempotency_key in claimed:
            # Wait for the outcome of the key's first usage. If it is refused, this usage may need room under the limit.
            if limit is not None and claimed[usage.idempotency_key] != usage.fingerprint:
                blocked.add(name)
            continue
        if limit is not None and counter.at_least + wanted[name] + usage.quantity > limit:
            # It fits if an earlier usage is a replay, or if the counter is soft. Until that is known, no other usage
            # may use its key.
            if counter.is_unanswered or counter.at_least + usage.quantity <= limit:
                claimed[usage.idempotency_key] = usage.fingerprint
            continue
        claimed[usage.idempotency_key] = usage.fingerprint
        if usage.idempotency_key in batch.busy_keys:
            # Later usages must not take the room of this one.
            if limit is not None:
                blocked.add(name)
        elif name not in blocked:
            wanted[name] += usage.quantity
            chosen[name].append(entry)
    return chosen


def _packed(batch: Batch, chosen: dict[CounterId, list[Entry]], choose_shard: ChooseShard) -> list[Addition]:
    """The additions for one transaction, filled counter by counter, because each counter costs an extra update.

    Counters with a busy shard come last, so that they do not delay the others.
    """
    additions: list[Addition] = []
    left = MAX_ACTIONS
    ordered = sorted(chosen, key=lambda name: batch.counters[name].busy_shard is not None)
    for name in ordered[: batch.counters_at_once]:
        # A record and the update of its counter.
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
    """Apply the terms as stored now, by feature. A refused usage keeps the terms that refused it."""
    for entry in batch.entries:
        if entry.outcome is None or isinstance(entry.outcome, Recorded):
            entry.terms = terms[entry.usage.feature]
    # Under terms with a hard limit, this has no effect: an addition with a hard limit keeps the counter's limit.
    for name in batch.unexpectedly_hard:
        batch.counters[name].lifts_limit = True
    batch.unexpectedly_hard.clear()


def apply_counter(batch: Batch, name: CounterId, page: FirstPage | MalformedItem | None) -> None:
    """Apply a counter's first page. None: the store did not answer."""
    counter = batch.counters[name]
    if page is None:
        # Usage that fits goes on, because its transaction checks the limit. Only likely refusals wait for this read.
        counter.is_unanswered = True
    elif isinstance(page, MalformedItem):
        apply_malformed(batch, name, page)
    else:
        counter.at_least, counter.is_read, counter.is_known = page.total, True, True
        counter.is_soft = counter.is_soft or page.is_soft


def apply_malformed(batch: Batch, name: CounterId, malformed: MalformedItem) -> None:
    """Make `malformed` the outcome of all open usages of the counter, which cannot be read or added to."""
    for entry in batch.open:
        if entry.counter == name:
            entry.outcome = malformed


def apply_commit(batch: Batch, additions: Sequence[Addition]) -> None:
    """Apply the commit of these additions."""
    batch.waits = 0
    _outdate_totals(batch)
    batch.counters_at_once = min(2 * batch.counters_at_once, MAX_COUNTERS)
    for addition in additions:
        counter = batch.counters[addition.counter]
        counter.at_least += addition.quantity
        counter.is_known = counter.is_known or addition.hard_limit is not None
        for usage in addition.usages:
            _settle(batch, StoredUsage(usage))


def apply_cancellation(batch: Batch, additions: Sequence[Addition], cancelled: Cancellation) -> None:
    """Apply the cancellation of these additions' transaction, which wrote nothing."""
    batch.unexpectedly_hard = cancelled.hard
    for stored in cancelled.stored:
        _settle(batch, stored)
    _settle_malformed(batch, cancelled.malformed)
    for name, malformed in cancelled.unreadable.items():
        apply_malformed(batch, name, malformed)
    batch.busy_keys |= {usage.idempotency_key for usage in cancelled.busy_records}
    for name, total in cancelled.full.items():
        counter = batch.counters[name]
        counter.at_least, counter.is_read, counter.is_known = total, True, True
    for name in cancelled.soft:
        batch.counters[name].is_soft = True
    if not cancelled.busy_shards:
        return
    batch.is_waiting = True
    batch.counters_at_once = max(1, len(additions) // 2)
    # A transaction on the same record is most likely a retry of the same usages. So the busy shards do not show that
    # other usages load the counters.
    if cancelled.busy_records:
        return
    for addition in additions:
        throttled = cancelled.busy_shards.get(addition.counter)
        if throttled is not None:
            batch.counters[addition.counter].busy_shard = addition.shard
            if addition.hard_limit is None:
                batch.busy.append(BusyShard(addition.counter, addition.shard, throttled))


def apply_unanswered(batch: Batch) -> None:
    """Apply a missing answer of the store.

    The transaction may have been committed. The next try then finds each usage's own event id in its record.
    """
    batch.is_waiting = True


def apply_wait(batch: Batch, step: BackOff, *, is_wider: bool) -> None:
    """Apply the end of a wait. `is_wider`: there are more shards to choose among, so the waits count from 1 again."""
    batch.waits = 1 if is_wider else batch.waits + 1
    batch.is_waiting = False
    batch.busy = []
    if step.releases_keys:
        batch.busy_keys.clear()
    _outdate_totals(batch)
    for counter in batch.counters.values():
        counter.is_unanswered = False


def apply_found(batch: Batch, usages: Sequence[Usage], found: FoundRecords) -> None:
    """Apply the search for records under the keys of `usages`. A usage without a record is not recorded."""
    for stored in found.stored:
        _settle(batch, stored)
    _settle_malformed(batch, found.malformed)
    keys = {usage.idempotency_key for usage in usages}
    for entry in batch.open:
        if entry.usage.idempotency_key in keys:
            entry.outcome = _not_recorded(entry)


def apply_deadline(batch: Batch, unavailable: Unavailable) -> None:
    """Make `unavailable` the outcome of all open usages, which may or may not be recorded."""
    for entry in batch.open:
        entry.outcome = unavailable


def _outdate_totals(batch: Batch) -> None:
    """Mark all totals as outdated, because other requests may have added to the counters."""
    for counter in batch.counters.values():
        counter.is_read = False


def _settle(batch: Batch, stored: StoredUsage) -> None:
    """Set the outcome of every open usage with this record's key."""
    key, event_id = stored.usage.idempotency_key, stored.usage.event_id
    if stored.shard is not None:
        # The record's quantity may have been added after the counter was read.
        batch.counters[stored.usage.counter].is_read = False
    alike = [entry for entry in batch.open if entry.usage.idempotency_key == key]
    ids = [entry.usage.event_id for entry in alike]
    position = ids.index(event_id) if event_id in ids else 0
    # If this batch wrote the record, its earlier usages with the same key had a problem or did not fit.
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
