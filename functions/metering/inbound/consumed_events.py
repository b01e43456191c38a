"""The other services' events that this service consumes, in the contract's envelope, as changes to an organization.

    billing.subscription.changed  organizationId, newPlan, newStatus, changedAt, more of the subscription
    org.created                   organizationId or orgId, createdAt
    org.deleted                   organizationId or orgId, deletedAt

The service ignores members that the contract does not name, because the owners of these events can add members. An
optional member of null counts as absent. The exception is `trialEndsAt`: null means that there is no trial any more.
Publishers find the accepted form in events/<detail-type>.schema.json.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from metering.model import moments
from metering.model.errors import MeteringError
from metering.model.moments import to_timestamp
from metering.model.names import ORGANIZATION_NAME_PATTERN, PLAN_NAME_PATTERN, PLAN_PATTERN, SUBSCRIPTION_ID_PATTERN
from metering.model.organizations import SUBSCRIPTION_STATUSES
from metering.storage.attributes import Item
from metering.storage.organization_items import plan_name_attribute, stamp

SUBSCRIPTION_CHANGED = "billing.subscription.changed"
ORG_CREATED = "org.created"
ORG_DELETED = "org.deleted"
CONSUMED = (SUBSCRIPTION_CHANGED, ORG_CREATED, ORG_DELETED)

# The id decides between two changes at the same moment. It is visible ASCII, so that every service sorts ids alike.
EVENT_ID_PATTERN = r"[\x21-\x7e]{1,128}"
VERSION_PATTERN = r"1\.[0-9]+\.[0-9]+"
# The last change wins, so a change from the far future would override all later changes. Other services' clocks are
# wrong by minutes, or by hours if they take local time for UTC.
MAX_AHEAD = timedelta(days=1)
# The maximum number of characters that a reason quotes of a value. They are enough to recognize the value.
_MAX_SHOWN = 100


class EventMalformed(MeteringError):
    """An event of another service breaks the contract. The message says where."""


@dataclass(frozen=True)
class Change:
    """The change that one event makes to an organization."""

    key: str
    event_id: str
    organization: str
    stamp: str
    """Of two changes to the same field, the change with the greater stamp is the later."""
    fields: Mapping[str, Item | None] = field(default_factory=dict)
    """Attributes of the organization's item; None removes the attribute."""


def change_of(event: Any, now: datetime) -> Change:
    """Return the change that an event from the bus describes, as of `now`.

    Raises:
        EventMalformed: the event breaks the contract; the message says where.
    """
    detail = _object(event, "detail")
    key = _text(detail, "key", r".+")
    if event.get("detail-type") != key:
        detail_type = event.get("detail-type")
        raise EventMalformed(f"detail-type is {_shown(repr(detail_type))} but detail.key is {_shown(repr(key))}")
    if key not in CONSUMED:
        raise EventMalformed(f"this service does not consume the event {_shown(repr(key))}")
    version = _text(detail, "version", r"[0-9]+\.[0-9]+\.[0-9]+")
    if re.fullmatch(VERSION_PATTERN, version) is None:
        raise EventMalformed(f"version {_shown(version)} of {key} is not supported: publish 1.x.y")
    payload = _object(detail, "payload")
    event_id = _text(detail, "id", EVENT_ID_PATTERN)
    if key == ORG_CREATED:
        return Change(key, event_id, _organization(payload), stamp(_happened(payload, "createdAt", now), event_id))
    if key == ORG_DELETED:
        deleted = stamp(_happened(payload, "deletedAt", now), event_id)
        return Change(key, event_id, _organization(payload), deleted, {"status": {"S": "inactive"}})
    organization = _text(payload, "organizationId", ORGANIZATION_NAME_PATTERN)
    changed_at = _happened(payload, "changedAt", now)
    return Change(key, event_id, organization, stamp(changed_at, event_id), _subscription(payload))


def _organization(payload: Mapping[str, Any]) -> str:
    """Return the organization that was created or deleted. The contract's identity module names it `orgId`."""
    given = [name for name in ("organizationId", "orgId") if payload.get(name) is not None]
    names = {_text(payload, name, ORGANIZATION_NAME_PATTERN) for name in given}
    if not names:
        raise EventMalformed("organizationId and orgId are missing: send one of them")
    if len(names) > 1:
        raise EventMalformed("organizationId and orgId differ: send one, or the same text in both")
    return names.pop()


def _subscription(payload: Mapping[str, Any]) -> dict[str, Item | None]:
    plan = _text(payload, "newPlan", PLAN_PATTERN)
    status = _status(payload)
    fields: dict[str, Item | None] = {"planId": {"S": plan}, "subscriptionStatus": {"S": status}}
    present = {name for name, value in payload.items() if value is not None}
    if "planName" in present:
        fields["planName"] = plan_name_attribute(plan, _text(payload, "planName", PLAN_NAME_PATTERN))
    if "subscriptionId" in present:
        fields["subscriptionId"] = {"S": _text(payload, "subscriptionId", SUBSCRIPTION_ID_PATTERN)}
    moment_names = ("currentPeriodStart", "currentPeriodEnd", "trialEndsAt")
    found = {name: _moment(payload, name) for name in moment_names if name in present}
    start, end = found.get("currentPeriodStart"), found.get("currentPeriodEnd")
    if start and end and start >= end:
        raise EventMalformed("currentPeriodEnd is not after currentPeriodStart")
    fields |= {name: {"S": to_timestamp(moment)} for name, moment in found.items()}
    if "trialEndsAt" in payload:
        fields.setdefault("trialEndsAt", None)
    if "cancelAtPeriodEnd" in present:
        if not isinstance(payload["cancelAtPeriodEnd"], bool):
            raise EventMalformed("cancelAtPeriodEnd is not true or false")
        fields["cancelAtPeriodEnd"] = {"BOOL": payload["cancelAtPeriodEnd"]}
    return fields


def _status(payload: Mapping[str, Any]) -> str:
    """Return the status as it is stored. The contract types it as any text, so upper and lower case are accepted."""
    sent = _text(payload, "newStatus", r".+")
    # Only ASCII: beyond it, different letters share a capital. S is also the capital of U+017F.
    status = sent.upper() if sent.isascii() else sent
    if status not in SUBSCRIPTION_STATUSES:
        one_of = ", ".join(SUBSCRIPTION_STATUSES)
        raise EventMalformed(f"newStatus is {_shown(repr(sent))}, not one of {one_of} (upper or lower case)")
    return status


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _object(value: Any, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(found, Mapping):
        raise EventMalformed(f"{name} is missing or is not an object")
    return found


def _text(value: Mapping[str, Any], name: str, pattern: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or re.fullmatch(pattern, found) is None:
        raise EventMalformed(f"{name} is missing or malformed")
    return found


def _moment(value: Mapping[str, Any], name: str) -> datetime:
    found = value.get(name)
    try:
        return moments.parse(found if isinstance(found, str) else "")
    except ValueError as error:
        raise EventMalformed(f"{name} is missing or is {error}") from None


def _happened(value: Mapping[str, Any], name: str, now: datetime) -> datetime:
    moment = _moment(value, name)
    if moment > now + MAX_AHEAD:
        raise EventMalformed(f"{name} is more than a day ahead of this service's clock, {to_timestamp(now)}")
    return moment
