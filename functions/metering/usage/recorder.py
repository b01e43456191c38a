"""Recording usage: from validated commands to their outcomes. A single command is a batch of one.

    terms     read the organization's entitlements, or the reason why nothing is recorded
    settle    plan, commit, apply, until every usage has its outcome; `batch` plans and applies
    totals    confirm the records that were found, and sum the counters for the answers

A crash at any step loses only the answer. When the caller retries, recorded usage is a replay.
"""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from metering.model.errors import FeatureUnknown, InvalidRequest, OrganizationInactive, OrganizationUnknown, Unavailable
from metering.model.moments import whole_milliseconds
from metering.model.organizations import entitlement_of
from metering.model.periods import billing_period_of, expiry
from metering.model.usage import CounterId, Usage
from metering.storage import ledger
from metering.storage.counter_pages import FirstPage
from metering.storage.ledger import Addition, Cancellation, Recorded
from metering.storage.retry import RetryBudget, until_answered, until_free
from metering.storage.signals import MalformedItem, StoreBusy
from metering.usage import batch as batches
from metering.usage.batch import BackOff, Batch, Commit, Entry, FindRecords, OverLimit, ReadCounters, ReadTerms, Terms
from metering.usage.counters import Counters
from metering.usage.organization_cache import OrganizationCache

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Each step gives a usage its outcome, learns about a limit, or waits. With waits alone, the deadline comes much sooner.
# So only a bug in the planning reaches this bound. The bound keeps the bug from loading the table until the deadline.
_MAX_STEPS = 200
_OF_THE_ORGANIZATION = OrganizationUnknown | OrganizationInactive
# Only the first unknown features of a batch get a suggestion, because each suggestion takes milliseconds.
_MAX_SUGGESTIONS = 5


@dataclass(frozen=True)
class RecordUsage:
    """Record once, for its idempotency key, that `organization` used `quantity` of `feature`."""

    organization: str
    feature: str
    quantity: int
    idempotency_key: str
    fingerprint: str
    """Distinguishes a retry from other content under the same key."""
    trace_id: str
    source_id: str | None = None
    source_type: str | None = None
    metadata: str | None = None


class Accepted(NamedTuple):
    """Usage that this request or an earlier one recorded."""

    usage: Usage
    replayed: bool
    current_usage: int | None
    """The feature's total in the usage's billing period, after the batch. None: not read before the deadline."""
    limit: int | None
    """The feature's limit now. None: no limit."""


class RefusedByLimit(NamedTuple):
    """Usage that does not fit a hard limit. Nothing was stored, and its idempotency key is still free."""

    usage: Usage
    current_usage: int | None
    limit: int | None


# The errors are those of `batch.EntryOutcome`.
Outcome: TypeAlias = Accepted | RefusedByLimit | InvalidRequest | Unavailable | MalformedItem


@dataclass(frozen=True)
class RecordDeps:
    """The recorder's dependencies and settings."""

    client: "DynamoDBClient"
    table: str
    organizations: OrganizationCache
    counters: Counters
    retention: timedelta
    """How long a record reserves its idempotency key."""
    reject_unknown_features: bool = False
    """Whether usage of a feature that neither the organization nor any plan has is an invalid request."""


def record_usages(
    commands: Sequence[RecordUsage], deps: RecordDeps, budget: RetryBudget, now: datetime
) -> list[Outcome]:
    """Record each usage once. The commands are of one organization, and `now` is the time of recording for all.

    Returns: one outcome for each command, in their order.
    Raises:
        OrganizationUnknown, OrganizationInactive: neither this request nor an earlier one recorded any of the usages.
        Unavailable: the deadline came before any usage was tried.
    """
    if not commands:
        return []
    # Built once per request, so that a second try after midnight has the same billing period and event ids.
    usages = [usage_of(command, deps.retention, now) for command in commands]
    deps.organizations.start_period(usages[0].billing_period)
    terms = terms_of(usages, deps, budget)
    batch = Batch([Entry(usage, usage.counter, terms[usage.feature]) for usage in usages])
    try:
        _settle(batch, deps, budget)
    except Unavailable as unavailable:
        batches.apply_deadline(batch, unavailable)
    problems = [entry.outcome for entry in batch.entries if isinstance(entry.outcome, _OF_THE_ORGANIZATION)]
    if len(problems) == len(batch.entries):
        raise problems[0]
    totals = _totals(batch, deps, budget)
    return [_outcome(entry, batch, totals) for entry in batch.entries]


