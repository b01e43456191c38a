"""Organizations: whether they may record, and what holds for them by their plan and subscription.

A member that is None is not known; a limit of None is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from metering.model.plans import Entitlement, Plan

SubscriptionStatus: TypeAlias = Literal["TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "PAUSED"]
SUBSCRIPTION_STATUSES: tuple[SubscriptionStatus, ...] = get_args(SubscriptionStatus)
# A subscription with one of these gives no access, whatever the plan says.
WITHOUT_ACCESS = ("CANCELED", "PAUSED")


@dataclass(frozen=True)
class Organization:
    """What is known of an organization."""

    id: str
    active: bool = True
    """False only after it was set inactive: then no new usage is recorded."""
    plan: str | None = None
    plan_name: str | None = None
    """What its subscription calls this plan."""
    limits: Mapping[str, int | None] = field(default_factory=dict)
    """Its own limits by feature, before those of its plan."""
    subscription_id: str | None = None
    subscription_status: str | None = None
    current_period_start: datetime | None = None
    current_period_end: datetime | None = None
    trial_ends_at: datetime | None = None
    cancel_at_period_end: bool | None = None


def entitlement_of(organization: Organization, plan: Plan | None, feature: str) -> Entitlement | None:
    """What holds for this organization; None if neither it nor its plan knows the feature.

    Its own limit takes the place of the plan's; everything else stays the plan's.
    """
    planned = None if plan is None else plan.features.get(feature)
    if feature not in organization.limits:
        return planned
    own = planned or Entitlement()
    return Entitlement(organization.limits[feature], own.unit, own.hard, own.warn_at, own.upgrade_url)


def entitlements_of(organization: Organization, plan: Plan | None) -> dict[str, Entitlement]:
    """All features that the organization or its plan knows, as they hold for it."""
    names = {*organization.limits, *(() if plan is None else plan.features)}
    return {name: found for name in sorted(names) if (found := entitlement_of(organization, plan, name)) is not None}
