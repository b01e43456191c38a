"""Plans and organizations as values: who may record, what is limited, and how subscriptions stand.

    pk = plan#<plan>                  sk = plan           features: a map, so that a plan changes as a whole
    pk = organization#<organization>  sk = organization   status, plan, own limits, subscription; changed: its stamps
    pk = features                     sk = features       known: every feature that any plan has; plans: their ids;
                                                          version: grows whenever a plan is written

Several write what is known of a subscription, and set the status, in any order, and the last one wins: `changed`, a map
on the organization's item, has the `stamp` of the last change of each attribute. Stamps compare as text.

An attribute that is missing is not known. A limit of None is none. A subscription's own name for its plan is stored
with the plan that it is the name of, as {plan, name}, and is shown for no other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from metering.errors import MalformedItem
from metering.items import Item, organization_key, to_timestamp

PLAN_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
# One line, as in plans.schema.json. Half a character (a lone surrogate) is none: DynamoDB does not take it.
PLAN_NAME_PATTERN = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,255}"
SUBSCRIPTION_ID_PATTERN = r"[\x21-\x7e]{1,255}"
SUBSCRIPTION_STATUSES = ("TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "PAUSED")
# Whoever has one of these has no access, whatever the plan says.
WITHOUT_ACCESS = ("CANCELED", "PAUSED")
DEFAULT_WARN_AT = (80,)
# Totals are exact in JavaScript up to here, and so must limits be.
MAX_LIMIT = 2**53 - 1

# What stamps are kept of: the attributes of an organization that tell how its subscription stands.
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
# Who stamps what an operator changes; events stamp with their id.
BY_HAND = "by-hand"

PLAN_PREFIX = "plan#"
# The table's index of organizations: planId, then pk. It is sparse: nothing else has a planId.
BY_PLAN = "organizations-by-plan"
FEATURES_KEY: Item = {"pk": {"S": "features"}, "sk": {"S": "features"}}


@dataclass(frozen=True)
class Feature:
    """What a plan says of a feature."""

    limit: int | None = None
    """Per billing period; None: unlimited."""
    unit: str | None = None
    hard: bool = False
    """Whether usage beyond the limit is refused rather than recorded."""
    warn_at: tuple[int, ...] = DEFAULT_WARN_AT
    """Percentages of the limit, ascending, each from 1 to 99."""
    upgrade_url: str | None = None


@dataclass(frozen=True)
class Plan:
    id: str
    name: str
    features: Mapping[str, Feature] = field(default_factory=dict)


@dataclass(frozen=True)
class Organization:
    """What is known of an organization."""

    id: str
    active: bool = True
    """Recording is refused only for organizations that were set inactive."""
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


def feature_of(organization: Organization, plan: Plan | None, feature: str) -> Feature | None:
    """What holds for this organization; None if neither it nor its plan knows the feature.

    Its own limit takes the place of the plan's; everything else stays the plan's.
    """
    planned = None if plan is None else plan.features.get(feature)
    if feature not in organization.limits:
        return planned
    own = planned or Feature()
    return Feature(organization.limits[feature], own.unit, own.hard, own.warn_at, own.upgrade_url)


def features_of(organization: Organization, plan: Plan | None) -> dict[str, Feature]:
    """All features that the organization or its plan knows, as they hold for it."""
    names = {*organization.limits, *(() if plan is None else plan.features)}
    return {name: found for name in sorted(names) if (found := feature_of(organization, plan, name)) is not None}


def is_reached(limit: int | None, total: int) -> bool:
    """Whether `total` is at the limit, or beyond."""
    return limit is not None and total >= limit


def plan_key(plan: str) -> Item:
    """Where the plan lives."""
    return {"pk": {"S": f"{PLAN_PREFIX}{plan}"}, "sk": {"S": "plan"}}


def plan_item(plan: Plan) -> Item:
    """The plan as it is stored."""
    features = {name: {"M": _feature_map(feature)} for name, feature in plan.features.items()}
    return {**plan_key(plan.id), "name": {"S": plan.name}, "features": {"M": features}}


def plan_from_item(item: Mapping[str, Any]) -> Plan:
    """The plan that an item, or a stream's image of one, stores.

    Raises:
        MalformedItem: it is not what `plan_item` writes.
    """
    try:
        features = {name: _feature(stored["M"]) for name, stored in item["features"]["M"].items()}
        return Plan(item["pk"]["S"].removeprefix(PLAN_PREFIX), item["name"]["S"], features)
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedItem(f"the plan lacks or breaks {error}") from error


def organization_item(organization: Organization) -> Item:
    """The organization as it is stored."""
    item: Item = {
        **organization_key(organization.id),
        "organizationId": {"S": organization.id},
        "status": {"S": "active" if organization.active else "inactive"},
    }
    if organization.limits:
        item["limits"] = {"M": {name: _limit(limit) for name, limit in organization.limits.items()}}
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
    """The organization that an item, or a stream's image of one, stores.

    Raises:
        MalformedItem: an attribute is not what `organization_item` writes.
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
            limits={name: _stored_limit(limit) for name, limit in limits.items()},
            subscription_id=texts.get("subscriptionId"),
            subscription_status=texts.get("subscriptionStatus"),
            current_period_start=moments.get("currentPeriodStart"),
            current_period_end=moments.get("currentPeriodEnd"),
            trial_ends_at=moments.get("trialEndsAt"),
            cancel_at_period_end=item["cancelAtPeriodEnd"]["BOOL"] if "cancelAtPeriodEnd" in item else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedItem(f"the organization lacks or breaks {error}") from error


