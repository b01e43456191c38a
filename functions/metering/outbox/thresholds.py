"""The check of limits after changes in the table. It stores a notice for each threshold that usage has reached.

A changed counter, organization or plan leads to a check of the limits that the change concerns. The publisher turns
each notice into an event.
"""

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from botocore.exceptions import BotoCoreError, ClientError

from metering.model.errors import MeteringError
from metering.model.moments import whole_milliseconds
from metering.model.notices import REACHED, Notice
from metering.model.organizations import entitlements_of
from metering.model.periods import billing_period_of, expiry
from metering.model.plans import Entitlement
from metering.model.timeouts import Timeouts
from metering.model.usage import CounterId
from metering.outbox.stream_batches import change_in, sequence_number
from metering.storage.attributes import text_in
from metering.storage.consistent_reads import read_item
from metering.storage.counter_items import (
    COUNTER_PREFIX,
    counter_of,
)
from metering.storage.counter_pages import FirstPage, first_pages, page_total
from metering.storage.notice_items import notice_item
from metering.storage.organization_items import ORGANIZATION_PREFIX
from metering.storage.organization_reads import names_on_plan, read_organization_and_plan
from metering.storage.plan_items import PLAN_PREFIX, plan_from_item, plan_key
from metering.storage.signals import MalformedItem, StoreBusy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TIMEOUTS = Timeouts(connect_s=1.0, read_s=4.0, tries=3)
# The check of an organization, or of a counter's next page, starts only if this much time is left. It is enough for two
# calls at their slowest.
RESERVE_S = 2 * TIMEOUTS.slowest_s
# Limits memory. A forgotten notice only costs another put, which changes nothing.
_MAX_CACHED = 100_000
# In place of a feature's name, this value means every feature of the organization.
_EACH = ""


class OutOfTime(MeteringError):
    """The time left in the invocation is possibly too short for the next step. The step did not start."""

    def __init__(self) -> None:
        super().__init__("too little time is left in the invocation")


@dataclass(frozen=True)
class _Subject:
    """An organization or plan whose limits must be checked again."""

    billing_period: str
    organization: str = ""
    plan: str = ""
    """If set, the subject is every organization on this plan, and `organization` is empty."""


@dataclass
class _Changes:
    """The stream records of a batch that concern one subject."""

    sequence_numbers: list[str] = field(default_factory=list)
    features: set[str] = field(default_factory=set)
    """The features whose counters changed, and _EACH if the organization or the plan changed."""


@dataclass(frozen=True)
class _Progress:
    """The progress of the check of all organizations on a plan."""

    sequence_numbers: frozenset[str]
    """The plan's changes before the check began. A later change needs a new check of all organizations."""
    organization: str
    """The last checked organization. The table's index lists a plan's organizations in the order of their keys."""
    is_last: bool = False
    """Whether all organizations on the plan are checked."""


@dataclass
class WatcherDeps:
    """The watcher's dependencies, and its memory in this execution environment."""

    client: "DynamoDBClient"
    table: str
    retention: timedelta
    now: Callable[[], datetime]
    logger: Logger
    metrics: Metrics
    noticed: set[tuple[str, str]] = field(default_factory=set)
    """Keys of stored notices."""
    reached: dict[_Subject, _Progress] = field(default_factory=dict, init=False)
    """The progress of each plan's check, so that the check of a returned batch continues.

    If another execution environment finishes the batch, the entry stays here.
    """


