"""The recorder: from validated commands to their outcomes. A single command is a batch of one.

    terms_of        reads the limits of the organization's features, or the reason why new usage is invalid
    _settle         plans, commits and applies until each usage has an outcome; `batch` plans and applies
    _read_totals    confirms the records that were found, then reads the counters' totals for the answers

A crash at any step loses the answer. The caller's retry then records the usage, or is a replay if it was recorded.
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

# Each step sets the outcome of a usage, learns about a limit, or waits. The deadline passes long before 200 waits, so
# only a bug in `batch` takes more steps. Stop then, so that the bug does not load the table until the deadline.
_MAX_STEPS = 200
_ORGANIZATION_ERRORS = OrganizationUnknown | OrganizationInactive
# Only the first unknown features of a batch get a suggestion, because each suggestion takes milliseconds.
_MAX_SUGGESTIONS = 5


@dataclass(frozen=True)
class RecordUsage:
    """The command to record once per idempotency key that `organization` used `quantity` of `feature`."""

    organization: str
    feature: str
    quantity: int
    idempotency_key: str
    fingerprint: str
    """A hash of the content. A retry has the same fingerprint. Other content under the key has a different one."""
    trace_id: str
    source_id: str | None = None
    source_type: str | None = None
    metadata: str | None = None


class Accepted(NamedTuple):
    """Usage that this request or an earlier one recorded."""

    usage: Usage
    replayed: bool
    current_usage: int | None
    """The feature's total in the usage's billing period, after the whole batch.

    None: the deadline passed before the total was read.
    """
    limit: int | None
    """The feature's limit now. None: no limit."""


class RefusedByLimit(NamedTuple):
    """Usage that does not fit a hard limit. Nothing was stored, and its idempotency key is still free."""

    usage: Usage
    current_usage: int | None
    limit: int | None


# InvalidRequest: the key has other content, or the usage is invalid. Unavailable: it is unknown whether the usage is
# recorded. MalformedItem: the stored record or the counter cannot be read.
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
    """Whether usage is an invalid request if no plan and no own limit of the organization has its feature."""


def record_usages(
    commands: Sequence[RecordUsage], deps: RecordDeps, budget: RetryBudget, now: datetime
) -> list[Outcome]:
    """Record each usage once. All commands belong to one organization, and `now` becomes their time of recording.

    Returns: one outcome for each command, in the commands' order.
    Raises:
        OrganizationUnknown, OrganizationInactive: none of the usages is recorded, by this request or an earlier one.
        Unavailable: the deadline passed before the first write.
        MalformedItem: the stored organization or its plan cannot be read.
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
    problems = [entry.outcome for entry in batch.entries if isinstance(entry.outcome, _ORGANIZATION_ERRORS)]
    if len(problems) == len(batch.entries):
        raise problems[0]
    totals = _read_totals(batch, deps, budget)
    return [_outcome_of(entry, batch, totals) for entry in batch.entries]


def usage_of(command: RecordUsage, retention: timedelta, now: datetime) -> Usage:
    """Return the command's usage, recorded at `now`, with a new event id."""
    recorded_at = whole_milliseconds(now)
    return Usage(
        organization=command.organization,
        feature=command.feature,
        quantity=command.quantity,
        idempotency_key=command.idempotency_key,
        fingerprint=command.fingerprint,
        # Random, not derived from the key, because an expired key can be used again for another usage.
        event_id=str(uuid.uuid4()),
        recorded_at=recorded_at,
        billing_period=billing_period_of(recorded_at),
        expires_at=expiry(recorded_at, retention),
        trace_id=command.trace_id,
        source_id=command.source_id,
        source_type=command.source_type,
        metadata=command.metadata,
    )


def terms_of(
    usages: Sequence[Usage], deps: RecordDeps, budget: RetryBudget, *, fresh: bool = False
) -> dict[str, Terms]:
    """Return the terms for new usage, by feature: as stored now if `fresh`, otherwise at most a minute old.

    Raises:
        Unavailable: the deadline passed.
        MalformedItem: the stored organization or its plan cannot be read.
    """
    name, features = usages[0].organization, dict.fromkeys(usage.feature for usage in usages)
    find = deps.organizations.find_now if fresh else deps.organizations.find
    found = until_answered(partial(find, name), budget)
    if found is None:
        return dict.fromkeys(features, Terms(OrganizationUnknown(name)))
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
    """Set the outcome of each usage.

    Raises:
        Unavailable: the deadline passed, or the planning did not end. It is unknown whether the open usages are
            recorded.
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
                    batches.apply_counter(batch, counter, _read_first_page(counter, deps, budget))
            case ReadTerms():
                usages = [entry.usage for entry in batch.entries]
                batches.apply_terms(batch, terms_of(usages, deps, budget, fresh=True))
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
    """Learn from a cancelled transaction which shards have this request's usage, and which shards were not busy."""
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


