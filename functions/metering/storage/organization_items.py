"""The organization: its status, its plan, its own limits and its subscription.

    pk = organization#<organization>  sk = organization   status, plan, own limits, subscription; changed: its stamps;
                                                          listedIn: its list (storage/lists.py)

Several writers set the status and the subscription's attributes, in any order, and the last change wins. The map
`changed` has a stamp for each attribute: the time and the writer of its last change. Stamps compare as text.

A missing attribute is unknown. A subscription's own name for its plan is stored together with that plan, as
{plan, name}. The service shows this name only with that plan.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from metering.model.moments import to_timestamp
from metering.model.organizations import Organization
from metering.storage.attributes import Item, limit_attribute, limit_in
from metering.storage.lists import LISTED_IN, organizations_list
from metering.storage.signals import MalformedItem

ORGANIZATION_PREFIX = "organization#"
# The table's index of organizations: planId, then pk. It is sparse: no other item has a planId.
BY_PLAN = "organizations-by-plan"
# The attributes that describe the organization's subscription. Each has its own stamp.
SUBSCRIPTION_ATTRIBUTES = (
    "planId",
    "planName",
    "subscriptionId",
    "subscriptionStatus",
    "currentPeriodStart",
    "currentPeriodEnd",
    "trialEndsAt",
    "cancelAtPeriodEnd",
)
# The `by` of an operator's stamp. An event's stamp has the event's id instead.
BY_HAND = "by-hand"


def organization_key(organization: str) -> Item:
    """Return the key of the organization."""
    return {"pk": {"S": f"{ORGANIZATION_PREFIX}{organization}"}, "sk": {"S": "organization"}}


def organization_item(organization: Organization) -> Item:
    """Return the organization as it is stored."""
    item: Item = {
        **organization_key(organization.id),
        "organizationId": {"S": organization.id},
        "status": {"S": "active" if organization.active else "inactive"},
        LISTED_IN: organizations_list(organization.id),
    }
    if organization.limits:
        item["limits"] = {"M": {name: limit_attribute(limit) for name, limit in organization.limits.items()}}
    texts = {
        "planId": organization.plan,
        "subscriptionId": organization.subscription_id,
        "subscriptionStatus": organization.subscription_status,
        "currentPeriodStart": _moment(organization.current_period_start),
        "currentPeriodEnd": _moment(organization.current_period_end),
        "trialEndsAt": _moment(organization.trial_ends_at),
    }
    item |= {name: {"S": value} for name, value in texts.items() if value is not None}
    if organization.plan is not None and organization.plan_name is not None:
        item["planName"] = plan_name_attribute(organization.plan, organization.plan_name)
    if organization.cancel_at_period_end is not None:
        item["cancelAtPeriodEnd"] = {"BOOL": organization.cancel_at_period_end}
    return item


def organization_from_item(item: Mapping[str, Any]) -> Organization:
    """Return the organization that an item, or its image in the stream, stores.

    Raises:
        MalformedItem: an attribute is not in the form that `organization_item` writes.
    """
    try:
        texts = {name: item[name]["S"] for name in ("planId", "subscriptionId", "subscriptionStatus") if name in item}
        moments = {
            name: datetime.fromisoformat(item[name]["S"])
            for name in ("currentPeriodStart", "currentPeriodEnd", "trialEndsAt")
            if name in item
        }
        limits = item.get("limits", {"M": {}})["M"]
        return Organization(
            id=item["pk"]["S"].partition("#")[2],
            active=item.get("status", {"S": "active"})["S"] != "inactive",
            plan=texts.get("planId"),
            plan_name=_plan_name(item["planName"]["M"], texts.get("planId")) if "planName" in item else None,
            limits={name: limit_in(limit) for name, limit in limits.items()},
            subscription_id=texts.get("subscriptionId"),
            subscription_status=texts.get("subscriptionStatus"),
            current_period_start=moments.get("currentPeriodStart"),
            current_period_end=moments.get("currentPeriodEnd"),
            trial_ends_at=moments.get("trialEndsAt"),
            cancel_at_period_end=item["cancelAtPeriodEnd"]["BOOL"] if "cancelAtPeriodEnd" in item else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedItem(f"an attribute of the organization is missing or malformed: {error}") from error


def stamp(changed_at: datetime, by: str) -> str:
    """Return the stamp of a change: its moment, then `by`, which is an event id or BY_HAND.

    The later of two stamps is the greater text, and `by` breaks ties. Moments are exact to the microsecond.
    """
    # Each moment has 27 characters, so that stamps compare as their moments do.
    return f"{changed_at.astimezone(UTC).isoformat(timespec='microseconds').replace('+00:00', 'Z')}#{by}"


def stamp_after(earlier: str, by: str) -> str:
    """Return the first stamp of `by` that is later than `earlier` in time."""
    moment = datetime.fromisoformat(earlier.partition("#")[0])
    return stamp(moment + timedelta(microseconds=1), by)


def plan_name_attribute(plan: str, name: str) -> Item:
    """Return the subscription's name for its plan, as the attribute `planName` stores it."""
    return {"M": {"plan": {"S": plan}, "name": {"S": name}}}


def _plan_name(stored: Mapping[str, Any], plan: str | None) -> str | None:
    name: str = stored["name"]["S"]
    return name if stored["plan"]["S"] == plan else None


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else to_timestamp(moment)
