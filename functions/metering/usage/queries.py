"""The queries: an organization's usage, its access to a feature, its subscription, and its usage records.

Queries write nothing. They read counters, records and subscriptions from the table. Limits, plans and an organization's
status come from the organization cache, so they are up to a minute old.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
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
from metering.model.periods import billing_period_of
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


class FeatureUsage(NamedTuple):
    """An organization's usage of one feature in a billing period."""

    feature: str
    used: int
    limit: int | None
    unit: str | None

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


class Access(NamedTuple):
    """An organization's access to a feature: its reason, and the page that offers access, if the plan names a page."""

    reason: AccessReason
    upgrade_url: str | None

    @property
    def is_granted(self) -> bool:
        return self.reason in ("included", "limit_available")


class Subscription(NamedTuple):
    """An organization's subscription whose required members are all known."""

    id: str
    plan: str
    plan_name: str
    status: SubscriptionStatus
    current_period_start: datetime
    current_period_end: datetime
    trial_ends_at: datetime | None
    cancel_at_period_end: bool


def usage_summary(name: str, billing_period: str, deps: QueryDeps, budget: RetryBudget) -> list[FeatureUsage]:
    """Return the organization's usage in a billing period, for each feature with usage or a limit, sorted by name.

    Raises:
        OrganizationUnknown: the organization is not stored.
        Unavailable: the deadline passed.
    """
    entitlements = entitlements_of(*_organization_and_plan(name, deps, budget))
    totals = _totals(name, billing_period, deps, budget)
    limited = {feature for feature, each in entitlements.items() if each.limit is not None}
    shown = {feature: entitlements.get(feature, Entitlement()) for feature in sorted(limited | totals.keys())}
    return [FeatureUsage(feature, totals[feature], each.limit, each.unit) for feature, each in shown.items()]


def feature_check(name: str, feature: str, deps: QueryDeps, budget: RetryBudget, now: datetime) -> Access:
    """Return the organization's access to a feature, by its usage in the billing period of `now`.

    Raises:
        OrganizationUnknown: the organization is not stored.
        Unavailable: the deadline passed.
    """
    entry = _organization_and_plan(name, deps, budget)
    entitlement = entitlement_of(*entry, feature)
    reason = _reason(entry.organization, entitlement, feature, deps, budget, now)
    return Access(reason, None if entitlement is None else entitlement.upgrade_url)


def subscription(name: str, deps: QueryDeps, budget: RetryBudget) -> Subscription:
    """Return the organization's subscription.

    Raises:
        SubscriptionUnknown: a required member is not stored yet.
        OrganizationUnknown: the organization is not stored.
        Unavailable: the deadline passed.
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
    # Most services that own subscriptions publish `cancelAtPeriodEnd` only for a cancellation.
    return Subscription(*[*required.values(), found.trial_ends_at, found.cancel_at_period_end or False])


def usage_record(name: str, idempotency_key: str, deps: QueryDeps, budget: RetryBudget, now: datetime) -> Usage:
    """Return the usage that is recorded under an idempotency key.

    Raises:
        UsageUnknown: there is no record, or the record has expired by `now`.
        OrganizationUnknown: the organization is not stored.
        Unavailable: the deadline passed.
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


def _totals(name: str, period: str, deps: QueryDeps, budget: RetryBudget) -> Counter[str]:
    ask = partial(until_answered, budget=budget)
    totals: Counter[str] = Counter()
    for feature, page in counter_pages.first_pages(deps.client, deps.table, name, period, ask=ask).items():
        if isinstance(page, MalformedItem):
            raise page
        totals[feature] = page.total + _further_pages(CounterId(name, period, feature), page.pages, deps, budget)
    return totals


def _further_pages(counter: CounterId, pages: int, deps: QueryDeps, budget: RetryBudget) -> int:
    return counter_pages.total_of_further_pages(deps.client, deps.table, counter, pages, budget)


def _reason(
    organization: Organization,
    entitlement: Entitlement | None,
    feature: str,
    deps: QueryDeps,
    budget: RetryBudget,
    now: datetime,
) -> AccessReason:
    if not organization.active or organization.subscription_status in WITHOUT_ACCESS or entitlement is None:
        return "not_in_plan"
    if entitlement.limit is None:
        return "included"
    counter = CounterId(organization.id, billing_period_of(now), feature)
    first = until_answered(partial(counter_pages.first_page, deps.client, deps.table, counter), budget)
    total = first.total + _further_pages(counter, first.pages, deps, budget)
    return "limit_reached" if is_reached(entitlement.limit, total) else "limit_available"
