"""Stored organizations: status, plan, own limits and subscription."""

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
from metering.storage.lists import LISTED_IN, LISTS, organizations_list, organizations_lists
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

from ops import listed, number
from ops.errors import OrganizationContended, OrganizationUnknown, UsageWrong
from tools.output import one_line

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Status: TypeAlias = Literal["active", "inactive"]

UNLIMITED = "unlimited"
# Removes the organization's own limit.
AS_PLANNED = "plan"
# Removes the trial's end. The other members of a subscription can be changed, but not removed.
NO_TRIAL = "none"

# A write whose condition failed because of another writer hardly ever fails again.
_MOST_TRIES = 3
# An update expression has at most 4 KB, and a limit takes about 20 bytes. Source: DynamoDB developer guide,
# Constraints, Expression parameters.
_MOST_LIMITS = 50
# The attributes that are shown first, in this order.
_FIRST = ("organizationId", "status", *SUBSCRIPTION_ATTRIBUTES, "limits")
# The names of the options that set these attributes.
_OPTION_OF = {
    "status": "status",
    "planId": "plan",
    "planName": "plan-name",
    "subscriptionId": "subscription-id",
    "subscriptionStatus": "subscription-status",
    "currentPeriodStart": "period-start",
    "currentPeriodEnd": "period-end",
    "trialEndsAt": "trial-ends-at",
    "cancelAtPeriodEnd": "cancel-at-period-end",
}


@dataclass(frozen=True)
class Settings:
    """The attributes to set on an organization, in their stored form. None removes an attribute."""

    subscription: Mapping[str, Item | None] = field(default_factory=dict)
    plan_name: str | None = None
    """The name of the plan in `subscription`, or else of the stored plan."""
    limits: Mapping[str, Item | None] = field(default_factory=dict)
    stamp: str = ""
    """Time and writer of the change to status and subscription. After a later stored stamp, the next stamp is used."""


@dataclass(frozen=True)
class Put:
    """The result of `put`."""

    before: Mapping[str, Any] | None
    """The organization as read just before the write, in the form that `get` returns. None if this write created it."""
    stored: Mapping[str, Any]
    """The organization as stored now, in the same form."""

    @property
    def created(self) -> bool:
        return self.before is None

    def changes(self) -> list[str]:
        """The settings that differ, one line each, by the names of their options: `plan: free -> pro`.

        A limit is `plan` if the organization has no limit of its own. Any other missing setting is `none`.
        """
        before, after = _settings_of(self.before or {}), _settings_of(self.stored)
        return [
            f"{name}: {_shown(name, before)} -> {_shown(name, after)}"
            for name in dict.fromkeys([*before, *after])
            if before.get(name) != after.get(name)
        ]


