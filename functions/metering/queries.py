"""The queries: what is answered to whoever asks about an organization's usage, features and subscription.

They write nothing. What the directory remembers is up to a minute old; counters and records are read as they are.
"""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, cast

from metering import ledger
from metering.contract import (
    FeatureCheckInput,
    FeatureCheckOutput,
    FeatureUsage,
    Reason,
    SubscriptionGetOutput,
    SubscriptionStatus,
    UsageGetInput,
    UsageGetOutput,
    UsageSummaryInput,
    UsageSummaryOutput,
)
from metering.counters import total_of_further_pages
from metering.directory import Directory, Entry
from metering.errors import BadRequest, InputInvalid, Issue, OrganizationUnknown, SubscriptionUnknown, UsageUnknown
from metering.items import CounterId, Item, billing_period_of, to_timestamp, usage_key
from metering.plans import WITHOUT_ACCESS, Feature, Organization, feature_of, features_of, is_reached
from metering.retry import Effort, until_answered, until_free

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True)
class View:
    """Where the queries look."""

    client: "DynamoDBClient"
    table: str
    directory: Directory


def usage_summary(asked: UsageSummaryInput, name: str, view: View, effort: Effort, now: datetime) -> UsageSummaryOutput:
    """What the organization used in a billing period, as of `now` the present one or a past one.

    Raises:
        BadRequest: the period is given in two ways that differ.
        InputInvalid: the period is in the future.
        OrganizationUnknown
        Unavailable: the deadline came first.
    """
    period = _period(asked, now)
    features = features_of(*_entry(name, view, effort))
    totals = _totals(name, period, view, effort)
    limited = {feature for feature, held in features.items() if held.limit is not None}
    usage = [_usage(feature, totals[feature], features.get(feature)) for feature in sorted(limited | totals.keys())]
    return {"billingPeriod": period, "usage": usage}


def feature_check(asked: FeatureCheckInput, name: str, view: View, effort: Effort, now: datetime) -> FeatureCheckOutput:
    """Whether the organization has access to a feature as of `now`.

    Raises: OrganizationUnknown; Unavailable: the deadline came first.
    """
    entry = _entry(name, view, effort)
    feature = feature_of(*entry, asked["feature"])
    reason = _reason(entry.organization, feature, asked["feature"], view, effort, now)
    answer = FeatureCheckOutput(hasAccess=reason in ("included", "limit_available"), reason=reason)
    if not answer["hasAccess"] and feature is not None and feature.upgrade_url is not None:
        answer["upgradeUrl"] = feature.upgrade_url
    return answer


def subscription(name: str, view: View, effort: Effort) -> SubscriptionGetOutput:
    """The organization's subscription.

    Raises:
        SubscriptionUnknown: a member that is always there is not known yet.
        OrganizationUnknown
        Unavailable: the deadline came first.
    """
    # Not what is remembered: what has become known just now must be told.
    found, plan = _known(until_answered(partial(view.directory.find_now, name), effort))
    plan_name = found.plan_name or (None if plan is None else plan.name)
    if (
        found.subscription_id is None
        or found.plan is None
        or plan_name is None
        or found.subscription_status is None
        or found.current_period_start is None
        or found.current_period_end is None
    ):
        required = {
            "id": found.subscription_id,
            "planId": found.plan,
            "planName": plan_name,
            "status": found.subscription_status,
            "currentPeriodStart": found.current_period_start,
            "currentPeriodEnd": found.current_period_end,
        }
        raise SubscriptionUnknown([name for name, value in required.items() if value is None])
    answer = SubscriptionGetOutput(
        id=found.subscription_id,
        organizationId=found.id,
        planId=found.plan,
        planName=plan_name,
        # One of them: whoever writes it has looked.
        status=cast("SubscriptionStatus", found.subscription_status),
        currentPeriodStart=to_timestamp(found.current_period_start),
        currentPeriodEnd=to_timestamp(found.current_period_end),
        # Most owners of subscriptions tell of a cancellation only when there is one.
        cancelAtPeriodEnd=found.cancel_at_period_end or False,
    )
    if found.trial_ends_at is not None:
        answer["trialEndsAt"] = to_timestamp(found.trial_ends_at)
    return answer