def _read_first_page(counter: CounterId, deps: RecordDeps, budget: RetryBudget) -> FirstPage | MalformedItem | None:
    if deps.counters.is_known_soft(counter):
        # Without a hard limit, the total decides nothing.
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

    Returns: the usages whose record is locked or throttled. If there are any, no outcome was set: call again.
    """
    found = ledger.find_records(deps.client, deps.table, usages)
    if not found.busy:
        batches.apply_found(batch, usages, found)
    return found.busy


def _read_totals(batch: Batch, deps: RecordDeps, budget: RetryBudget) -> dict[CounterId, int | MalformedItem]:
    """Read the counters' totals for the answers. A total is missing if the deadline passed before its read.

    First confirm the records that this request found instead of writing them. A read of the total can still lack their
    quantities. A usage whose record is not confirmed before the deadline becomes unavailable.
    """
    consistent: dict[CounterId, bool] = defaultdict(bool)
    unconfirmed: dict[CounterId, list[Recorded]] = defaultdict(list)
    for entry in batch.entries:
        if isinstance(entry.outcome, Recorded):
            counter = entry.outcome.usage.counter
            # Another execution environment has possibly just recorded the usage. This one's cache can then lack it.
            consistent[counter] |= entry.outcome.replayed
            if entry.outcome.shard is not None:
                unconfirmed[counter].append(entry.outcome)
        elif isinstance(entry.outcome, OverLimit) and not batch.counters[entry.counter].is_read:
            consistent[entry.counter] = True
    totals: dict[CounterId, int | MalformedItem] = {}

    def read(counters: Sequence[CounterId]) -> Sequence[CounterId]:
        if busy := _confirm([each for counter in counters for each in unconfirmed.get(counter, ())], deps, budget):
            return busy
        for counter in counters:
            unconfirmed.pop(counter, None)
        for counter in counters:
            totals[counter] = _read_total(counter, deps, budget, consistent=consistent[counter])
        return []

    try:
        until_free(list(consistent), read, budget)
    except Unavailable as unavailable:
        for entry in batch.entries:
            found = entry.outcome
            if isinstance(found, Recorded) and found in unconfirmed.get(found.usage.counter, ()):
                entry.outcome = unavailable
    return totals


def _confirm(found: Sequence[Recorded], deps: RecordDeps, budget: RetryBudget) -> Sequence[CounterId]:
    """Make sure that every later total includes these usages.

    Returns: the counters with a usage whose record or shard is busy. If there are any, confirm all usages again.
    """
    for start in range(0, len(found), ledger.MAX_CONFIRMED):
        budget.check()
        chunk = found[start : start + ledger.MAX_CONFIRMED]
        if busy := ledger.confirm(deps.client, deps.table, chunk):
            return list(dict.fromkeys(each.usage.counter for each in busy))
    return []


def _read_total(counter: CounterId, deps: RecordDeps, budget: RetryBudget, *, consistent: bool) -> int | MalformedItem:
    try:
        return deps.counters.total(counter, budget, consistent=consistent)
    except MalformedItem as malformed:
        return malformed


def _outcome_of(entry: Entry, batch: Batch, totals: dict[CounterId, int | MalformedItem]) -> Outcome:
    if entry.outcome is None:
        raise AssertionError("a usage of the batch is open")
    if isinstance(entry.outcome, OverLimit):
        counter = batch.counters[entry.counter]
        total = totals.get(entry.counter, counter.at_least if counter.is_read else None)
        return total if isinstance(total, MalformedItem) else RefusedByLimit(entry.usage, total, entry.terms.limit)
    if isinstance(entry.outcome, Recorded):
        usage, replayed = entry.outcome.usage, entry.outcome.replayed
        total = totals.get(usage.counter)
        # The usage is recorded, but its counter cannot be read. Answer with this error until the counter is repaired.
        return total if isinstance(total, MalformedItem) else Accepted(usage, replayed, total, entry.terms.limit)
    return entry.outcome
