"""The table's items: what a transaction writes, what the stream and the queries read.

    pk = usage#<organization>#<key>        sk = record             one usage, kept for the retention
    pk = counter#<organization>#<period>   sk = <feature>#<shard>  part of a total, summed on read: shards 0 to 7
    pk = counter#<organization>#<period>   sk = <feature>#pages    how many pages of shards there are, if more than one
    pk = counter#<organization>#<period>#<feature>#<page>
                                           sk = <feature>#<shard>  shards of a further page: page 1 has 8 to 15
    pk = organization#<organization>       sk = organization       who may record

Organizations and features hold no `#` and the idempotency key comes last, so a stored key decodes to exactly one set
of parts. Whoever adds to a further page has seen it announced, so whoever then reads the announcement misses none.
Items are in DynamoDB's own form (`{"S": …}`, `{"N": …}`), which the stream's images share.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

from metering.errors import MalformedItem

Item: TypeAlias = dict[str, Any]

ORGANIZATION_PATTERN = r"[A-Za-z0-9_-]{1,64}"
# What an organization may be called. API Gateway shows a claim of null, true or false as such a text, so these would
# belong to everybody whose token has no proper claim. Stored keys may still hold them.
ORGANIZATION_NAME_PATTERN = rf"(?!(?:null|true|false)$){ORGANIZATION_PATTERN}"
FEATURE_PATTERN = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
KEY_PATTERN = r"[\x21-\x7e]{1,255}"
TRACE_ID_PATTERN = r"[\x20-\x7e]{1,128}"
BILLING_PERIOD_PATTERN = r"[0-9]{4}-(0[1-9]|1[0-2])"

# Totals stay exact in JavaScript (2^53) for nine million of the largest quantity in one period.
MAX_QUANTITY = 1_000_000_000
# What a number in DynamoDB keeps exactly.
MAX_TOTAL = 10**38 - 1

# A request whose answer was lost may land so much later: DynamoDB takes a signature for 15 minutes, and a request lasts
# less than one. If TTL deleted a record sooner, a request that was sent while its key was taken could still count.
LATEST_LANDING_S = 20 * 60

USAGE_PREFIX = "usage#"
COUNTER_PREFIX = "counter#"
ORGANIZATION_PREFIX = "organization#"
FIRST_SHARD = 0
# A partition key serves about 1,000 write units a second and an addition in a transaction costs two: eight items that
# are held for 6 ms each, at the share of the time at which few meet, take half of that.
SHARDS_PER_PAGE = 8
# What a reader of the total has to ask at most.
MOST_PAGES = 64
# In the key of a counter's announcement, and the attribute that says how many there are.
PAGES = "pages"
# On a counter's first shard: all of the counter is in it, and a hard limit may rely on that.
HARD = "hard"
ORGANIZATION_STATUSES = ("active", "inactive")


class CounterId(NamedTuple):
    """Whose usage of what, and when, is added up."""

    organization: str
    billing_period: str
    feature: str


@dataclass(frozen=True)
class Usage:
    """One usage of a feature by an organization: what a usage record stores and an event tells."""

    organization: str
    feature: str
    quantity: int
    idempotency_key: str
    fingerprint: str
    event_id: str
    recorded_at: datetime
    """Aware, UTC, whole milliseconds."""
    billing_period: str
    """The UTC month of `recorded_at`, as `2026-11`."""
    expires_at: int
    """Epoch seconds: from this second on the idempotency key is free again."""
    trace_id: str | None = None
    source_id: str | None = None
    source_type: str | None = None
    metadata: str | None = None
    """The caller's JSON object, as compact text."""

    @property
    def counter(self) -> CounterId:
        """Where it is added up."""
        return CounterId(self.organization, self.billing_period, self.feature)


class StoredUsage(NamedTuple):
    """A usage that is in the table."""

    usage: Usage
    shard: Item | None = None
    """The key of the counter's shard that it was added to, if its record was found and not just written."""


def billing_period_of(moment: datetime) -> str:
    """The billing period that an aware `moment` falls into: its UTC month."""
    return moment.astimezone(UTC).strftime("%Y-%m")


