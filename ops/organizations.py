"""Organizations: who may record usage, on which plan, and how their subscriptions stand."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from boto3.dynamodb.types import TypeDeserializer
from metering.model import moments
from metering.model.names import (
    FEATURE_PATTERN,
    ORGANIZATION_NAME_PATTERN,
    PLAN_NAME_PATTERN,
    PLAN_PATTERN,
    SUBSCRIPTION_ID_PATTERN,
)
from metering.model.organizations import SUBSCRIPTION_STATUSES, Organization
from metering.model.usage import MAX_LIMIT
from metering.storage.attributes import Item
from metering.storage.organization_items import (
    BY_HAND,
    SUBSCRIPTION_ATTRIBUTES,
    organization_item,
    organization_key,
    plan_name_attribute,
    stamp,
    stamp_after,
)
from metering.storage.plan_items import plan_key

from ops import number
from ops.errors import OrganizationContended, OrganizationUnknown, UsageWrong

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Status: TypeAlias = Literal["active", "inactive"]

UNLIMITED = "unlimited"
# What takes an organization's own limit away.
AS_PLANNED = "plan"
# What takes the trial's end away: the one member of a subscription that may be unknown for good.
NO_TRIAL = "none"

# Whoever was overtaken by another writer of the same organization is hardly ever overtaken again.
_MOST_TRIES = 3
# An update's expression has at most 4 KB, of which a limit takes about 20 bytes. Source: DynamoDB developer guide,
# Constraints, Expression parameters.
_MOST_LIMITS = 50
# The order in which an organization is shown; whatever else it has comes after.
_FIRST = ("organizationId", "status", *SUBSCRIPTION_ATTRIBUTES, "limits")


@dataclass(frozen=True)
class Settings:
    """What an organization is to have, as it is stored; None: no longer."""

    subscription: Mapping[str, Item | None] = field(default_factory=dict)
    plan_name: str | None = None
    """The name of the plan that is given as well, or else of the one that it has."""
    limits: Mapping[str, Item | None] = field(default_factory=dict)
    stamp: str = ""
    """When and by whom the status and the subscription are changed, unless what is stored comes from later."""


@dataclass(frozen=True)
class Put:
    """What became of an organization that was put."""

    created: bool
    """Whether this write created it. Without this, it was there and was changed."""
    stored: Mapping[str, Any]
    """What is stored now, as `get` returns it."""


def settings(given: Mapping[str, Any], limits: Sequence[str], now: datetime) -> Settings:
    """What the command line says: `given` as OPTIONS has it, `limits` as FEATURE=LIMIT.

    Raises:
        UsageWrong: with one line for each mistake.
    """
    mistakes: list[str] = []
    values = {name: _parsed(name, value, mistakes) for name, value in given.items()}
    own, as_planned = _limits(limits, mistakes)
    start, end = values.get("current_period_start"), values.get("current_period_end")
    if start and end and start >= end:
        mistakes.append("--period-end must be after --period-start.")
    if mistakes:
        raise UsageWrong("\n".join(mistakes))
    plan_name = values.pop("plan_name", None)
    stored = organization_item(Organization("", **values, limits=own))
    subscription: dict[str, Item | None] = {name: stored[name] for name in SUBSCRIPTION_ATTRIBUTES if name in stored}
    if "trial_ends_at" in values:
        subscription.setdefault("trialEndsAt", None)
    limited = stored.get("limits", {"M": {}})["M"] | dict.fromkeys(as_planned)
    return Settings(subscription, plan_name, limited, stamp(now, BY_HAND))


def put(
    dynamodb: "DynamoDBClient",
    table: str,
    organization: str,
    status: Status | None = None,
    wanted: Settings | None = None,
    *,
    if_exists: bool = False,
) -> Put:
    """Let `organization` have what is `wanted`. One that exists keeps whatever else is known about it.

    Without a status it keeps its own; a new one is active. With `if_exists` none is created.

    Raises:
        OrganizationUnknown: it does not exist, and only what exists was to be changed; nothing written.
        UsageWrong: the name is none that the API would accept, or a plan is to have a name and there is no plan;
            nothing written.
        OrganizationContended: others kept changing it; nothing written.
    """
    check(organization)
    wanted = wanted or Settings(stamp=stamp(datetime.now(UTC), BY_HAND))
    for _ in range(_MOST_TRIES):
        stored = _get(dynamodb, table, organization)
        if stored is None and if_exists:
            raise OrganizationUnknown(
                f"there is no organization {organization}: nothing was written. Without --if-exists it is created."
            )
        try:
            written = dynamodb.update_item(
                TableName=table,
                Key=organization_key(organization),
                ReturnValues="ALL_NEW",
                **_update(organization, status, wanted, stored),
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            continue
        # The write's condition was that it is there, or that it is not: whoever created it, it was this write or not.
        return Put(created=stored is None, stored=_plain(written["Attributes"]))
    raise OrganizationContended(f"{organization} is being changed by others: nothing was written, try again.")


def get(dynamodb: "DynamoDBClient", table: str, organization: str) -> dict[str, Any]:
    """What is stored about `organization`: `organizationId`, `status` and whatever else it has.

    Raises:
        OrganizationUnknown: nothing is.
        UsageWrong: the name is none that the API would accept.
    """
    check(organization)
    found = _get(dynamodb, table, organization)
    if found is None:
        raise OrganizationUnknown(f"there is no organization {organization}.")
    return _plain(found)


def all_of(dynamodb: "DynamoDBClient", table: str) -> list[dict[str, Any]]:
    """What is stored about every organization, by name.

    It reads the whole table, usage included: no key leads to all organizations.
    """
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table,
        FilterExpression="begins_with(pk, :organization)",
        ExpressionAttributeValues={":organization": organization_key("")["pk"]},
        ConsistentRead=True,
    )
    found = {str(item["pk"]["S"]): _plain(item) for page in pages for item in page["Items"]}
    return [found[key] for key in sorted(found)]


def has_plan(dynamodb: "DynamoDBClient", table: str, plan: str) -> bool:
    """Whether the plan is described."""
    return "Item" in dynamodb.get_item(TableName=table, Key=plan_key(plan), ConsistentRead=True)


def _update(organization: str, status: Status | None, wanted: Settings, found: Mapping[str, Any] | None) -> Any:
    """What makes of what was `found` what is `wanted`, in one write, on the condition that this is what it rests on.

    The organization still exists, or still does not. The status and the subscription rest on their stamps: whatever of
    them another writer changes, those change too. Limits rest on their map being there or not: DynamoDB sets an entry
    of a map only where the map is, and not in the write that makes it.
    """
    names: dict[str, str] = {}
    values: dict[str, Item] = {":organization": {"S": organization}}
    sets = ["organizationId = :organization"]
    removes: list[str] = []
    stored = found or {}
    conditions = ["attribute_not_exists(pk)" if found is None else "attribute_exists(pk)"]

    def named(name: str) -> str:
        placeholder = f"#n{len(names)}"
        names[placeholder] = name
        return placeholder

    def valued(value: Item) -> str:
        placeholder = f":v{len(values)}"
        values[placeholder] = value
        return placeholder

    def let(path: str, value: Item | None) -> None:
        if value is None:
            removes.append(path)
        else:
            sets.append(f"{path} = {valued(value)}")

    changes = _subscription(organization, wanted, stored)
    if status is None:
        place = named("status")
        sets.append(f"{place} = if_not_exists({place}, {valued({'S': 'active'})})")
    else:
        changes["status"] = {"S": status}
    if changes:
        for name, value in changes.items():
            let(named(name), value)
        place, before = named("changed"), stored.get("changed")
        conditions.append(f"attribute_not_exists({place})" if before is None else f"{place} = {valued(before)}")
        let(place, {"M": _stamped(changes, wanted.stamp, {} if before is None else before["M"])})
    if wanted.limits:
        place = named("limits")
        if "limits" in stored:
            conditions.append(f"attribute_exists({place})")
            for feature, limit in wanted.limits.items():
                let(f"{place}.{named(feature)}", limit)
        else:
            conditions.append(f"attribute_not_exists({place})")
            let(place, {"M": {feature: limit for feature, limit in wanted.limits.items() if limit is not None}})
    return {
        "ConditionExpression": " AND ".join(conditions),
        "UpdateExpression": f"SET {', '.join(sets)}" + (f" REMOVE {', '.join(removes)}" if removes else ""),
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }


def _subscription(organization: str, wanted: Settings, stored: Mapping[str, Any]) -> dict[str, Item | None]:
    """What is to be changed of the subscription, the name of its plan included."""
    changes = dict(wanted.subscription)
    if wanted.plan_name is not None:
        plan = wanted.subscription.get("planId") or stored.get("planId")
        if plan is None:
            raise UsageWrong(f"{organization} has no plan that --plan-name could be the name of: give --plan as well.")
        changes["planName"] = plan_name_attribute(plan["S"], wanted.plan_name)
    return changes


def _stamped(changes: Iterable[str], by_hand: str, before: Mapping[str, Item]) -> dict[str, Item]:
    """The stamps `before`, with those of what is changed now."""
    # Others' clocks may be ahead. An event that was overwritten by hand must not come back when it is delivered again.
    latest = max((before[name]["S"] for name in changes if name in before), default="")
    last = by_hand if by_hand > latest else stamp_after(latest, BY_HAND)
    return {**before, **{name: {"S": last} for name in changes}}


def _parsed(name: str, value: Any, mistakes: list[str]) -> Any:
    option, must_be, parse = OPTIONS[name]
    try:
        return parse(value)
    except ValueError:
        mistakes.append(f"{option} is {value!r}: it must be {must_be}.")
        return None


def _limits(given: Sequence[str], mistakes: list[str]) -> tuple[dict[str, int | None], set[str]]:
    """The organization's own limits by feature, and the features that are to have none of their own."""
    own: dict[str, int | None] = {}
    as_planned: set[str] = set()
    if len(given) > _MOST_LIMITS:
        mistakes.append(f"--limit is given {len(given)} times: give at most {_MOST_LIMITS} at once.")
    for text in given:
        feature, _, limit = text.partition("=")
        if not re.fullmatch(FEATURE_PATTERN, feature):
            mistakes.append(
                f"--limit is {text!r}: it must be FEATURE=LIMIT, and FEATURE 1 to 64 letters, digits, `_`, `.` and "
                "`-`, the first a letter."
            )
        elif feature in own or feature in as_planned:
            mistakes.append(f"--limit is {text!r}: the limit of {feature} was given before.")
        elif limit == AS_PLANNED:
            as_planned.add(feature)
        elif limit == UNLIMITED:
            own[feature] = None
        elif number.WHOLE.fullmatch(limit) and 0 <= int(limit) <= MAX_LIMIT:
            own[feature] = int(limit)
        else:
            mistakes.append(
                f"--limit is {text!r}: LIMIT must be a whole number from 0 to {MAX_LIMIT} without a plus sign or "
                f"leading zeros, `{UNLIMITED}`, or `{AS_PLANNED}`, which takes the organization's own limit away."
            )
    return own, as_planned


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return parse


