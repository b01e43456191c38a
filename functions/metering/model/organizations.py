"""Organizations: whether they are allowed to record usage, and their entitlements from plan and own limits.

A member that is None is unknown. A limit that is None means unlimited.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from metering.model.plans import Entitlement, Plan

SubscriptionStatus: TypeAlias = Literal["TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "PAUSED"]
SUBSCRIPTION_STATUSES: tuple[SubscriptionStatus, ...] = get_args(SubscriptionStatus)
# A subscription with one of these statuses gives no access, even if the plan does.
WITHOUT_ACCESS = ("CANCELED", "PAUSED")


@dataclass(frozen=True)
class Organization:
    """An organization, as far as the service knows it."""

    id: str
    active: bool = True
    """False only after it was set inactive. The service then records no new usage for it."""
    plan: str | None = None
    plan_name: str | None = None
    """The subscription's name for this plan."""
    limits: Mapping[str, int | None] = field(default_factory=dict)
    """The organization's own limits by feature. They replace its plan's limits."""
    subscription_id: str | None = None
    subscription_status: str | None = None
    current_period_start: datetime | None = None
    current_period_end: datetime | None = None
    trial_ends_at: datetime | None = None
    cancel_at_period_end: bool | None = None


def entitlement_of(organization: Organization, plan: Plan | None, feature: str) -> Entitlement | None:
    """Return the organization's entitlement to the feature; None if neither the organization nor its plan has it.

    The organization's own limit replaces the plan's limit. Everything else comes from the plan.
    """
    planned = None if plan is None else plan.features.get(feature)
    if feature not in organization.limits:
        return planned
    own = planned or Entitlement()
    return Entitlement(organization.limits[feature], own.unit, own.hard, own.warn_at, own.upgrade_url)


def entitlements_of(organization: Organization, plan: Plan | None) -> dict[str, Entitlement]:
    """Return the entitlement to each feature that the organization or its plan has."""
    names = {*organization.limits, *(() if plan is None else plan.features)}
    return {name: found for name in sorted(names) if (found := entitlement_of(organization, plan, name)) is not None}