def to_timestamp(moment: datetime) -> str:
    """ISO 8601 with milliseconds, in UTC: `2026-11-23T00:20:04.123Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_epoch_s(moment: datetime) -> int:
    """Whole seconds since 1970, rounded down: the form in which DynamoDB's TTL compares."""
    return int(moment.timestamp() // 1)


def expiry(recorded_at: datetime, retention: timedelta) -> int:
    """The second at which a record of `recorded_at` ends."""
    return to_epoch_s(recorded_at) + int(retention.total_seconds())


def deletable_at(expires_at: int) -> int:
    """When TTL may delete a record whose key is free from `expires_at` on, as `expiresAt` stores it; epoch seconds."""
    return expires_at + LATEST_LANDING_S


def usage_key(organization: str, idempotency_key: str) -> Item:
    """Where the usage record of this key of this organization lives."""
    return {"pk": {"S": f"{USAGE_PREFIX}{organization}#{idempotency_key}"}, "sk": {"S": "record"}}


def counter_partition(organization: str, billing_period: str) -> str:
    """The partition key under which the first page of all counters of an organization's billing period lives."""
    return f"{COUNTER_PREFIX}{organization}#{billing_period}"


def page_partition(counter: CounterId, page: int) -> str:
    """The partition key under which a page of this counter's shards lives, from 0 on; each further one has its own."""
    first = counter_partition(counter.organization, counter.billing_period)
    return first if page == 0 else f"{first}#{counter.feature}#{page}"


def pages_key(counter: CounterId) -> Item:
    """Where the counter's pages are announced: on its first page, where every reader looks."""
    return {
        "pk": {"S": page_partition(counter, 0)},
        "sk": {"S": f"{counter_prefix(counter.feature)}{PAGES}"},
    }


def pages_announced(item: Mapping[str, Any]) -> int | None:
    """How many pages this item of a first page announces; None: it is a shard.

    Raises:
        MalformedItem: it announces none.
    """
    return pages_in(item) if text_in(item, "sk").endswith(f"#{PAGES}") else None


def pages_in(announcement: Mapping[str, Any]) -> int:
    """How many pages this announcement tells of.

    Raises:
        MalformedItem: it tells of none.
    """
    return whole_number_in(announcement, PAGES, 1, MOST_PAGES)


def counter_prefix(feature: str) -> str:
    """What the sort keys of all shards of this feature's counter begin with, and of no other's."""
    return f"{feature}#"


def counter_of(keys: Mapping[str, Any]) -> CounterId:
    """The counter that the item with these keys is part of: a shard of any page, or what announces its pages.

    Raises:
        MalformedItem: these are no counter's keys.
    """
    first = rf"{COUNTER_PREFIX}({ORGANIZATION_PATTERN})#({BILLING_PERIOD_PATTERN})"
    further = rf"(?:#({FEATURE_PATTERN})#[1-9][0-9]*)?"
    pk, sk = text_in(keys, "pk"), text_in(keys, "sk")
    page, item = re.fullmatch(first + further, pk), re.fullmatch(rf"({FEATURE_PATTERN})#(?:[0-9]+|{PAGES})", sk)
    if page is None or item is None or page[4] not in (None, item[1]):
        raise MalformedItem("pk and sk are not those of a counter")
    return CounterId(page[1], page[2], item[1])


def counter_feature(shard: Mapping[str, Any]) -> str:
    """The feature whose counter this shard, or its key, is part of."""
    feature: str = shard["sk"]["S"].rpartition("#")[0]
    return feature


def counter_shard(shard: Mapping[str, Any]) -> int:
    """The number of this shard of a counter.

    Raises:
        MalformedItem: it has none.
    """
    return int(text_in(shard, "sk", rf"{FEATURE_PATTERN}#[0-9]{{1,4}}").rpartition("#")[2])


def counter_total(shard: Mapping[str, Any]) -> int:
    """What was added to this shard of a counter.

    Raises:
        MalformedItem: it has no total.
    """
    return whole_number_in(shard, "total", 0, MAX_TOTAL)


def counter_key(usage: Usage, shard: int) -> Item:
    """Where `usage` is added up when it goes to this shard."""
    return {
        "pk": {"S": page_partition(usage.counter, shard // SHARDS_PER_PAGE)},
        "sk": {"S": f"{counter_prefix(usage.feature)}{shard}"},
    }


def organization_key(organization: str) -> Item:
    """Where the organization lives."""
    return {"pk": {"S": f"{ORGANIZATION_PREFIX}{organization}"}, "sk": {"S": "organization"}}


def usage_item(usage: Usage, shard: int) -> Item:
    """The usage record as it is stored; `counter` names the shard it was added to, so that totals can be audited."""
    item: Item = {
        **usage_key(usage.organization, usage.idempotency_key),
        "organizationId": {"S": usage.organization},
        "feature": {"S": usage.feature},
        "quantity": {"N": str(usage.quantity)},
        "billingPeriod": {"S": usage.billing_period},
        "recordedAt": {"S": to_timestamp(usage.recorded_at)},
        "fingerprint": {"S": usage.fingerprint},
        "eventId": {"S": usage.event_id},
        "counter": {"M": counter_key(usage, shard)},
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
    """The usage that a usage record, or a stream's image of one, stores.

    Raises:
        MalformedItem: an attribute is missing or is not what `usage_item` writes.
    """
    pk = text_in(item, "pk", rf"{USAGE_PREFIX}{ORGANIZATION_PATTERN}#{KEY_PATTERN}")
    _, organization, idempotency_key = pk.split("#", 2)
    if text_in(item, "organizationId") != organization:
        raise MalformedItem("organizationId is not the organization in pk")
    return Usage(
        organization=organization,
        feature=text_in(item, "feature", FEATURE_PATTERN),
        quantity=whole_number_in(item, "quantity", 1, MAX_QUANTITY),
        idempotency_key=idempotency_key,
        fingerprint=text_in(item, "fingerprint"),
        event_id=text_in(item, "eventId", r"[\x21-\x7e]{1,64}"),
        recorded_at=moment_in(item, "recordedAt"),
        billing_period=text_in(item, "billingPeriod", BILLING_PERIOD_PATTERN),
        expires_at=whole_number_in(item, "expiresAt", 0, 10**12) - LATEST_LANDING_S,
        trace_id=text_in(item, "traceId", TRACE_ID_PATTERN) if "traceId" in item else None,
        source_id=_optional_text(item, "sourceId"),
        source_type=_optional_text(item, "sourceType"),
        metadata=_optional_text(item, "metadata"),
    )


def stored_usage_from_item(item: Mapping[str, Any]) -> StoredUsage:
    """The usage that a usage record stores, and where it was added up.

    Raises:
        MalformedItem: an attribute is missing or is not what `usage_item` writes.
    """
    usage = usage_from_item(item)
    named = item.get("counter")
    shard = named.get("M") if isinstance(named, dict) else None
    if not isinstance(shard, dict) or set(shard) != {"pk", "sk"} or counter_of(shard) != usage.counter:
        raise MalformedItem("counter is not the key of a shard that the usage can have been added to")
    counter_shard(shard)
    return StoredUsage(usage, shard)


def _attribute(item: Mapping[str, Any], name: str, kind: str) -> str:
    attribute = item.get(name)
    value = attribute.get(kind) if isinstance(attribute, dict) else None
    if not isinstance(value, str):
        raise MalformedItem(f"{name} is missing or has another type than {kind}")
    return value


def text_in(item: Mapping[str, Any], name: str, pattern: str = r".+") -> str:
    """The text attribute `name`.

    Raises:
        MalformedItem: it is missing or does not match `pattern`.
    """
    value = _attribute(item, name, "S")
    if re.fullmatch(pattern, value) is None:
        raise MalformedItem(f"{name} does not have its form")
    return value


def _optional_text(item: Mapping[str, Any], name: str) -> str | None:
    return _attribute(item, name, "S") if name in item else None


def whole_number_in(item: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """The number attribute `name`, whole and from `least` to `most`.

    Raises:
        MalformedItem: it is missing or is another.
    """
    digits = _attribute(item, name, "N")
    if re.fullmatch(r"[0-9]{1,38}", digits) is None or not least <= int(digits) <= most:
        raise MalformedItem(f"{name} is not a whole number from {least} to {most}")
    return int(digits)


def moment_in(item: Mapping[str, Any], name: str) -> datetime:
    """The moment in the text attribute `name`, as `to_timestamp` writes it.

    Raises:
        MalformedItem: it is missing or none.
    """
    text = text_in(item, name, r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise MalformedItem(f"{name} is not a moment") from None
