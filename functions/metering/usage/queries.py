"""The queries: an organization's usage, its access to a feature, its subscription, and its usage records.

Queries write nothing. They read counters, records and subscriptions from the table. All queries except `subscription`
take organizations and plans from the organization cache. So limits and an organization's status are up to a minute old.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from metering.model.errors import OrganizationUnknown, SubscriptionUnknown, UsageUnknown
from metering.model.organizations import (
    WITHOUT_ACCESS,
    Organization,
    SubscriptionStatus,
    entitlement_of,
    entitlements_of,
)
from metering.model.periods import billing_period_of, date_in_period, end_of
from metering.model.plans import AccessReason, Entitlement, is_reached
from metering.model.usage import CounterId, Usage
from metering.storage import counter_pages, ledger
from metering.storage.organization_reads import OrganizationAndPlan
from metering.storage.retry import RetryBudget, until_answered, until_free
from metering.storage.signals import MalformedItem
from metering.storage.usage_records import usage_key
from metering.usage.organization_cache import OrganizationCache

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True)
class QueryDeps:
    """The queries' dependencies."""

    client: "DynamoDBClient"
    table: str
    organizations: OrganizationCache


class DayUsage(NamedTuple):
    """The usage of one UTC date."""

    date: date
    used: int


class FeatureUsage(NamedTuple):
    """An organization's usage of one feature in a billing period."""

    feature: str
    used: int
    limit: int | None
    unit: str | None
    days: Sequence[DayUsage] | None
    """The dates with usage, in order. Their sum is `used`. None: the days were not asked for."""

    @property
    def percentage(self) -> float | None:
        """The used part of the limit in percent, with one decimal. None: there is no limit."""
        if self.limit is None:
            return None
        if self.limit == 0:
            return 100.0  # a limit of 0 is reached from the start, and nothing can be divided by 0
        percentage = round(100 * self.used / self.limit, 1)
        # Rounding must not show 100 while usage is below the limit.
        return percentage if is_reached(self.limit, self.used) else min(percentage, 99.9)


class LimitUsage(NamedTuple):
    """The usage of a feature's limit in the current billing period, and the moment at which the next period starts."""

    used: int
    limit: int
    resets_at: datetime

    @property
    def remaining(self) -> int:
        """The largest quantity that fits the limit."""
        return max(0, self.limit - self.used)


class Access(NamedTuple):
    """An organization's access to a feature: the reason to grant or deny it, and the plan's upgrade page, if any."""

    reason: AccessReason
    upgrade_url: str | None
    limit_usage: LimitUsage | None = None
    """None: no limit decides about the access."""

    @property
    def is_granted(self) -> bool:
        return self.reason in ("included", "limit_available")


class Subscription(NamedTuple):
    """A complete subscription of an organization: every required member is stored."""

    id: str
    plan: str
    plan_name: str
    status: SubscriptionStatus
    current_period_start: datetime
    current_period_end: datetime
    trial_ends_at: datetime | None
    cancel_at_period_end: bool


def usage_summary(
    name: str, billing_period: str, deps: QueryDeps, budget: RetryBudget, *, by_day: bool = False
) -> list[FeatureUsage]:
    """Return the organization's usage in a billing period, for each feature with usage or a limit, sorted by name.

    With `by_day`, each feature has its days. They come from the same reads as the total.

    Raises:
        OrganizationUnknown: the organization is not stored.
        Unavailable: the deadline passed.
        MalformedItem: the stored organization, its plan or a counter cannot be read.
    """
    entitlements = entitlements_of(*_organization_and_plan(name, deps, budget))
    counted = _counted(name, billing_period, deps, budget, by_day=by_day)
    limited = {feature for feature, each in entitlements.items() if each.limit is not None}
    shown = {feature: entitlements.get(feature, Entitlement()) for feature in sorted(limited | counted.keys())}
    found: list[FeatureUsage] = []
    for feature, entitlement in shown.items():
        total, days = counted.get(feature, _Counted())
        dates = [DayUsage(date_in_period(billing_period, day), used) for day, used in sorted(days.items())]
        found.append(FeatureUsage(feature, total, entitlement.limit, entitlement.unit, dates if by_day else None))
    return found


def feature_check(
    name: str, feature: str, deps: QueryDeps, budget: RetryBudget, now: datetime, quantity: int = 1
) -> Access:
    """Return whether the organization can use `quantity` more of a feature in the billing period of `now`.

    With a quantity of 1, access ends when usage reaches the limit.

    Raises:
        OrganizationUnknown: the organization is not stored.
        Unavailable: the deadline passed.
        MalformedItem: the stored organization, its plan or the counter cannot be read.
    """
    entry = _organization_and_plan(name, deps, budget)
    entitlement = entitlement_of(*entry, feature)
    upgrade_url = None if entitlement is None else entitlement.upgrade_url
    if entitlement is None or not _has_subscription(entry.organization):
        return Access("not_in_plan", upgrade_url)
    if entitlement.limit is None:
        return Access("included", upgrade_url)
    period = billing_period_of(now)
    total = _total(CounterId(name, period, feature), deps, budget)
    reason: AccessReason = "limit_available" if total + quantity <= entitlement.limit else "limit_reached"
    return Access(reason, upgrade_url, LimitUsage(total, entitlement.limit, end_of(period)))