# Unicode's property Bidi_Control: with these, a name looks like another one. Events may have them in names, as they may
# quote any text; operators who type one were tricked. plans.schema.json has the same.
_BIDIRECTIONAL = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"

_MOMENT = "a moment in RFC 3339 with its offset, as 2026-11-23T00:20:04Z"

# What can be given, by field of Organization: its option, what it must be, and how it is read.
OPTIONS: Mapping[str, tuple[str, str, Callable[[Any], Any]]] = {
    "plan": (
        "--plan",
        "a plan's id: 1 to 64 letters, digits, `_`, `.` and `-`, the first a letter or digit",
        _matching(PLAN_PATTERN),
    ),
    "plan_name": (
        "--plan-name",
        "1 to 255 characters in one line, none of which changes the direction of text",
        _matching(f"(?!.*[{_BIDIRECTIONAL}]){PLAN_NAME_PATTERN}"),
    ),
    "subscription_id": (
        "--subscription-id",
        "1 to 255 visible ASCII characters",
        _matching(SUBSCRIPTION_ID_PATTERN),
    ),
    "subscription_status": (
        "--subscription-status",
        f"one of {', '.join(SUBSCRIPTION_STATUSES)}",
        _matching("|".join(SUBSCRIPTION_STATUSES)),
    ),
    "current_period_start": ("--period-start", _MOMENT, moments.parse),
    "current_period_end": ("--period-end", _MOMENT, moments.parse),
    "trial_ends_at": (
        "--trial-ends-at",
        f"{_MOMENT}, or `{NO_TRIAL}`",
        lambda text: None if text == NO_TRIAL else moments.parse(text),
    ),
    "cancel_at_period_end": ("--cancel-at-period-end", "given or not", bool),
}