class _LimitCheck:
    """The check of one batch, after the batch's last change. So one read of a counter covers all its changes."""

    def __init__(self, deps: WatcherDeps, remaining_s: Callable[[], float]) -> None:
        self._deps = deps
        self._remaining_s = remaining_s
        # The plan of the last organization is the guess for the next one, because both plans are usually the same.
        self._last_plan: str | None = None
        # The check of a plan has already covered these organizations, in these billing periods.
        self._done: set[tuple[str, str]] = set()

    def notice(self, subject: _Subject, changes: _Changes) -> None:
        """Store a notice for each threshold that the subject's usage has reached.

        Raises:
            OutOfTime: part of the subject was not checked.
            MalformedItem: the organization or plan cannot be read.
        """
        if subject.plan:
            self._notice_everybody_on(subject, frozenset(changes.sequence_numbers))
        elif (subject.organization, subject.billing_period) not in self._done:
            self._notice_usage(subject.organization, changes.features, subject.billing_period)

    def _notice_everybody_on(self, subject: _Subject, sequence_numbers: frozenset[str]) -> None:
        reached = self._deps.reached.get(subject)
        # If the earlier check began before one of these changes, the check starts again with the first organization.
        if reached is None or not sequence_numbers <= reached.sequence_numbers:
            reached = _Progress(sequence_numbers, "")
        if reached.is_last:
            return
        # Parse the plan first, so that a malformed plan is logged once, not for each organization on the plan.
        if (plan := read_item(self._deps.client, self._deps.table, plan_key(subject.plan))) is not None:
            plan_from_item(plan)
        self._last_plan = subject.plan
        for name in names_on_plan(self._deps.client, self._deps.table, subject.plan, reached.organization):
            with _passing_over(self._deps, organization=name):
                self._notice_usage(name, {_EACH}, subject.billing_period)
            # A crash here loses the progress: the next check starts over, and no notice is stored twice.
            reached = self._deps.reached[subject] = _Progress(sequence_numbers, name)
            self._done.add((name, subject.billing_period))
        # Lambda can resend the batch because of its other records.
        self._deps.reached[subject] = replace(reached, is_last=True)

    def _notice_usage(self, name: str, features: Collection[str], billing_period: str) -> None:
        self._check_time()
        limited = self._limited(name, features)
        if not limited:
            return
        # For several features, one query reads all of the organization's counters.
        only = next(iter(limited)) if len(limited) == 1 else ""
        client, table = self._deps.client, self._deps.table
        found = first_pages(client, table, name, billing_period, feature=only)
        for feature, entitlement in limited.items():
            with _passing_over(self._deps, organization=name, feature=feature):
                counter = CounterId(name, billing_period, feature)
                total = self._total(counter, found.get(feature, FirstPage()))
                _notice(self._deps, name, feature, entitlement, billing_period, total)

    def _total(self, counter: CounterId, first: FirstPage | MalformedItem) -> int:
        """Return the counter's total, including the further pages that its first page announces.

        Raises:
            OutOfTime: not all pages were read.
            MalformedItem: an item of the counter cannot be read.
        """
        if isinstance(first, MalformedItem):
            raise first
        total = first.total
        for page in range(1, first.pages):
            self._check_time()
            total += page_total(self._deps.client, self._deps.table, counter, page)
        return total

    def _check_time(self) -> None:
        if self._remaining_s() < RESERVE_S:
            raise OutOfTime

    def _limited(self, name: str, features: Collection[str]) -> dict[str, Entitlement]:
        entry = read_organization_and_plan(self._deps.client, self._deps.table, name, self._last_plan)
        if entry is None:
            return {}
        self._last_plan = entry.organization.plan
        return {
            feature: entitlement
            for feature, entitlement in entitlements_of(*entry).items()
            if entitlement.limit is not None and (_EACH in features or feature in features)
        }


def check_limits(records: Sequence[Any], deps: WatcherDeps, remaining_s: Callable[[], float]) -> str | None:
    """Check the limits that these stream records concern. Store a notice for each threshold that usage has reached.

    Each subject is checked once, after the last of its records. After a crash anywhere in this module, Lambda sends the
    same batch again, and no notice is stored twice.

    Returns: the sequence number of the first record whose subject was not checked, or None if all were checked.
    """
    left: dict[_Subject, _Changes] = {}
    for record in records:
        for subject, feature in _subjects(record, deps):
            changes = left.setdefault(subject, _Changes())
            changes.sequence_numbers.append(sequence_number(record))
            changes.features.add(feature)
    check = _LimitCheck(deps, remaining_s)
    plans = [subject for subject in left if subject.plan]
    # Plans come first, because their organizations then need no separate check.
    for subject in sorted(left, key=lambda each: not each.plan):
        try:
            with _passing_over(deps, subject=repr(subject)):
                check.notice(subject, left[subject])
        except (OutOfTime, StoreBusy, BotoCoreError, ClientError) as error:
            facts = {"cause": type(error).__name__, "subject": repr(subject)}
            deps.logger.warning("batch returned to the stream", extra=facts)
            # `left` has the unchecked subjects in the batch's order, so this record is the first of all their records.
            return next(iter(left.values())).sequence_numbers[0]
        del left[subject]
    # All subjects are checked, so nothing uses the progress. A redelivered batch starts with the first organization.
    for subject in plans:
        deps.reached.pop(subject, None)
    return None


