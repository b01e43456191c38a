"""The usage record: one usage, kept for the retention time.

    pk = usage#<organization>#<bucket>    sk = <key>    the request's values, derived values, the shard that counts it

The bucket is the first two hex digits of the idempotency key's SHA-256. So 256 queries read all records of an
organization. A partition key serves 1,000 write units per second. At 100,000 records per second of one organization,
each bucket takes 781.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from metering.model.moments import to_epoch_s, to_timestamp
from metering.model.names import FEATURE_PATTERN, KEY_PATTERN, ORGANIZATION_PATTERN, TRACE_ID_PATTERN
from metering.model.periods import BILLING_PERIOD_PATTERN, MAX_DAYS
from metering.model.usage import MAX_QUANTITY, Usage
from metering.storage.attributes import Item, moment_in, optional_text_in, text_in, whole_number_in
from metering.storage.counter_items import counter_key, counter_of, counter_shard
from metering.storage.signals import MalformedItem

USAGE_PREFIX = "usage#"
BUCKETS = 256
# A request whose answer was lost can commit this much later. DynamoDB accepts a signature for 15 minutes, and a request
# takes less than one minute. If TTL deleted a record sooner, a late request from before the expiry could count again.
LATEST_COMMIT_S = 20 * 60


class StoredUsage(NamedTuple):
    """A usage in the table."""

    usage: Usage
    shard: Item | None = None
    """The key of the shard that counts the usage, if its record was found rather than written."""


def usage_key(organization: str, idempotency_key: str) -> Item:
    """Return the key of the usage record under this idempotency key of this organization."""
    return {"pk": {"S": usage_partition(organization, bucket_of(idempotency_key))}, "sk": {"S": idempotency_key}}


def usage_partition(organization: str, bucket: int) -> str:
    """Return the partition key of the organization's records in this bucket, from 0 to 255."""
    return f"{USAGE_PREFIX}{organization}#{bucket:02x}"


def bucket_of(idempotency_key: str) -> int:
    """Return the bucket of the record under this idempotency key."""
    return hashlib.sha256(idempotency_key.encode()).digest()[0]


def deletable_at(expires_at: int) -> int:
    """Return `expiresAt`, the epoch second from which TTL can delete a record. Its key is free from `expires_at` on."""
    return expires_at + LATEST_COMMIT_S


def has_expired(usage: Usage, now: datetime) -> bool:
    """Return whether the usage's idempotency key is free at `now`. TTL deletes an expired record later."""
    return usage.expires_at <= to_epoch_s(now)


def usage_item(usage: Usage, shard: int) -> Item:
    """Return the usage record as it is stored. `counter` names the shard that counts it, for audits of totals."""
    item: Item = {
        **usage_key(usage.organization, usage.idempotency_key),
        "organizationId": {"S": usage.organization},
        "feature": {"S": usage.feature},
        "quantity": {"N": str(usage.quantity)},
        "billingPeriod": {"S": usage.billing_period},
        "recordedAt": {"S": to_timestamp(usage.recorded_at)},
        "fingerprint": {"S": usage.fingerprint},
        "eventId": {"S": usage.event_id},
        "counter": {"M": {**counter_key(usage.counter, shard), "day": {"N": str(usage.day)}}},
        "expiresAt": {"N": str(deletable_at(usage.expires_at))},
    }
    optional = {
        "traceId": usage.trace_id,
        "sourceId": usage.source_id,
        "sourceType": usage.source_type,
        "metadata": usage.metadata,
    }
    return item | {name: {"S": value} for name, value in optional.items() if value is not None}


def usage_from_item(item: Mapping[str, Any]) -> Usage:
    """Return the usage that a usage record, or its image in the stream, stores.

    Raises:
        MalformedItem: an attribute is missing, or is not in the form that `usage_item` writes.
    """
    organization = text_in(item, "organizationId", ORGANIZATION_PATTERN)
    idempotency_key = text_in(item, "sk", KEY_PATTERN)
    if text_in(item, "pk") != usage_key(organization, idempotency_key)["pk"]["S"]:
        raise MalformedItem("pk is not the partition of this organization's key")
    return Usage(
        organization=organization,
        feature=text_in(item, "feature", FEATURE_PATTERN),
        quantity=whole_number_in(item, "quantity", 1, MAX_QUANTITY),
        idempotency_key=idempotency_key,
        fingerprint=text_in(item, "fingerprint"),
        event_id=text_in(item, "eventId", r"[\x21-\x7e]{1,64}"),
        recorded_at=moment_in(item, "recordedAt"),
        billing_period=text_in(item, "billingPeriod", BILLING_PERIOD_PATTERN),
        expires_at=whole_number_in(item, "expiresAt", 0, 10**12) - LATEST_COMMIT_S,
        trace_id=text_in(item, "traceId", TRACE_ID_PATTERN) if "traceId" in item else None,
        source_id=optional_text_in(item, "sourceId"),
        source_type=optional_text_in(item, "sourceType"),
        metadata=optional_text_in(item, "metadata"),
    )


def stored_usage_from_item(item: Mapping[str, Any]) -> StoredUsage:
    """Return the usage that a usage record stores, and the shard that counts it.

    Raises:
        MalformedItem: an attribute is missing, or is not in the form that `usage_item` writes.
    """
    usage = usage_from_item(item)
    named = item.get("counter")
    shard = named.get("M") if isinstance(named, dict) else None
    if not isinstance(shard, dict) or set(shard) != {"pk", "sk", "day"} or counter_of(shard) != usage.counter:
        raise MalformedItem("counter is not the key of a shard that can count this usage")
    if whole_number_in(shard, "day", 1, MAX_DAYS) != usage.day:
        raise MalformedItem("counter does not name the day of this usage")
    counter_shard(shard)
    return StoredUsage(usage, {"pk": shard["pk"], "sk": shard["sk"]})
