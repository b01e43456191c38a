"""The watcher function: notices when usage reaches a limit, or a threshold of it, and remembers that once.

Reads the table's stream: whenever a counter, an organization or a plan changes, what it changes about limits is looked
at anew. What is noticed is stored; the publisher makes the event of it.

Environment: TABLE_NAME; RETENTION_DAYS (400), for which a notice is kept.
"""

import gc

# Imports make much and hardly any garbage: looking for it would take a tenth of the cold start.
gc.disable()

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import botocore.session
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from metering.errors import MalformedItem
from metering.items import (
    BILLING_PERIOD_PATTERN,
    COUNTER_PREFIX,
    FEATURE_PATTERN,
    ORGANIZATION_PATTERN,
    ORGANIZATION_PREFIX,
    billing_period_of,
    counter_partition,
    counter_prefix,
    expiry,
    organization_key,
    text_in,
)
from metering.notices import Notice, notice_item, thresholds
from metering.plans import (
    BY_PLAN,
    PLAN_PREFIX,
    Feature,
    Organization,
    Plan,
    features_of,
    organization_from_item,
    plan_from_item,
    plan_key,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_CONNECT_S, _READ_S, _TRIES = 1.0, 4.0, 3
CONFIG = Config(
    connect_timeout=_CONNECT_S,
    read_timeout=_READ_S,
    retries={"mode": "standard", "total_max_attempts": _TRIES},
    tcp_keepalive=True,
)
# Left of the invocation when the next subject is begun: its calls, at their slowest, do not all fail.
RESERVE_S = 2 * _TRIES * (_CONNECT_S + _READ_S)
# A bound on memory; a notice that is forgotten is put once more, in vain.
_MOST_REMEMBERED = 100_000


@dataclass
class Watch:
    """What is watched, and what watching needs from outside."""

    client: "DynamoDBClient"
    table: str
    retention: timedelta
    now: Callable[[], datetime]
    logger: Logger
    metrics: Metrics
    noticed: set[tuple[str, str]] = field(default_factory=set)
    """Keys of notices that are known to be there."""


@dataclass(frozen=True)
class _Subject:
    """Whose usage may be at another distance from its limits than before."""

    organization: str = ""
    plan: str = ""
    """All organizations that are on it."""
    feature: str = ""
    """Empty: each of the organization's features."""
    billing_period: str = ""
    """Empty: the present one."""


class _Looking:
    """One batch's look at the table: organizations and plans are read once, after the changes that led to it."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._organizations: dict[str, Organization | None] = {}
        self._plans: dict[str, Plan | None] = {}

    def notice(self, subject: _Subject) -> None:
        if subject.plan:
            for organization in _on_plan(self._watch, subject.plan):
                self._notice_all(organization, "", subject.billing_period)
        else:
            self._notice_all(subject.organization, subject.feature, subject.billing_period)

    def _notice_all(self, name: str, only: str, billing_period: str) -> None:
        organization = self._organization(name)
        if organization is None:
            return
        period = billing_period or billing_period_of(self._watch.now())
        plan = None if organization.plan is None else self._plan(organization.plan)
        for feature_name, feature in features_of(organization, plan).items():
            if feature.limit is not None and only in ("", feature_name):
                _notice(self._watch, name, feature_name, feature, period)

    def _organization(self, name: str) -> Organization | None:
        if name not in self._organizations:
            item = _read(self._watch, organization_key(name))
            self._organizations[name] = None if item is None else organization_from_item(item)
        return self._organizations[name]

    def _plan(self, name: str) -> Plan | None:
        if name not in self._plans:
            item = _read(self._watch, plan_key(name))
            self._plans[name] = None if item is None else plan_from_item(item)
        return self._plans[name]


def look(records: Sequence[Mapping[str, Any]], watch: Watch, remaining_s: Callable[[], float]) -> str | None:
    """Notice what the stream records may have brought to a threshold.

    Each subject is looked at once, however many records tell of it, after the last of them. A crash anywhere in here
    makes Lambda send the same batch again: what was noticed is there, and noticed no second time.

    Returns: the sequence number of the first record whose subject could not be looked at, or None if all are done.
    """
    first_told: dict[_Subject, str] = {}
    for record in records:
        for subject in _subjects(record, watch):
            first_told.setdefault(subject, str(record["dynamodb"]["SequenceNumber"]))
    looking = _Looking(watch)
    for subject, sequence_number in first_told.items():
        if remaining_s() < RESERVE_S:
            return sequence_number
        try:
            looking.notice(subject)
        except MalformedItem as malformed:
            # Whoever mends the item changes it, and we look again.
            _count(watch, "ItemsMalformed")
            facts = {"reason": str(malformed), "subject": repr(subject)}
            watch.logger.error("an item is malformed", extra=facts)  # noqa: TRY400 - expected
        except (BotoCoreError, ClientError) as error:
            watch.logger.warning("batch returned to the stream", extra={"cause": type(error).__name__})
            return sequence_number
    return None


def _subjects(record: Mapping[str, Any], watch: Watch) -> Iterator[_Subject]:
    keys = record["dynamodb"]["Keys"]
    try:
        pk = text_in(keys, "pk")
        if pk.startswith(ORGANIZATION_PREFIX):
            yield _Subject(organization=pk.removeprefix(ORGANIZATION_PREFIX))
        elif pk.startswith(PLAN_PREFIX):
            yield _Subject(plan=pk.removeprefix(PLAN_PREFIX))
        elif pk.startswith(COUNTER_PREFIX):
            pattern = rf"{COUNTER_PREFIX}{ORGANIZATION_PATTERN}#{BILLING_PERIOD_PATTERN}"
            _, organization, billing_period = text_in(keys, "pk", pattern).split("#")
            feature, _ = text_in(keys, "sk", rf"{FEATURE_PATTERN}#[0-9]+").split("#")
            yield _Subject(organization=organization, feature=feature, billing_period=billing_period)
    except MalformedItem as malformed:
        _count(watch, "ItemsMalformed")
        watch.logger.error("a key is malformed", extra={"reason": str(malformed)})  # noqa: TRY400 - expected


def _notice(watch: Watch, organization: str, name: str, feature: Feature, billing_period: str) -> None:
    if feature.limit is None:
        return
    total = _total(watch, organization, name, billing_period)
    now = watch.now()
    for percentage in thresholds(feature, total):
        notice = Notice(
            organization=organization,
            feature=name,
            billing_period=billing_period,
            limit=feature.limit,
            percentage=percentage,
            current_usage=total,
            noticed_at=now.replace(microsecond=now.microsecond // 1000 * 1000),
            event_id=str(uuid.uuid4()),
            expires_at=expiry(now, watch.retention),
        )
        _put_if_absent(watch, notice)


def _put_if_absent(watch: Watch, notice: Notice) -> None:
    item = notice_item(notice)
    key = (item["pk"]["S"], item["sk"]["S"])
    if key in watch.noticed:
        return
    try:
        # Whoever is first decides the event's id. A crash after this line loses nothing: the stream has the notice.
        watch.client.put_item(TableName=watch.table, Item=item, ConditionExpression="attribute_not_exists(pk)")
    except watch.client.exceptions.ConditionalCheckFailedException:
        pass
    else:
        _count(watch, "ThresholdsReached")
        facts = {"feature": notice.feature, "limit": notice.limit, "percentage": notice.percentage}
        watch.logger.info("threshold reached", extra={"organization": notice.organization, **facts})
    if len(watch.noticed) >= _MOST_REMEMBERED:
        watch.noticed.clear()
    watch.noticed.add(key)


def _total(watch: Watch, organization: str, feature: str, billing_period: str) -> int:
    pages = watch.client.get_paginator("query").paginate(
        TableName=watch.table,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :feature)",
        ExpressionAttributeValues={
            ":pk": {"S": counter_partition(organization, billing_period)},
            ":feature": {"S": counter_prefix(feature)},
        },
        ProjectionExpression="#total",
        ExpressionAttributeNames={"#total": "total"},
        ConsistentRead=True,
    )
    return sum(int(shard["total"]["N"]) for page in pages for shard in page["Items"])


def _on_plan(watch: Watch, plan: str) -> Iterable[str]:
    """The organizations on this plan. One that has just come to it may be missing: its own change tells of it."""
    pages = watch.client.get_paginator("query").paginate(
        TableName=watch.table,
        IndexName=BY_PLAN,
        KeyConditionExpression="planId = :plan",
        ExpressionAttributeValues={":plan": {"S": plan}},
    )
    return (item["pk"]["S"].removeprefix(ORGANIZATION_PREFIX) for page in pages for item in page["Items"])


def _read(watch: Watch, key: Any) -> Any:
    return watch.client.get_item(TableName=watch.table, Key=key, ConsistentRead=True).get("Item")


def _count(watch: Watch, what: str, value: int = 1) -> None:
    watch.metrics.add_metric(name=what, unit=MetricUnit.Count, value=value)


def watch_from_environment() -> Watch:
    """What the function's environment variables describe."""
    session: Any = botocore.session.get_session()
    return Watch(
        client=session.create_client("dynamodb", config=CONFIG),
        table=os.environ["TABLE_NAME"],
        retention=timedelta(days=int(os.environ.get("RETENTION_DAYS", "400"))),
        now=lambda: datetime.now(UTC),
        logger=Logger(),
        metrics=Metrics(),
    )


_WATCH = watch_from_environment()

# What is there now stays, and no later collection need look at it.
gc.freeze()
gc.enable()


def respond(event: dict[str, Any], context: LambdaContext, watch: Watch) -> dict[str, Any]:
    """Look at one batch of the stream; the answer is Lambda's partial batch response."""
    records: list[dict[str, Any]] = event["Records"]
    try:
        _count(watch, "RecordsWatched", len(records))
        first_not_done = look(records, watch, lambda: context.get_remaining_time_in_millis() / 1000)
    finally:
        watch.metrics.flush_metrics()
    return {"batchItemFailures": [] if first_not_done is None else [{"itemIdentifier": first_not_done}]}


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """AWS Lambda's entry."""
    return respond(event, context, _WATCH)