def subscription(name: str, deps: QueryDeps, budget: RetryBudget) -> Subscription:
    """Return the organization's subscription.

    Raises:
        SubscriptionUnknown: a required member is not stored yet.
        OrganizationUnknown: the organization is not stored.
        Unavailable: the deadline passed.
        MalformedItem: the stored organization or its plan cannot be read.
    """
    # Read the table, not the cache, because a change must appear immediately.
    found, plan = _known(name, until_answered(partial(deps.organizations.find_now, name), budget))
    plan_name = found.plan_name or (None if plan is None else plan.name)
    required: dict[str, Any] = {
        "id": found.subscription_id,
        "planId": found.plan,
        "planName": plan_name,
        "status": found.subscription_status,
        "currentPeriodStart": found.current_period_start,
        "currentPeriodEnd": found.current_period_end,
    }
    if missing := [member for member, value in required.items() if value is None]:
        raise SubscriptionUnknown(missing)
    # Most services that own subscriptions publish `cancelAtPeriodEnd` only for a cancellation. So None means false.
    return Subscription(*[*required.values(), found.trial_ends_at, found.cancel_at_period_end or False])


def usage_record(name: str, idempotency_key: str, deps: QueryDeps, budget: RetryBudget, now: datetime) -> Usage:
    """Return the usage that is recorded under an idempotency key.

    Raises:
        UsageUnknown: there is no record, or the record has expired by `now`.
        OrganizationUnknown: the organization is not stored.
        Unavailable: the deadline passed.
        MalformedItem: the stored organization, its plan or the record cannot be read.
    """
    _organization_and_plan(name, deps, budget)
    key = usage_key(name, idempotency_key)
    stored = until_answered(lambda: ledger.read_record(deps.client, deps.table, key, now), budget)
    if stored is None:
        raise UsageUnknown
    # Confirm the record, so that every later total includes this usage.
    until_free([stored], partial(ledger.confirm, deps.client, deps.table), budget)
    return stored.usage


def check_known(name: str, deps: QueryDeps, budget: RetryBudget) -> None:
    """Check that the organization is stored.

    Raises:
        OrganizationUnknown: the organization is not stored.
        Unavailable: the deadline passed.
    """
    _organization_and_plan(name, deps, budget)


def _organization_and_plan(name: str, deps: QueryDeps, budget: RetryBudget) -> OrganizationAndPlan:
    return _known(name, until_answered(partial(deps.organizations.find, name), budget))


def _known(name: str, entry: OrganizationAndPlan | None) -> OrganizationAndPlan:
    if entry is None:
        raise OrganizationUnknown(name)
    return entry


class _Counted(NamedTuple):
    """A counter's total, and its days if they were asked for."""

    total: int = 0
    days: Counter[int] = Counter()  # noqa: RUF012 - never changed in place


def _counted(name: str, period: str, deps: QueryDeps, budget: RetryBudget, *, by_day: bool) -> dict[str, _Counted]:
    ask = partial(until_answered, budget=budget)
    found = counter_pages.first_pages(deps.client, deps.table, name, period, by_day=by_day, ask=ask)
    counted: dict[str, _Counted] = {}
    for feature, page in found.items():
        if isinstance(page, MalformedItem):
            raise page
        counter = CounterId(name, period, feature)
        if by_day:
            days = page.days + counter_pages.days_of_further_pages(deps.client, deps.table, counter, page.pages, budget)
            # Each shard's days add up to its total.
            counted[feature] = _Counted(days.total(), days)
        else:
            counted[feature] = _Counted(page.total + _further_pages(counter, page.pages, deps, budget))
    return counted


def _total(counter: CounterId, deps: QueryDeps, budget: RetryBudget) -> int:
    first = until_answered(partial(counter_pages.first_page, deps.client, deps.table, counter), budget)
    return first.total + _further_pages(counter, first.pages, deps, budget)


def _further_pages(counter: CounterId, pages: int, deps: QueryDeps, budget: RetryBudget) -> int:
    return counter_pages.total_of_further_pages(deps.client, deps.table, counter, pages, budget)


def _has_subscription(organization: Organization) -> bool:
    return organization.active and organization.subscription_status not in WITHOUT_ACCESS