def _subjects(record: Any, deps: WatcherDeps) -> Iterator[tuple[_Subject, str]]:
    """Yield the subject that the stream record concerns, and the feature."""
    with _passing_over(deps, sequence_number=sequence_number(record)):
        keys = change_in(record).get("Keys")
        if not isinstance(keys, Mapping):
            raise MalformedItem("the stream record has no keys")
        pk = text_in(keys, "pk")
        if pk.startswith(ORGANIZATION_PREFIX):
            yield _Subject(_period_of_change(record, deps), organization=pk.removeprefix(ORGANIZATION_PREFIX)), _EACH
        elif pk.startswith(PLAN_PREFIX):
            yield _Subject(_period_of_change(record, deps), plan=pk.removeprefix(PLAN_PREFIX)), _EACH
        elif pk.startswith(COUNTER_PREFIX):
            counter = counter_of(keys)
            yield _Subject(counter.billing_period, organization=counter.organization), counter.feature


def _period_of_change(record: Any, deps: WatcherDeps) -> str:
    """Return the billing period of the write. The stream can deliver the record hours later, in the next period."""
    written_at_s = change_in(record).get("ApproximateCreationDateTime")
    return billing_period_of(deps.now() if written_at_s is None else datetime.fromtimestamp(written_at_s, UTC))


@contextmanager
def _passing_over(deps: WatcherDeps, **whose: str) -> Iterator[None]:
    """Log an item that cannot be read, and continue."""
    try:
        yield
    except MalformedItem as malformed:
        # A repair changes the item, which leads to another check.
        deps.metrics.add_metric("ItemsMalformed", "Count", 1)
        facts = {"reason": str(malformed), **whose}
        deps.logger.error("an item is malformed", extra=facts)  # noqa: TRY400 - the reason is enough


def thresholds(entitlement: Entitlement, total: int) -> list[int]:
    """Return the thresholds that `total` has reached, as percentages; none for a feature that was never used."""
    if entitlement.limit is None or total < 1:
        return []
    return [each for each in (*entitlement.warn_at, REACHED) if total * 100 >= each * entitlement.limit]


def _notice(
    deps: WatcherDeps, organization: str, feature: str, entitlement: Entitlement, billing_period: str, total: int
) -> None:
    if entitlement.limit is None:
        return
    now = deps.now()
    for percentage in thresholds(entitlement, total):
        notice = Notice(
            organization=organization,
            feature=feature,
            billing_period=billing_period,
            limit=entitlement.limit,
            percentage=percentage,
            current_usage=total,
            noticed_at=whole_milliseconds(now),
            event_id=str(uuid.uuid4()),
            expires_at=expiry(now, deps.retention),
        )
        _put_if_absent(deps, notice)


def _put_if_absent(deps: WatcherDeps, notice: Notice) -> None:
    item = notice_item(notice)
    key = (item["pk"]["S"], item["sk"]["S"])
    if key in deps.noticed:
        return
    try:
        # The first write fixes the event's id. A crash after this line loses nothing: the stream has the notice.
        deps.client.put_item(TableName=deps.table, Item=item, ConditionExpression="attribute_not_exists(pk)")
    except deps.client.exceptions.ConditionalCheckFailedException:
        pass
    else:
        deps.metrics.add_metric("ThresholdsReached", "Count", 1)
        facts = {"feature": notice.feature, "limit": notice.limit, "percentage": notice.percentage}
        deps.logger.info("threshold reached", extra={"organization": notice.organization, **facts})
    if len(deps.noticed) >= _MAX_CACHED:
        deps.noticed.clear()
    deps.noticed.add(key)
