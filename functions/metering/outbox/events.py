"""The events that this service publishes, in the contract's envelope.

    {id, occurredAt, traceId?, key, version, payload}

`id` identifies the fact. It is stored with the usage or the notice, so every delivery of one fact has the same id.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from metering.model.mappings import mapping_in
from metering.model.moments import to_timestamp
from metering.model.notices import REACHED, Notice
from metering.model.usage import Usage
from metering.outbox.stream_batches import change_in
from metering.storage.attributes import Item
from metering.storage.notice_items import NOTICE_PREFIX, notice_from_item
from metering.storage.signals import MalformedItem
from metering.storage.usage_records import USAGE_PREFIX, usage_from_item

if TYPE_CHECKING:
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

USAGE_RECORDED = "billing.usage.recorded"
LIMIT_REACHED = "billing.limit.reached"
LIMIT_APPROACHING = "billing.limit.approaching"

# The failure bucket's prefix for stream records that can never become an event.
UNPUBLISHABLE = "unpublishable"


@dataclass(frozen=True)
class Fact:
    """New usage or a new notice, as its event reports it."""

    id: str
    key: str
    occurred_at: datetime
    payload: dict[str, Any]
    trace_id: str | None = None


def new_fact(record: Mapping[str, Any]) -> Fact | None:
    """Return the new fact in a stream record, or None if there is none.

    A fact is new if its event id differs from the old image's. INSERT or MODIFY does not decide this. A
    MODIFY is also new usage that replaces an expired item, and an operator's edit of a stored item.

    Raises:
        MalformedItem: the record should hold a usage or a notice, but does not.
    """
    if not isinstance(record, Mapping):
        raise MalformedItem("the stream record is not an object")
    if record.get("eventName") == "REMOVE":
        return None
    change = change_in(record)
    image = change.get("NewImage")
    if not isinstance(image, dict):
        raise MalformedItem("the stream record has no new image")
    fact = _fact(image)
    if fact is None or fact.id == mapping_in(change, "OldImage", "eventId").get("S"):
        return None
    return fact


def usage_recorded(usage: Usage) -> Fact:
    """Return the fact of `billing.usage.recorded`.

    Raises:
        MalformedItem: the stored metadata is not a JSON object.
    """
    payload: dict[str, Any] = {
        "organizationId": usage.organization,
        "feature": usage.feature,
        "quantity": usage.quantity,
        "billingPeriod": usage.billing_period,
        "recordedAt": to_timestamp(usage.recorded_at),
        "idempotencyKey": usage.idempotency_key,
    }
    if usage.source_id is not None:
        payload["sourceId"] = usage.source_id
    if usage.source_type is not None:
        payload["sourceType"] = usage.source_type
    if usage.metadata is not None:
        payload["metadata"] = _object_in(usage.metadata)
    return Fact(usage.event_id, USAGE_RECORDED, usage.recorded_at, payload, usage.trace_id)


def limit_noticed(notice: Notice) -> Fact:
    """Return the fact of `billing.limit.reached`, or of `billing.limit.approaching` with the crossed threshold."""
    payload = {
        "organizationId": notice.organization,
        "feature": notice.feature,
        "limit": notice.limit,
        "currentUsage": notice.current_usage,
        "reachedAt": to_timestamp(notice.noticed_at),
    }
    if notice.percentage == REACHED:
        return Fact(notice.event_id, LIMIT_REACHED, notice.noticed_at, payload)
    return Fact(notice.event_id, LIMIT_APPROACHING, notice.noticed_at, {**payload, "percentage": notice.percentage})


def envelope(fact: Fact) -> dict[str, Any]:
    """Return the event's `detail`."""
    return {
        "id": fact.id,
        "occurredAt": to_timestamp(fact.occurred_at),
        **({} if fact.trace_id is None else {"traceId": fact.trace_id}),
        "key": fact.key,
        "version": "1.0.0",
        "payload": fact.payload,
    }


def entry(fact: Fact, bus: str, source: str) -> "PutEventsRequestEntryTypeDef":
    """Return the fact's event as an entry of PutEvents."""
    return {
        "EventBusName": bus,
        "Source": source,
        "DetailType": fact.key,
        "Time": fact.occurred_at,
        # UTF-8 without escapes and spaces, so that metadata needs no more bytes here than its input limit allows.
        "Detail": _compact(envelope(fact)),
    }


def _object_in(metadata: str) -> dict[str, Any]:
    try:
        value = json.loads(metadata)
        # A text that was edited by hand can escape half of a surrogate pair, which UTF-8 cannot encode.
        _compact(value).encode()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise MalformedItem("metadata is not a JSON object")
    return value


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _fact(image: Item) -> Fact | None:
    pk = mapping_in(image, "pk").get("S")
    if isinstance(pk, str) and pk.startswith(NOTICE_PREFIX):
        return limit_noticed(notice_from_item(image))
    # An item with an unreadable key is possibly a usage, so it is malformed rather than of another kind.
    if not isinstance(pk, str) or pk.startswith(USAGE_PREFIX):
        return usage_recorded(usage_from_item(image))
    return None