def stamp(changed_at: datetime, by: str) -> str:
    """When something was changed, and by what: the later one is the greater text, `by` decides a draw.

    To the microsecond: what a datetime holds.
    """
    # Always 27 characters, or texts would not compare as moments do.
    return f"{changed_at.astimezone(UTC).isoformat(timespec='microseconds').replace('+00:00', 'Z')}#{by}"


def stamp_after(earlier: str, by: str) -> str:
    """The first stamp that is later than `earlier`, whoever made that."""
    moment = datetime.fromisoformat(earlier.partition("#")[0])
    return stamp(moment + timedelta(microseconds=1), by)


def plan_name_attribute(plan: str, name: str) -> Item:
    """What a subscription calls its plan, as the attribute `planName` stores it."""
    return {"M": {"plan": {"S": plan}, "name": {"S": name}}}


def known_features(item: Mapping[str, Any] | None) -> frozenset[str]:
    """The features that any plan has, from the item at FEATURES_KEY."""
    return _texts(item, "known")


def known_plans(item: Mapping[str, Any] | None) -> frozenset[str]:
    """The ids of all plans, from the item at FEATURES_KEY."""
    return _texts(item, "plans")


def _texts(item: Mapping[str, Any] | None, name: str) -> frozenset[str]:
    stored: Iterable[str] = (item or {}).get(name, {}).get("SS", ())
    return frozenset(stored)


def _plan_name(stored: Mapping[str, Any], plan: str | None) -> str | None:
    name: str = stored["name"]["S"]
    return name if stored["plan"]["S"] == plan else None


def _feature_map(feature: Feature) -> Item:
    stored: Item = {
        "limit": _limit(feature.limit),
        "enforcement": {"S": "hard" if feature.hard else "soft"},
        "warnAt": {"L": [{"N": str(percentage)} for percentage in feature.warn_at]},
    }
    texts = {"unit": feature.unit, "upgradeUrl": feature.upgrade_url}
    return stored | {name: {"S": value} for name, value in texts.items() if value is not None}


def _feature(stored: Mapping[str, Any]) -> Feature:
    return Feature(
        limit=_stored_limit(stored["limit"]),
        unit=stored["unit"]["S"] if "unit" in stored else None,
        hard=stored["enforcement"]["S"] == "hard",
        warn_at=tuple(int(percentage["N"]) for percentage in stored["warnAt"]["L"]),
        upgrade_url=stored["upgradeUrl"]["S"] if "upgradeUrl" in stored else None,
    )


def _limit(limit: int | None) -> Item:
    # Null rather than nothing: an organization may be unlimited where its plan is not.
    return {"NULL": True} if limit is None else {"N": str(limit)}


def _stored_limit(stored: Mapping[str, Any]) -> int | None:
    return None if stored.get("NULL") else int(stored["N"])


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else to_timestamp(moment)