def usage_of(command: RecordUsage, retention: timedelta, now: datetime) -> Usage:
    """The command's usage, recorded at `now`, with a new event id."""
    recorded_at = whole_milliseconds(now)
    return Usage(
        organization=command.organization,
        feature=command.feature,
        quantity=command.quantity,
        idempotency_key=command.idempotency_key,
        fingerprint=command.fingerprint,
        # Random, not derived from the key, because an expired key may be used again for another usage.
        event_id=str(uuid.uuid4()),
        recorded_at=recorded_at,
        billing_period=billing_period_of(recorded_at),
        expires_at=expiry(recorded_at, retention),
        trace_id=command.trace_id,
        source_id=command.source_id,
        source_type=command.source_type,
        metadata=command.metadata,
    )


def terms_of(usages: Sequence[Usage], deps: RecordDeps, budget: RetryBudget, *, now: bool = False) -> dict[str, Terms]:
    """The terms for new usage, by feature. They are at most a minute old, or with `now` read from the table.

    Raises:
        Unavailable: the deadline came first.
    """
    name, features = usages[0].organization, dict.fromkeys(usage.feature for usage in usages)
    find = deps.organizations.find_now if now else deps.organizations.find
    found = until_answered(partial(find, name), budget)
    if found is None:
        return dict.fromkeys(features, Terms(OrganizationUnknown()))
    organization, plan = found
    entitlements = {feature: entitlement_of(organization, plan, feature) for feature in features}
    terms = {
        feature: Terms() if each is None else Terms(None, each.limit, each.hard)
        for feature, each in entitlements.items()
    }
    if not organization.active:
        return {feature: each._replace(problem=OrganizationInactive()) for feature, each in terms.items()}
    if deps.reject_unknown_features and None in entitlements.values():
        known = until_answered(deps.organizations.known_features, budget)
        unknown = [feature for feature, each in entitlements.items() if each is None and feature not in known]
        for number, feature in enumerate(unknown):
            terms[feature] = Terms(FeatureUnknown(feature, known if number < _MAX_SUGGESTIONS else ()))
    return terms


def _settle(batch: Batch, deps: RecordDeps, budget: RetryBudget) -> None:
    """Give every usage its outcome.

    Raises:
        Unavailable: the deadline came first. The open usages may be recorded.
    """
    choose_shard = partial(_choose_shard, deps, budget)
    for _ in range(_MAX_STEPS):
        step = batches.next_step(batch, choose_shard)
        match step:
            case None:
                return
            case Commit(additions):
                _commit(batch, additions, deps, budget)
            case ReadCounters(counters):
                for counter in counters:
                    batches.apply_counter(batch, counter, _first_page(counter, deps, budget))
            case ReadTerms():
                usages = [entry.usage for entry in batch.entries]
                batches.apply_terms(batch, terms_of(usages, deps, budget, now=True))
            case BackOff():
                _back_off(batch, step, deps, budget)
            case FindRecords(usages):
                until_free(usages, partial(_find, batch, deps), budget)
    raise Unavailable(retry_after_s=1)


def _choose_shard(deps: RecordDeps, budget: RetryBudget, counter: CounterId, busy: int | None) -> int:
    return deps.counters.shard(counter, budget.random, busy)


def _commit(batch: Batch, additions: Sequence[Addition], deps: RecordDeps, budget: RetryBudget) -> None:
    budget.check()
    try:
        cancelled = ledger.commit_additions(deps.client, deps.table, additions)
    except StoreBusy:
        batches.apply_unanswered(batch)
        return
    if cancelled is None:
        # A crash here loses only the answer. When the caller retries, these usages are replays.
        for addition in additions:
            deps.counters.increment_committed(addition.counter, addition.shard, addition.quantity)
        batches.apply_commit(batch, additions)
        return
    budget.conflicts += cancelled.conflict
    _learn_from_cancellation(deps.counters, additions, cancelled)
    batches.apply_cancellation(batch, additions, cancelled)


def _learn_from_cancellation(counters: Counters, additions: Sequence[Addition], cancelled: Cancellation) -> None:
    """Update `counters` with the shards that a cancelled transaction showed to be written or free."""
    ours = {usage.event_id: addition for addition in additions for usage in addition.usages}
    committed = set()
    for stored in cancelled.stored:
        # An earlier try of this request committed the usage, and the answer was lost.
        if (addition := ours.get(stored.usage.event_id)) is not None:
            counters.increment_committed(addition.counter, addition.shard, stored.usage.quantity)
            committed.add(addition.counter)
    if not cancelled.busy_records:
        for addition in additions:
            if addition.hard_limit is None and addition.counter not in cancelled.busy_shards.keys() | committed:
                counters.shard_available(addition.counter, addition.shard)


