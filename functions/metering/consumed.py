"""The events of others that this service consumes, in the contract's envelope, as changes to an organization.

Members that the contract does not name are ignored: whoever owns these events may add some.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from metering.errors import EventMalformed
from metering.items import ORGANIZATION_PATTERN, Item, to_timestamp
from metering.plans import PLAN_PATTERN, SUBSCRIPTION_STATUSES, stamp

SUBSCRIPTION_CHANGED = "billing.subscription.changed"
ORG_CREATED = "org.created"

# What an id may be that decides between two changes of one moment: visible ASCII, so that everybody orders it alike.
_ID_PATTERN = r"[\x21-\x7e]{1,128}"
_TEXT_PATTERN = r"[^\x00-\x1f]{1,256}"


@dataclass(frozen=True)
class Change:
    """What one event says of an organization."""

    key: str
    event_id: str
    organization: str
    stamp: str
    """Of two changes to one field the one with the greater stamp is the later."""
    fields: Mapping[str, Item | None] = field(default_factory=dict)
    """Attributes of the organization's item; None: it has none any more."""


def change_of(event: Any) -> Change:
    """The change that an event from the bus tells of.

    Raises:
        EventMalformed: it is not what the contract says; the message says where.
    """
    detail = _object(event, "detail")
    key = _text(detail, "key", r".+")
    if event.get("detail-type") != key:
        raise EventMalformed(f"detail-type is {event.get('detail-type')!r} and detail.key is {key!r}")
    if (version := _text(detail, "version", r"[0-9]+\.[0-9]+\.[0-9]+")).split(".")[0] != "1":
        raise EventMalformed(f"version {version} of {key} is not one that is understood here: 1.x.y is")
    payload = _object(detail, "payload")
    event_id = _text(detail, "id", _ID_PATTERN)
    organization = _text(payload, "organizationId", ORGANIZATION_PATTERN)
    if key == ORG_CREATED:
        return Change(key, event_id, organization, stamp(_moment(payload, "createdAt"), event_id))
    if key != SUBSCRIPTION_CHANGED:
        raise EventMalformed(f"{key} is not an event that is consumed here")
    changed_at = _moment(payload, "changedAt")
    return Change(key, event_id, organization, stamp(changed_at, event_id), _subscription(payload))


def _subscription(payload: Mapping[str, Any]) -> dict[str, Item | None]:
    status = _text(payload, "newStatus", r".+")
    if status not in SUBSCRIPTION_STATUSES:
        raise EventMalformed(f"newStatus is {status!r} and not one of {', '.join(SUBSCRIPTION_STATUSES)}")
    fields: dict[str, Item | None] = {
        "planId": {"S": _text(payload, "newPlan", PLAN_PATTERN)},
        # The name of another plan is no name of this one.
        "planName": None,
        "subscriptionStatus": {"S": status},
    }
    for name in ("subscriptionId", "planName"):
        if payload.get(name) is not None:
            fields[name] = {"S": _text(payload, name, _TEXT_PATTERN)}
    for name in ("currentPeriodStart", "currentPeriodEnd", "trialEndsAt"):
        if name in payload:
            known = payload[name] is not None
            fields[name] = {"S": to_timestamp(_moment(payload, name))} if known else None
    if payload.get("cancelAtPeriodEnd") is not None:
        if not isinstance(payload["cancelAtPeriodEnd"], bool):
            raise EventMalformed("cancelAtPeriodEnd is neither true nor false")
        fields["cancelAtPeriodEnd"] = {"BOOL": payload["cancelAtPeriodEnd"]}
    return fields


def _object(value: Any, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(found, Mapping):
        raise EventMalformed(f"{name} is missing or is no object")
    return found


def _text(value: Mapping[str, Any], name: str, pattern: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or re.fullmatch(pattern, found) is None:
        raise EventMalformed(f"{name} is missing or does not have its form")
    return found


def _moment(value: Mapping[str, Any], name: str) -> datetime:
    text = _text(value, name, r"[0-9]{4}-[0-9]{2}-[0-9]{2}T.+")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise EventMalformed(f"{name} has no offset from UTC")
        # Milliseconds are what is stored; what cannot be said in UTC overflows.
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise EventMalformed(f"{name} is not a moment in ISO 8601") from None