def settings(given: Mapping[str, Any], limits: Sequence[str], now: datetime) -> Settings:
    """Parse the options of `metering organizations put`: `given` by the names of OPTIONS, `limits` as FEATURE=LIMIT.

    Raises:
        UsageWrong: an option is invalid; the message has one line for each mistake.
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
    """Create `organization` with the `wanted` settings, or change it if it exists and keep its other settings.

    Without `status`, an existing organization keeps its status and a new one is active. With `if_exists`, no
    organization is created. After an error, nothing was written.

    Raises:
        OrganizationUnknown: the organization does not exist, and `if_exists` is set.
        UsageWrong: no organization can have this name, or there is a plan name but no plan.
        OrganizationContended: other writers changed the organization during every try.
    """
    check(organization)
    wanted = wanted or Settings(stamp=stamp(datetime.now(UTC), BY_HAND))
    for _ in range(_MOST_TRIES):
        stored = _get(dynamodb, table, organization)
        if stored is None and if_exists:
            raise OrganizationUnknown(
                f"there is no organization {organization}: nothing was written. Omit --if-exists to create it."
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
        # The write's condition repeats the read, so `stored` shows whether this write created the organization.
        return Put(None if stored is None else _plain(stored), _plain(written["Attributes"]))
    raise OrganizationContended(f"other writers kept changing {organization}: nothing was written. Try again.")


def get(dynamodb: "DynamoDBClient", table: str, organization: str) -> dict[str, Any]:
    """Read `organization`: `organizationId`, `status` and its other attributes.

    Raises:
        OrganizationUnknown: the organization does not exist.
        UsageWrong: no organization can have this name.
    """
    check(organization)
    found = _get(dynamodb, table, organization)
    if found is None:
        raise OrganizationUnknown(
            f"there is no organization {organization}: `metering organizations list` shows all organizations."
        )
    return _plain(found)


def all_of(dynamodb: "DynamoDBClient", table: str) -> list[dict[str, Any]]:
    """Read all organizations, sorted by name, each as it is stored now.

    The index that names them can lack an organization that was created a moment ago.

    Raises: TableBusy.
    """
    named = listed.keys(dynamodb, table, LISTS, LISTED_IN, organizations_lists())
    found = listed.items(dynamodb, table, named)
    return [_plain(item) for item in sorted(found, key=lambda item: str(item["pk"]["S"]))]


def has_plan(dynamodb: "DynamoDBClient", table: str, plan: str) -> bool:
    """Whether the plan is stored."""
    return "Item" in dynamodb.get_item(TableName=table, Key=plan_key(plan), ConsistentRead=True)


def _update(organization: str, status: Status | None, wanted: Settings, found: Mapping[str, Any] | None) -> Any:
    """Build one conditional write that turns the `found` organization into the `wanted` one.

    The conditions make the write fail if another writer changed a basis of this decision since the read:

    - existence: the organization still exists, or still does not.
    - status and subscription: their stamps are unchanged. Every writer of these attributes changes the stamps.
    - limits: their map still exists, or still does not. DynamoDB can set an entry only in a map that exists before
      the write.
    """
    names: dict[str, str] = {}
    values: dict[str, Item] = {":organization": {"S": organization}, ":list": organizations_list(organization)}
    sets = ["organizationId = :organization", f"{LISTED_IN} = :list"]
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
    """The changes to the subscription, including the name of its plan."""
    changes = dict(wanted.subscription)
    if wanted.plan_name is not None:
        plan = wanted.subscription.get("planId") or stored.get("planId")
        if plan is None:
            raise UsageWrong(f"{organization} has no plan for --plan-name: give --plan as well.")
        changes["planName"] = plan_name_attribute(plan["S"], wanted.plan_name)
    return changes


def _stamped(changes: Iterable[str], by_hand: str, before: Mapping[str, Item]) -> dict[str, Item]:
    """The stamps `before`, with new stamps for the changed attributes."""
    # Other clocks can be ahead of ours. The new stamp must be the latest, so that a redelivered event does not win.
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
    """The organization's own limits by feature, and the features whose own limit is removed."""
    own: dict[str, int | None] = {}
    as_planned: set[str] = set()
    if len(given) > _MOST_LIMITS:
        mistakes.append(f"--limit is given {len(given)} times: give it at most {_MOST_LIMITS} times.")
    for text in given:
        feature, _, limit = text.partition("=")
        if not re.fullmatch(FEATURE_PATTERN, feature):
            mistakes.append(
                f"--limit is {text!r}: it must be FEATURE=LIMIT. FEATURE has 1 to 64 letters, digits, `_`, `.` or "
                "`-` and starts with a letter."
            )
        elif feature in own or feature in as_planned:
            mistakes.append(f"--limit is {text!r}: the limit of {feature} is given twice.")
        elif limit == AS_PLANNED:
            as_planned.add(feature)
        elif limit == UNLIMITED:
            own[feature] = None
        elif number.WHOLE.fullmatch(limit) and 0 <= int(limit) <= MAX_LIMIT:
            own[feature] = int(limit)
        else:
            mistakes.append(
                f"--limit is {text!r}: LIMIT must be `{UNLIMITED}`, `{AS_PLANNED}`, or a whole number from 0 to "
                f"{MAX_LIMIT}. A number has no plus sign and no leading zeros. `{AS_PLANNED}` removes the "
                "organization's own limit."
            )
    return own, as_planned


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return parse


# The characters with Unicode's property Bidi_Control can make a name look like another name. A name from an event can
# have them, because events can quote any text. An operator never enters them on purpose. plans.schema.json has the same
# set.
_BIDIRECTIONAL = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"

_MOMENT = "a time in RFC 3339 with an offset, such as 2026-11-23T00:20:04Z"

# By field of Organization: its option, the requirement for its value, and its parser.
OPTIONS: Mapping[str, tuple[str, str, Callable[[Any], Any]]] = {
    "plan": (
        "--plan",
        "a plan id of 1 to 64 letters, digits, `_`, `.` or `-` that starts with a letter or digit",
        _matching(PLAN_PATTERN),
    ),
    "plan_name": (
        "--plan-name",
        "1 to 255 characters in one line, without characters that change the text direction",
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
    """Check that an organization can have this name.

    Raises: UsageWrong.
    """
    if not re.fullmatch(ORGANIZATION_NAME_PATTERN, organization):
        raise UsageWrong(
            f"{organization!r} is not an organization name. A name has 1 to 64 letters, digits, `_` or `-`. It is not "
            "null, true or false."
        )


def _settings_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an organization as `get` returns it, by the names of their options."""
    settings = {option: plain[name] for name, option in _OPTION_OF.items() if name in plain}
    return settings | {f"limit {feature}": limit for feature, limit in plain.get("limits", {}).items()}


def _shown(name: str, settings: Mapping[str, Any]) -> str:
    absent = AS_PLANNED if name.startswith("limit ") else NO_TRIAL
    value = settings.get(name, absent)
    return str(value).lower() if isinstance(value, bool) else one_line(str(value))


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of `item` without the table's and the indexes' keys, as plain values in display order."""
    deserialize = TypeDeserializer().deserialize
    plain = {name: deserialize(value) for name, value in item.items() if name not in ("pk", "sk", LISTED_IN)}
    if isinstance(plain.get("limits"), dict):
        plain["limits"] = {
            feature: UNLIMITED if limit is None else limit for feature, limit in sorted(plain["limits"].items())
        }
    if isinstance(named := plain.get("planName"), dict):
        # As in subscription.get: a name that is stored for another plan is not this plan's name.
        if named.get("plan") == plain.get("planId"):
            plain["planName"] = named["name"]
        else:
            del plain["planName"]
    order = {name: place for place, name in enumerate(_FIRST)}
    return {name: plain[name] for name in sorted(plain, key=lambda name: (order.get(name, len(order)), name))}
