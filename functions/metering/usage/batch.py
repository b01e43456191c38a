"""A batch of usages on its way: what to do next, and what each answer teaches. No step here does any I/O.

    plan      the next step: commit what may be recorded and fits, in input order; or read, find, back off first
    apply_…   what the answer to that step says: usages get their outcomes, counters become known
    None      is planned when every usage has its outcome

A batch comes to what its usages would come to if they were sent one by one, in their order. A single usage is a batch
of one. `recorder` carries out the steps.
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

# A record and the update of its counter are two actions.
MAX_COUNTERS = MAX_ACTIONS // 2


class Terms(NamedTuple):
    """What the organization's state and plan say about new usage of a feature."""

    problem: InvalidRequest | None = None
    """Why new usage is not recorded."""
    limit: int | None = None
    hard: bool = False

    @property
    def hard_limit(self) -> int | None:
        return self.limit if self.hard else None


class OverLimit(NamedTuple):
    """The usage does not fit a hard limit. Nothing was stored, and its idempotency key is still free."""


# InvalidRequest: its key has other content, or it may not be recorded. Unavailable: it may have been recorded.
# MalformedItem: the record under its key, or its counter, cannot be read.
EntryOutcome: TypeAlias = Recorded | OverLimit | InvalidRequest | Unavailable | MalformedItem


@dataclass
class Entry:
    """One usage of the batch; open until it has an outcome."""

    usage: Usage
    counter: CounterId
    terms: Terms
    outcome: EntryOutcome | None = None


@dataclass
class KnownCounter:
    """What the request knows about one counter."""

    at_least: int = 0
    """What was read of the total, and what the request has added."""
    is_read: bool = False
    """Whether `at_least` is the total that was read, and the request has neither recorded anything nor waited since."""
    is_known: bool = False
    """Whether it is known if a hard limit applies: no read is needed to refuse what exceeds `at_least`."""
    is_unanswered: bool = False
    """Whether reading it failed since the last wait."""
    is_soft: bool = False
    """Whether it began without a hard limit, so that none applies in its period (ADR 8)."""
    lifts_limit: bool = False
    """Whether the next addition ends its hard limit, which the plan no longer has."""
    busy_shard: int | None = None
    """The shard that was locked or throttled at the last try."""


class BusyShard(NamedTuple):
    """A shard that was locked by another transaction, or throttled."""

    counter: CounterId
    shard: int
    throttled: bool


@dataclass
class Batch:
    """Usages of one organization, and what is known about them and their counters."""

    entries: list[Entry]
    counters: defaultdict[CounterId, KnownCounter] = field(default_factory=lambda: defaultdict(KnownCounter))
    busy_keys: set[str] = field(default_factory=set)
    """Idempotency keys whose records another transaction holds."""
    unexpectedly_hard: list[CounterId] = field(default_factory=list)
    """Counters under a hard limit that the terms, read some time ago, do not have."""
    busy: list[BusyShard] = field(default_factory=list)
    """Shards that were busy at the last try, of counters that may use others."""
    is_waiting: bool = False
    """Whether the last try met a busy store."""
    waits: int = 0
    """Since the last commit, or since there were more shards to choose among."""
    counters_at_once: int = MAX_COUNTERS
    """At most so many in one transaction: one busy counter cancels what goes to all of them."""

    @property
    def open(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.outcome is None]

    def hard_limit(self, entry: Entry) -> int | None:
        return None if self.counters[entry.counter].is_soft else entry.terms.hard_limit


class ReadTerms(NamedTuple):
    """Read the organization and its plan as they are stored now."""


class ReadCounters(NamedTuple):
    """Read the totals of counters whose hard limits may refuse something."""

    counters: list[CounterId]


class Commit(NamedTuple):
    """Record these usages in one transaction."""

    additions: list[Addition]


class BackOff(NamedTuple):
    """Wait, for longer with each `attempt`; choose among more shards where some were busy."""

    attempt: int
    busy: list[BusyShard]
    releases_keys: bool
    """Whether busy records are tried again after it, because nothing else is left to try."""


class FindRecords(NamedTuple):
    """Look for the records of usages that may not be recorded now: they may have been recorded before."""

    usages: list[Usage]


Step: TypeAlias = ReadTerms | ReadCounters | Commit | BackOff | FindRecords
# Which shard of a counter to add to; not the given one, which was busy, if there is a choice.
ChooseShard: TypeAlias = Callable[[CounterId, int | None], int]


def next_step(batch: Batch, choose_shard: ChooseShard) -> Step | None:
    """The next step for what is open; None if nothing is."""
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
    """Counters whose hard limit may refuse something. What fits in any case needs no read."""
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
    """What may be recorded now, by counter and in input order: allowed, fitting, and not in another transaction.

    With a hard limit of 10, of k1:9, k2:3, k2:1, k3:1 the first goes now. k2:3 does not fit behind it, but may once k1
    turns out to be a replay. Until then k2:1 waits for its key. k3:1 waits, too: k2:1 may take its room.
    """
    # By idempotency key: the content of the first usage that may be recorded under it.
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
            # Wait for the first one's outcome. Other content may then take room under a hard limit.
            if limit is not None and claimed[usage.idempotency_key] != usage.fingerprint:
                blocked.add(name)
            continue
        if limit is not None and counter.at_least + wanted[name] + usage.quantity > limit:
            # It may still fit, if an earlier usage turns out to be a replay or the counter to be soft. Until then
            # nothing else may take its key.
            if counter.is_unanswered or counter.at_least + usage.quantity <= limit:
                claimed[usage.idempotency_key] = usage.fingerprint
            continue
        claimed[usage.idempotency_key] = usage.fingerprint
        if usage.idempotency_key in batch.busy_keys:
            # Later records must not take its room.
            if limit is not None:
                blocked.add(name)
        elif name not in blocked:
            wanted[name] += usage.quantity
            chosen[name].append(entry)
    return chosen


