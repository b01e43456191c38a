"""The command RecordUsage: what happens to one usage between its validation and its answer."""

import itertools
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from metering import ledger, shards
from metering.errors import Contended, OrganizationInactive, OrganizationUnknown, Refused, StoreBusy
from metering.items import Usage, billing_period_of, expiry
from metering.ledger import Recorded
from metering.organizations import Organizations
from metering.retry import Effort, until_answered

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


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


@dataclass(frozen=True)
class Books:
    """Where usage is recorded, and for how long a record keeps its key taken."""

    client: "DynamoDBClient"
    table: str
    organizations: Organizations
    retention: timedelta


def record_usage(command: RecordUsage, books: Books, effort: Effort, now: datetime) -> UsageRecorded:
    """Record the usage as of `now`, or find it recorded.

    Raises:
        OrganizationUnknown, OrganizationInactive: nothing was recorded under this key, now or before.
        KeyReused: the key belongs to other content.
        Unavailable: the deadline came first; the usage may have been recorded.
    """
    # Fixed once per request: a second try after midnight still means the usage of before, and finds it by its id.
    usage = _usage(command, books.retention, now)
    status = until_answered(lambda: books.organizations.status(usage.organization), effort)
    if status == "active":
        recorded = _record(usage, books, effort)
    else:
        # Usage once counted is acknowledged for ever after: only a new key meets the organization's state.
        recorded = _recorded_before_or(_refusal(status), usage, books, effort)
    # A crash here loses the answer and nothing else: the retry is a replay.
    current_usage = until_answered(lambda: ledger.total(books.client, books.table, recorded.usage), effort)
    return UsageRecorded(recorded.usage, recorded.replayed, current_usage)


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


def _record(usage: Usage, books: Books, effort: Effort) -> Recorded:
    shard = shards.FIRST_SHARD
    conflicts_on_counter = 0
    for attempt in itertools.count():
        effort.check()
        try:
            return ledger.record(books.client, books.table, usage, shard)
        except Contended as contended:
            effort.conflicts += 1
            if contended.on_counter:
                conflicts_on_counter += 1
                shard = shards.another_shard(conflicts_on_counter, shard, effort.random)
        except StoreBusy:
            pass  # also when it did land: the next try finds it by its event id
        effort.back_off(attempt)
    raise AssertionError("itertools.count() ended")


def _refusal(status: str | None) -> Refused:
    return OrganizationUnknown() if status is None else OrganizationInactive()


def _recorded_before_or(refusal: Refused, usage: Usage, books: Books, effort: Effort) -> Recorded:
    found = until_answered(lambda: ledger.find(books.client, books.table, usage), effort)
    if found is None:
        raise refusal
    return found