def _get(dynamodb: "DynamoDBClient", table: str, organization: str) -> Item | None:
    return dynamodb.get_item(TableName=table, Key=organization_key(organization), ConsistentRead=True).get("Item")


def check(organization: str) -> None:
    """Raises: UsageWrong: no organization can have this name."""
    if not re.fullmatch(ORGANIZATION_NAME_PATTERN, organization):
        raise UsageWrong(
            f"{organization!r} is not a name for an organization: 1 to 64 letters, digits, `_` and `-` are, but not "
            "null, true and false."
        )


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """Its attributes, without its key, as a person reads them."""
    deserialize = TypeDeserializer().deserialize
    plain = {name: deserialize(value) for name, value in item.items() if name not in ("pk", "sk")}
    if isinstance(plain.get("limits"), dict):
        plain["limits"] = {
            feature: UNLIMITED if limit is None else limit for feature, limit in sorted(plain["limits"].items())
        }
    if isinstance(named := plain.get("planName"), dict):
        # As in subscription.get: the name of another plan is none of this one.
        if named.get("plan") == plain.get("planId"):
            plain["planName"] = named["name"]
        else:
            del plain["planName"]
    order = {name: place for place, name in enumerate(_FIRST)}
    return {name: plain[name] for name in sorted(plain, key=lambda name: (order.get(name, len(order)), name))}