def _packed(batch: Batch, chosen: dict[CounterId, list[Entry]], choose_shard: ChooseShard) -> list[Addition]:
    """As much as one transaction takes, counter by counter, because each costs an update in every transaction.

    Counters that were busy come last, so that they delay no other.
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
        # Under a hard limit, the first shard holds all of the counter.
        shard = choose_shard(name, counter.busy_shard) if limit is None else FIRST_SHARD
        additions.append(Addition(name, [entry.usage for entry in entries], shard, limit, counter.lifts_limit))
    return additions


def apply_terms(batch: Batch, terms: Mapping[str, Terms]) -> None:
    """The terms as they are stored now, by feature. A refused usage keeps the terms that refused it."""
    for entry in batch.entries:
        if entry.outcome is None or isinstance(entry.outcome, Recorded):
            entry.terms = terms[entry.usage.feature]
    # A counter that has a hard limit by these terms is added to under it, and so keeps it.
    for name in batch.unexpectedly_hard:
        batch.counters[name].lifts_limit = True
    batch.unexpectedly_hard.clear()


def apply_counter(batch: Batch, name: CounterId, page: FirstPage | MalformedItem | None) -> None:
    """A counter was read; None: the store did not answer."""
    counter = batch.counters[name]
    if page is None:
        # What fits goes on, because its transaction checks the limit. Only likely refusals wait for this read.
        counter.is_unanswered = True
    elif isinstance(page, MalformedItem):
        apply_malformed(batch, name, page)
    else:
        counter.at_least, counter.is_read, counter.is_known = page.total, True, True
        counter.is_soft = counter.is_soft or page.is_soft


def apply_malformed(batch: Batch, name: CounterId, malformed: MalformedItem) -> None:
    """A counter cannot be read or added to: that is the outcome of all open usages on it."""
    for entry in batch.open:
        if entry.counter == name:
            entry.outcome = malformed


def apply_commit(batch: Batch, additions: Sequence[Addition]) -> None:
    """The additions were committed."""
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
    """The transaction of the additions was cancelled, and nothing of it was written."""
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
    # Another transaction on one of the records most likely has the same usages: that says nothing about the counters.
    if cancelled.busy_records:
        return
    for addition in additions:
        throttled = cancelled.busy_shards.get(addition.counter)
        if throttled is not None:
            batch.counters[addition.counter].busy_shard = addition.shard
            if addition.hard_limit is None:
                batch.busy.append(BusyShard(addition.counter, addition.shard, throttled))


def apply_unanswered(batch: Batch) -> None:
    """The store did not answer. The transaction may be committed: the next try finds each usage by its event id."""
    batch.is_waiting = True


def apply_wait(batch: Batch, step: BackOff, *, is_wider: bool) -> None:
    """A wait is over; `is_wider`: there are more shards to choose among, so the next try is a first one."""
    batch.waits = 1 if is_wider else batch.waits + 1
    batch.is_waiting = False
    batch.busy = []
    if step.releases_keys:
        batch.busy_keys.clear()
    _outdate_totals(batch)
    for counter in batch.counters.values():
        counter.is_unanswered = False


def apply_found(batch: Batch, usages: Sequence[Usage], found: FoundRecords) -> None:
    """What the table has under these keys. Usage that is there stays acknowledged; the rest is not recorded."""
    for stored in found.stored:
        _settle(batch, stored)
    _settle_malformed(batch, found.malformed)
    keys = {usage.idempotency_key for usage in usages}
    for entry in batch.open:
        if entry.usage.idempotency_key in keys:
            entry.outcome = _not_recorded(entry)


def apply_deadline(batch: Batch, unavailable: Unavailable) -> None:
    """The deadline came: what is open may or may not have been recorded."""
    for entry in batch.open:
        entry.outcome = unavailable


def _outdate_totals(batch: Batch) -> None:
    """Others may have added to the counters since they were read."""
    for counter in batch.counters.values():
        counter.is_read = False


def _settle(batch: Batch, stored: StoredUsage) -> None:
    """Give every open usage with the key of this record its outcome."""
    key, event_id = stored.usage.idempotency_key, stored.usage.event_id
    if stored.shard is not None:
        # It may have been added after the counter was read.
        batch.counters[stored.usage.counter].is_read = False
    alike = [entry for entry in batch.open if entry.usage.idempotency_key == key]
    ids = [entry.usage.event_id for entry in alike]
    position = ids.index(event_id) if event_id in ids else 0
    # Those before the recorded one may not be recorded, or did not fit.
    for entry in alike[:position]:
        entry.outcome = _not_recorded(entry)
    for entry in alike[position:]:
        entry.outcome = match_record(stored, entry.usage) or KeyReused()


def _settle_malformed(batch: Batch, malformed: Mapping[str, MalformedItem]) -> None:
    """A record that cannot be read is the outcome of the usages with its key, and of no others."""
    for entry in batch.open:
        if entry.usage.idempotency_key in malformed:
            entry.outcome = malformed[entry.usage.idempotency_key]


def _not_recorded(entry: Entry) -> InvalidRequest | OverLimit:
    return entry.terms.problem or OverLimit()