def usage_record(asked: UsageGetInput, name: str, view: View, effort: Effort, now: datetime) -> UsageGetOutput:
    """What is recorded under an idempotency key as of `now`.

    Raises:
        UsageUnknown: nothing is, or it has expired.
        OrganizationUnknown
        Unavailable: the deadline came first.
    """
    _entry(name, view, effort)
    key = usage_key(name, asked["idempotencyKey"])
    stored = until_answered(lambda: ledger.stored(view.client, view.table, key, now), effort)
    if stored is None:
        raise UsageUnknown
    # Usage that was shown as recorded is in every total that is asked for afterwards.
    until_free([stored], partial(ledger.confirm, view.client, view.table), effort)
    usage = stored.usage
    answer = UsageGetOutput(
        idempotencyKey=usage.idempotency_key,
        feature=usage.feature,
        quantity=usage.quantity,
        billingPeriod=usage.billing_period,
        recordedAt=to_timestamp(usage.recorded_at),
        eventId=usage.event_id,
    )
    if usage.source_id is not None:
        answer["sourceId"] = usage.source_id
    if usage.source_type is not None:
        answer["sourceType"] = usage.source_type
    if usage.metadata is not None:
        answer["metadata"] = json.loads(usage.metadata)
    return answer


def _period(asked: UsageSummaryInput, now: datetime) -> str:
    present = billing_period_of(now)
    path = "billingPeriod" if "billingPeriod" in asked else "period"
    period = asked.get("billingPeriod", asked.get("period", "current"))
    if asked.get("period", period) != period:
        message = "The parameters billingPeriod and period differ: send one of them."
        raise BadRequest("periods_differ", message, "period")
    if period == "current":
        return present
    # As text: both have the same form.
    if period > present:
        message = f"The period is in the future: the present one is {present}."
        raise InputInvalid([Issue(path, "period_in_future", message)])
    return period


def _entry(name: str, view: View, effort: Effort) -> Entry:
    return _known(until_answered(partial(view.directory.find, name), effort))


def _known(entry: Entry | None) -> Entry:
    if entry is None:
        raise OrganizationUnknown
    return entry


def _totals(name: str, period: str, view: View, effort: Effort) -> Counter[str]:
    totals: Counter[str] = Counter()
    pages: dict[str, int] = {}
    after: Item | None = None
    while True:
        found = _first_pages(name, period, after, view, effort)
        totals.update(found.totals)
        pages |= found.pages
        after = found.after
        if after is None:
            break
    for feature, announced in pages.items():
        counter = CounterId(name, period, feature)
        totals[feature] += total_of_further_pages(view.client, view.table, counter, announced, effort)
    return totals


def _first_pages(name: str, period: str, after: Item | None, view: View, effort: Effort) -> ledger.FirstPages:
    return until_answered(lambda: ledger.first_pages(view.client, view.table, name, period, after), effort)


def _usage(feature: str, used: int, held: Feature | None) -> FeatureUsage:
    usage = FeatureUsage(feature=feature, used=used)
    if held is not None and held.limit is not None:
        usage["limit"] = held.limit
        usage["percentage"] = _percentage(used, held.limit)
    if held is not None and held.unit is not None:
        usage["unit"] = held.unit
    return usage


def _percentage(used: int, limit: int) -> float:
    if limit == 0:
        return 100.0  # reached from the beginning, and more of it than all cannot be used
    percentage = round(100 * used / limit, 1)
    # Nobody below the limit is told that all of it is used.
    return percentage if is_reached(limit, used) else min(percentage, 99.9)


def _reason(
    organization: Organization, feature: Feature | None, asked: str, view: View, effort: Effort, now: datetime
) -> Reason:
    if not organization.active or organization.subscription_status in WITHOUT_ACCESS or feature is None:
        return "not_in_plan"
    if feature.limit is None:
        return "included"
    counter = CounterId(organization.id, billing_period_of(now), asked)
    first = until_answered(lambda: ledger.first_page(view.client, view.table, counter), effort)
    total = first.total + total_of_further_pages(view.client, view.table, counter, first.pages, effort)
    return "limit_reached" if is_reached(feature.limit, total) else "limit_available"
