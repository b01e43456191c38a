"""The events that are published, in the contract's envelope.

    {id, occurredAt, traceId?, key, version, payload}

`id` is the fact's: it is stored with the usage, so every delivery of one fact carries the same.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metering.errors import MalformedItem
from metering.items import USAGE_PREFIX, Item, Usage, to_timestamp, usage_from_item

if TYPE_CHECKING:
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

USAGE_RECORDED = "billing.usage.recorded"

# Below this prefix the failure bucket holds the stream records that can never become an event.
UNPUBLISHABLE = "unpublishable"


def new_usage(record: Mapping[str, Any]) -> Usage | None:
    """The usage that a stream record tells of for the first time, or None if it tells of none.

    An expired record is overwritten, not inserted, when its key is used again; and a record's own attributes may be
    touched by hand. Hence: a usage is new if its event id is not the one that was there before.

    Raises:
        MalformedItem: it should tell of a usage and does not.
    """
    if not isinstance(record, Mapping):
        raise MalformedItem("the stream record is no object")
    if record.get("eventName") == "REMOVE":
        return None
    change = _mapping(record.get("dynamodb"))
    image = change.get("NewImage")
    if not isinstance(image, dict):
        raise MalformedItem("the stream record has no new image")
    if not _is_usage(image):
        return None
    usage = usage_from_item(image)
    if usage.event_id == _mapping(_mapping(change.get("OldImage")).get("eventId")).get("S"):
        return None
    return usage


def sequence_number(record: Any) -> str:
    """Where the stream record stands in its shard; empty if it does not say."""
    return str(_mapping(_mapping(record).get("dynamodb")).get("SequenceNumber", ""))


def usage_recorded(usage: Usage) -> dict[str, Any]:
    """The envelope of `billing.usage.recorded` for this usage."""
    recorded_at = to_timestamp(usage.recorded_at)
    return {
        "id": usage.event_id,
        "occurredAt": recorded_at,
        **({} if usage.trace_id is None else {"traceId": usage.trace_id}),
        "key": USAGE_RECORDED,
        "version": "1.0.0",
        "payload": {
            "organizationId": usage.organization,
            "feature": usage.feature,
            "quantity": usage.quantity,
            "billingPeriod": usage.billing_period,
            "recordedAt": recorded_at,
        },
    }


def entry(usage: Usage, bus: str, source: str) -> "PutEventsRequestEntryTypeDef":
    """The usage's event as an entry of PutEvents."""
    return {
        "EventBusName": bus,
        "Source": source,
        "DetailType": USAGE_RECORDED,
        "Time": usage.recorded_at,
        "Detail": json.dumps(usage_recorded(usage)),
    }


def _is_usage(image: Item) -> bool:
    # An item whose key cannot be read might be a usage: it is malformed, not somebody else's.
    pk = _mapping(image.get("pk")).get("S")
    return not isinstance(pk, str) or pk.startswith(USAGE_PREFIX)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
