"""The command RecordUsage: what happens to one usage between its validation and its answer."""

import itertools
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from metering import ledger, shards
from metering.directory import Directory
from metering.errors import (
    Contended,
    CounterIsSoft,
    FeatureUnknown,
    LimitExceeded,
    OrganizationInactive,
    OrganizationUnknown,
    Refused,
    StoreBusy,
)
from metering.items import FIRST_SHARD, Usage, billing_period_of, expiry
from metering.ledger import Recorded
from metering.plans import Feature, Organization, feature_of
from metering.retry import Effort, until_answered

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# A bound on memory; forgetting one costs a read at its next conflict.
_MOST_SOFT_COUNTERS = 10_000


@dataclass(frozen=True)
class RecordUsage:
    """Record that `organization` used `quantity` of `feature`, once per idempotency key."""

    organization: str
    feature: str
    quantity: int
    idempotency_key: str
    fingerprint: str
    """What tells a retry from another usage under the same key."""
    trace_id: str
    source_id: str | None = None
    source_type: str | None = None
    metadata: str | None = None


@dataclass(frozen=True)
class UsageRecorded:
    """The usage that stands in the ledger, and its feature's total in the usage's own billing period."""

    usage: Usage
    replayed: bool
    current_usage: int
    limit: int | None
    """What the organization's plan has for the feature now; None: no limit."""


@dataclass(frozen=True)
class UsageRefused:
    """The usage did not fit a hard limit. Nothing of it was stored, and its key is still free."""

    usage: Usage
    current_usage: int
    limit: int


@dataclass(frozen=True)
class Books:
    """Where usage is recorded, and for how long a record keeps its key taken."""

    client: "DynamoDBClient"
    table: str
    directory: Directory
    retention: timedelta
    reject_unknown_features: bool = False
    """Whether a feature that neither the organization nor any plan knows is refused."""
    soft_counters: set[str] = field(default_factory=set)
    """Counters that are known to spread over shards."""


def record_usage(command: RecordUsage, books: Books, effort: Effort, now: datetime) -> UsageRecorded | UsageRefused:
    """Record the usage as of `now`, or find it recorded, or refuse it at a hard limit.

    Raises:
        OrganizationUnknown, OrganizationInactive, FeatureUnknown: nothing was recorded under this key, now or before.
        KeyReused: the key belongs to other content.
        Unavailable: the deadline came first; the usage may have been recorded.
    """
    # Fixed once per request: a second try after midnight still means the usage of before, and finds it by its id.
    usage = _usage(command, books.retention, now)
    books.directory.enter(usage.billing_period)
    organization = until_answered(lambda: books.directory.organization(usage.organization), effort)
    feature = None if organization is None else until_answered(lambda: _feature(organization, usage, books), effort)
    limit = None if feature is None else feature.limit
    refusal = until_answered(lambda: _refusal(organization, feature, usage, books), effort)
    if refusal is not None:
        # Usage once counted is acknowledged for ever after: only a new key meets what the clock, the organization's
        # state or a plan says.
        recorded = _found(usage, books, effort)
        if recorded is None:
            raise refusal
    elif feature is not None and feature.hard and limit is not None:
        try:
            recorded = _record_within(limit, usage, books, effort)
        except LimitExceeded as full:
            return UsageRefused(usage, full.total, limit)
    else:
        recorded = _record(usage, books, effort)
    # A crash here loses the answer and nothing else: the retry is a replay.
    return UsageRecorded(recorded.usage, recorded.replayed, _total(recorded.usage, books, effort), limit)


def _usage(command: RecordUsage, retention: timedelta, now: datetime) -> Usage:
    # Milliseconds are what is stored and published; more would be lost on the way.
    recorded_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return Usage(
        organization=command.organization,
        feature=command.feature,
        quantity=command.quantity,
        idempotency_key=command.idempotency_key,
        fingerprint=command.fingerprint,
        # Random, not derived from the key: when a key is free again, its next usage is another fact.
        event_id=str(uuid.uuid4()),
        recorded_at=recorded_at,
        billing_period=billing_period_of(recorded_at),
        expires_at=expiry(recorded_at, retention),
        trace_id=command.trace_id,
        source_id=command.source_id,
        source_type=command.source_type,
        metadata=command.metadata,
    )


def _feature(organization: Organization, usage: Usage, books: Books) -> Feature | None:
    return feature_of(organization, books.directory.plan_of(organization), usage.feature)


def _refusal(organization: Organization | None, feature: Feature | None, usage: Usage, books: Books) -> Refused | None:
    if organization is None:
        return OrganizationUnknown()
    if not organization.active:
        return OrganizationInactive()
    if feature is None and books.reject_unknown_features:
        known = books.directory.known_features()
        if usage.feature not in known:
            return FeatureUnknown(usage.feature, known)
    return None


def _record_within(limit: int, usage: Usage, books: Books, effort: Effort) -> Recorded:
    """Record under a hard limit.

    Raises:
        LimitExceeded: it does not fit, and is new.
    """
    try:
        if usage.quantity > limit:
            return _too_large(usage, books, effort)
        return _record(usage, books, effort, limit)
    except CounterIsSoft:
        # Soft turned hard holds from the next period on.
        return _record(usage, books, effort)


def _too_large(usage: Usage, books: Books, effort: Effort) -> Recorded:
    """What becomes of more at once than a hard limit has for a whole period: it is refused before any transaction.

    Returns: what was recorded before, when the limit was another.
    Raises:
        LimitExceeded: it is new.
        CounterIsSoft: it is new, and no hard limit holds in this period.
    """
    recorded = _found(usage, books, effort)
    if recorded is not None:
        return recorded
    if _is_soft(usage, books, effort):
        raise CounterIsSoft
    raise LimitExceeded(_total(usage, books, effort))


def _record(usage: Usage, books: Books, effort: Effort, hard_limit: int | None = None) -> Recorded:
    shard = FIRST_SHARD
    conflicts_on_counter = 0
    for attempt in itertools.count():
        effort.check()
        try:
            return ledger.record(books.client, books.table, usage, shard, hard_limit)
        except Contended as contended:
            effort.conflicts += 1
            if contended.on_counter and hard_limit is None and _is_soft(usage, books, effort):
                conflicts_on_counter += 1
                shard = shards.another_shard(conflicts_on_counter, shard, effort.random)
        except StoreBusy:
            pass  # also when it did land: the next try finds it by its event id
        effort.back_off(attempt)
    raise AssertionError("itertools.count() ended")


def _is_soft(usage: Usage, books: Books, effort: Effort) -> bool:
    """Whether the counter was begun without a hard limit: it may spread over shards, and none holds in its period."""
    counter = f"{usage.organization}#{usage.billing_period}#{usage.feature}"
    if counter not in books.soft_counters:
        if not until_answered(lambda: ledger.is_soft(books.client, books.table, usage), effort):
            return False
        if len(books.soft_counters) >= _MOST_SOFT_COUNTERS:
            books.soft_counters.clear()
        books.soft_counters.add(counter)
    return True


def _found(usage: Usage, books: Books, effort: Effort) -> Recorded | None:
    return until_answered(lambda: ledger.find(books.client, books.table, usage), effort)


def _total(usage: Usage, books: Books, effort: Effort) -> int:
    counter = (usage.organization, usage.billing_period, usage.feature)
    return until_answered(lambda: ledger.total(books.client, books.table, *counter), effort)