def _back_off(batch: Batch, step: BackOff, deps: RecordDeps, budget: RetryBudget) -> None:
    is_wider = False
    for counter, shard, throttled in step.busy:
        try:
            is_wider |= deps.counters.shard_busy(counter, shard, budget, throttled=throttled)
        except MalformedItem as malformed:
            batches.apply_malformed(batch, counter, malformed)
    budget.back_off(0 if is_wider else step.attempt)
    batches.apply_wait(batch, step, is_wider=is_wider)


def _first_page(counter: CounterId, deps: RecordDeps, budget: RetryBudget) -> FirstPage | MalformedItem | None:
    if deps.counters.is_known_soft(counter):
        # No hard limit applies, so the total is not needed.
        return FirstPage(is_soft=True)
    budget.check()
    try:
        return deps.counters.read_first_page(counter)
    except StoreBusy:
        return None
    except MalformedItem as malformed:
        return malformed


def _find(batch: Batch, deps: RecordDeps, usages: Sequence[Usage]) -> Sequence[Usage]:
    """Look for the records of `usages`, and set the usages' outcomes.

    Returns: the usages whose records are busy. If there are any, no outcome is set.
    """
    found = ledger.find_records(deps.client, deps.table, usages)
    if not found.busy:
        batches.apply_found(batch, usages, found)
    return found.busy


def _totals(batch: Batch, deps: RecordDeps, budget: RetryBudget) -> dict[CounterId, int | MalformedItem]:
    """The counters' totals for the answers. Totals that cannot be read before the deadline are missing.

    Records that were found are confirmed first, because a total may not include them yet. A usage whose record cannot
    be confirmed becomes unavailable.
    """
    at_once: dict[CounterId, bool] = defaultdict(bool)
    unconfirmed: dict[CounterId, list[Recorded]] = defaultdict(list)
    for entry in batch.entries:
        if isinstance(entry.outcome, Recorded):
            counter = entry.outcome.usage.counter
            # A replay's total must include usage that another environment has just recorded.
            at_once[counter] |= entry.outcome.replayed
            if entry.outcome.shard is not None:
                unconfirmed[counter].append(entry.outcome)
        elif isinstance(entry.outcome, OverLimit) and not batch.counters[entry.counter].is_read:
            at_once[entry.counter] = True
    totals: dict[CounterId, int | MalformedItem] = {}

    def read(counters: Sequence[CounterId]) -> Sequence[CounterId]:
        if busy := _unconfirmed([each for counter in counters for each in unconfirmed.get(counter, ())], deps, budget):
            return busy
        for counter in counters:
            unconfirmed.pop(counter, None)
        for counter in counters:
            totals[counter] = _total(counter, deps, budget, at_once=at_once[counter])
        return []

    try:
        until_free(list(at_once), read, budget)
    except Unavailable as unavailable:
        for entry in batch.entries:
            found = entry.outcome
            if isinstance(found, Recorded) and found in unconfirmed.get(found.usage.counter, ()):
                entry.outcome = unavailable
    return totals


def _unconfirmed(found: Sequence[Recorded], deps: RecordDeps, budget: RetryBudget) -> Sequence[CounterId]:
    """Counters that may not include some of these usages yet. If there are any, no usage is confirmed."""
    for start in range(0, len(found), ledger.MAX_CONFIRMED):
        budget.check()
        chunk = found[start : start + ledger.MAX_CONFIRMED]
        if busy := ledger.confirm(deps.client, deps.table, chunk):
            return list(dict.fromkeys(each.usage.counter for each in busy))
    return []


def _total(counter: CounterId, deps: RecordDeps, budget: RetryBudget, *, at_once: bool) -> int | MalformedItem:
    try:
        return deps.counters.total(counter, budget, at_once=at_once)
    except MalformedItem as malformed:
        return malformed


def _outcome(entry: Entry, batch: Batch, totals: dict[CounterId, int | MalformedItem]) -> Outcome:
    if entry.outcome is None:
        raise AssertionError("a usage of the batch is open")
    if isinstance(entry.outcome, OverLimit):
        counter = batch.counters[entry.counter]
        total = totals.get(entry.counter, counter.at_least if counter.is_read else None)
        return total if isinstance(total, MalformedItem) else RefusedByLimit(entry.usage, total, entry.terms.limit)
    if isinstance(entry.outcome, Recorded):
        usage, replayed = entry.outcome.usage, entry.outcome.replayed
        total = totals.get(usage.counter)
        # Do not acknowledge the usage while its counter cannot be read.
        return total if isinstance(total, MalformedItem) else Accepted(usage, replayed, total, entry.terms.limit)
    return entry.outcome
