"""The command RecordUsage: what happens to one usage between its validation and its answer."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from metering.model.errors import FeatureUnknown, OrganizationInactive, OrganizationUnknown, Refused
from metering.model.organizations import feature_of
from metering.model.periods import billing_period_of, expiry
from metering.model.usage import Usage
from metering.storage import ledger
from metering.storage.counter_items import FIRST_SHARD
from metering.storage.ledger import Addition, Recorded
from metering.storage.retry import Effort, until_answered, until_free
from metering.storage.signals import Contended, CounterIsHard, CounterIsSoft, LimitExceeded, StoreBusy
from metering.usage.counters import Counters
from metering.usage.organization_cache import Directory

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
    counters: Counters
    retention: timedelta
    reject_unknown_features: bool = False
    """Whether a feature that neither the organization nor any plan knows is refused."""


def record_usage(command: RecordUsage, books: Books, effort: Effort, now: datetime) -> UsageRecorded | UsageRefused:
    """Record the usage as of `now`, or find it recorded, or refuse it at a hard limit.

    Raises:
        OrganizationUnknown, OrganizationInactive, FeatureUnknown: nothing was recorded under this key, now or before.
        KeyReused: the key belongs to other content.
        Unavailable: the deadline came first; the usage may have been recorded.
    """
    # Fixed once per request: a second try after midnight still means the usage of before, and finds it by its id.
    usage = usage_of(command, books.retention, now)
    books.directory.enter(usage.billing_period)
    terms = terms_of([usage], books, effort)[usage.feature]
    try:
        recorded = _record_on(terms, usage, books, effort)
    except CounterIsHard:
        # The terms were remembered from before the limit. A hard limit ends by what is stored now, by no memory.
        terms = terms_of([usage], books, effort, now=True)[usage.feature]
        recorded = _record_on(terms, usage, books, effort, lifts=True)
    if isinstance(recorded, UsageRefused):
        return recorded
    # A crash here loses the answer and nothing else: the retry is a replay.
    until_free([recorded], partial(ledger.confirm, books.client, books.table), effort)
    total = books.counters.total(recorded.usage.counter, effort, at_once=recorded.replayed)
    return UsageRecorded(recorded.usage, recorded.replayed, total, terms.limit)


def usage_of(command: RecordUsage, retention: timedelta, now: datetime) -> Usage:
    """The usage that the command means, as of `now`, with an id of its own."""
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


class Terms(NamedTuple):
    """What the organization's state and plan say of its new usage of a feature."""

    refusal: Refused | None = None
    """Why it is not recorded."""
    limit: int | None = None
    hard: bool = False

    @property
    def hard_limit(self) -> int | None:
        return self.limit if self.hard else None


# Of so many unknown features a request is told what they may have been meant to be: each takes milliseconds to find.
_SUGGESTED = 5


def terms_of(usages: Sequence[Usage], books: Books, effort: Effort, *, now: bool = False) -> dict[str, Terms]:
    """The terms on which these usages, all of one organization, may be recorded, by feature.

    They are those of at most a minute ago, or, if wanted, those of `now`: read again, consistently.

    Raises:
        Unavailable: the deadline came first.
    """
    name, features = usages[0].organization, dict.fromkeys(usage.feature for usage in usages)
    find = books.directory.find_now if now else books.directory.find
    entry = until_answered(partial(find, name), effort)
    if entry is None:
        return dict.fromkeys(features, Terms(OrganizationUnknown()))
    organization, plan = entry
    held = {feature: feature_of(organization, plan, feature) for feature in features}
    terms = {feature: Terms() if each is None else Terms(None, each.limit, each.hard) for feature, each in held.items()}
    if not organization.active:
        return {feature: each._replace(refusal=OrganizationInactive()) for feature, each in terms.items()}
    if books.reject_unknown_features and None in held.values():
        known = until_answered(books.directory.known_features, effort)
        unknown = [feature for feature, each in held.items() if each is None and feature not in known]
        for number, feature in enumerate(unknown):
            terms[feature] = Terms(FeatureUnknown(feature, known if number < _SUGGESTED else ()))
    return terms


def _record_on(
    terms: Terms, usage: Usage, books: Books, effort: Effort, *, lifts: bool = False
) -> Recorded | UsageRefused:
    """Record on these terms. If they have no hard limit, one on the counter ends if this `lifts` it.

    Raises:
        Refused: the terms', and nothing was recorded under the key.
        CounterIsHard: there is a hard limit on the counter that the terms do not have, and this does not lift it.
    """
    if terms.refusal is not None:
        # Usage once counted is acknowledged for ever after: only a new key meets what the clock, the organization's
        # state or a plan says.
        recorded = _found(usage, books, effort)
        if recorded is None:
            raise terms.refusal
        return recorded
    if terms.hard_limit is not None:
        return _record_within(terms.hard_limit, usage, books, effort)
    return _record(usage, books, effort, lifts=lifts)


def _record_within(limit: int, usage: Usage, books: Books, effort: Effort) -> Recorded | UsageRefused:
    """Record under a hard limit."""
    try:
        if usage.quantity > limit:
            return _too_large(usage, books, effort)
        return _record(usage, books, effort, limit)
    except CounterIsSoft:
        # Soft turned hard holds from the next period on.
        return _record(usage, books, effort)
    except LimitExceeded as full:
        # No documentation says that a cancellation gives the reasons of all items: the record itself decides.
        return _found(usage, books, effort) or UsageRefused(usage, full.total, limit)


def _too_large(usage: Usage, books: Books, effort: Effort) -> Recorded:
    """What becomes of more at once than a hard limit has for a whole period: it is refused before any transaction.

    Raises:
        LimitExceeded: unless it is stored already.
        CounterIsSoft: it is new, and no hard limit holds in this period.
    """
    if not until_answered(lambda: books.counters.is_soft(usage.counter), effort):
        raise LimitExceeded(books.counters.total(usage.counter, effort, at_once=True))
    raise CounterIsSoft


def _record(
    usage: Usage, books: Books, effort: Effort, hard_limit: int | None = None, *, lifts: bool = False
) -> Recorded:
    held: int | None = None
    attempt = 0
    while True:
        effort.check()
        # Under a hard limit, all of the counter is in the first shard.
        shard = FIRST_SHARD if hard_limit is not None else books.counters.shard(usage.counter, effort.random, held)
        try:
            recorded = ledger.record(books.client, books.table, Addition([usage], shard, hard_limit, lifts))
        except (Contended, StoreBusy) as busy:  # also when it did land: the next try finds it by its event id
            effort.conflicts += isinstance(busy, Contended)
            if busy.on_counter and hard_limit is None:
                held = shard
                throttled = isinstance(busy, StoreBusy)
                if books.counters.turned_away(usage.counter, shard, effort, throttled=throttled):
                    # Those who wait all wait for the same few shards. Among more, the next try is a first one.
                    attempt = 0
            effort.back_off(attempt)
            attempt += 1
        else:
            if not recorded.replayed:
                books.counters.landed(usage.counter, shard, usage.quantity)
            return recorded


def _found(usage: Usage, books: Books, effort: Effort) -> Recorded | None:
    return until_answered(lambda: ledger.find(books.client, books.table, usage), effort)
