"""Reads the table's items by their documented shapes, without any code of the functions."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from hashlib import sha256
from typing import Any, TypeAlias

from tests.faults.settings import Rule

# A counter: organization, feature, billing period.
Counted: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Fact:
    """A usage record in the table."""

    event_id: str
    organization: str
    key: str
    feature: str
    quantity: int
    period: str
    recorded_at: str
    expires_at_s: int
    trace_id: str
    source_id: str | None
    source_type: str | None
    metadata: str | None
    shard: tuple[str, str]
    """The partition and sort key of the shard that the quantity was added to."""
    day: int
    """The day of the billing period that the quantity was added to."""

    @property
    def counter(self) -> Counted:
        return self.organization, self.feature, self.period

    @cached_property
    def recorded_at_s(self) -> float:
        return datetime.fromisoformat(self.recorded_at).timestamp()

    @property
    def date(self) -> str:
        """The UTC date on which it was recorded."""
        return self.recorded_at[:10]

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content that the client must have sent for this record."""
        optional = {
            "sourceId": self.source_id,
            "sourceType": self.source_type,
            "metadata": None if self.metadata is None else json.loads(self.metadata),
        }
        sent = {"feature": self.feature, "quantity": self.quantity}
        return sent | {name: value for name, value in optional.items() if value is not None}

    @property
    def payload(self) -> dict[str, Any]:
        """The payload that its event must have."""
        return self.content | {
            "organizationId": self.organization,
            "billingPeriod": self.period,
            "recordedAt": self.recorded_at,
            "idempotencyKey": self.key,
        }

    def valid_within(self, began_at_s: float, ended_at_s: float, skew_s: float) -> bool:
        """Return whether the record may have held its key at some moment of the interval.

        `skew_s` is the maximum skew of the clock that decided.
        """
        # Stored times have a resolution of 1 ms. The shared clock is a binary fraction.
        return self.recorded_at_s <= ended_at_s + skew_s + 0.001 and self.expires_at_s > int(began_at_s - skew_s)

    def valid_after(self, ended_at_s: float, skew_s: float) -> bool:
        """Return whether the record certainly still held its key at `ended_at_s`, with any skew up to `skew_s`."""
        return self.expires_at_s > ended_at_s + skew_s + 1


@dataclass(frozen=True)
class Shard:
    """A shard of a counter in the table."""

    counter: Counted
    page: int
    """The page by the partition key; the first page is 0."""
    number: int
    item: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        return self.item["pk"]["S"], self.item["sk"]["S"]

    @property
    def total(self) -> int:
        return int(self.item["total"]["N"])

    @property
    def count(self) -> int:
        return int(self.item["count"]["N"])

    @property
    def days(self) -> dict[int, int]:
        """The quantity of each day of the billing period."""
        return {int(name[1:]): int(value["N"]) for name, value in self.item.items() if re.fullmatch(r"d\d\d", name)}


@dataclass(frozen=True)
class Announcement:
    """The number of pages of a counter, announced in the table."""

    counter: Counted
    page: int
    """The page that holds the announcement, by its partition key."""
    pages: int
    total: int


@dataclass(frozen=True)
class Notice:
    """A notice in the table: usage reached a percentage of a limit."""

    event_id: str
    organization: str
    feature: str
    period: str
    limit: int
    percentage: int
    usage: int
    noticed_at: str
    expires_at_s: int

    @property
    def counter(self) -> Counted:
        return self.organization, self.feature, self.period

    @property
    def name(self) -> str:
        return f"the notice of {self.percentage} % of {self.limit} of {self.counter}"

    @property
    def payload(self) -> dict[str, Any]:
        """The payload that its event must have."""
        payload = {
            "organizationId": self.organization,
            "feature": self.feature,
            "limit": self.limit,
            "currentUsage": self.usage,
            "reachedAt": self.noticed_at,
        }
        return payload if self.percentage == 100 else payload | {"percentage": self.percentage}


def fact_in(item: Mapping[str, Any]) -> Fact | None:
    """The record in the item; None if the item is damaged."""
    try:
        _, organization, bucket = item["pk"]["S"].split("#")
        key = item["sk"]["S"]
        if item["organizationId"]["S"] != organization or bucket != sha256(key.encode()).hexdigest()[:2]:
            return None
        start_of(item["billingPeriod"]["S"])
        return Fact(
            event_id=item["eventId"]["S"],
            organization=organization,
            key=key,
            feature=item["feature"]["S"],
            quantity=int(item["quantity"]["N"]),
            period=item["billingPeriod"]["S"],
            recorded_at=item["recordedAt"]["S"],
            # TTL deletes a record only 20 minutes after its key is free, because a lost request may arrive until then.
            expires_at_s=int(item["expiresAt"]["N"]) - 20 * 60,
            trace_id=item["traceId"]["S"],
            source_id=item.get("sourceId", {}).get("S"),
            source_type=item.get("sourceType", {}).get("S"),
            metadata=item.get("metadata", {}).get("S"),
            shard=(item["counter"]["M"]["pk"]["S"], item["counter"]["M"]["sk"]["S"]),
            day=int(item["counter"]["M"]["day"]["N"]),
        )
    except (KeyError, ValueError):
        return None


def notice_in(item: Mapping[str, Any]) -> Notice | None:
    """The notice in the item; None if the item is damaged."""
    try:
        _, organization, period = item["pk"]["S"].split("#")
        feature, limit, percentage = item["sk"]["S"].split("#")
        usage = int(item["currentUsage"]["N"])
        if usage < 0:
            return None
        return Notice(
            event_id=item["eventId"]["S"],
            organization=organization,
            feature=feature,
            period=period,
            limit=int(limit),
            percentage=int(percentage),
            usage=usage,
            noticed_at=item["noticedAt"]["S"],
            expires_at_s=int(item["expiresAt"]["N"]),
        )
    except (KeyError, ValueError):
        return None


def period_of(at_s: float) -> str:
    """The billing period at this time."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m")


def date_of(at_s: float) -> str:
    """The UTC date at this time."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")


@cache
def start_of(period: str) -> float:
    """The start of a billing period, in seconds since 1970."""
    return datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC).timestamp()


@cache
def end_of(period: str) -> float:
    """The end of a billing period, which is the start of the next one, in seconds since 1970."""
    return start_of(period_of(start_of(period) + 32 * 24 * 3600))


def name_of(found: Fact | Notice) -> str:
    return f"record {found.organization} {found.key}" if isinstance(found, Fact) else found.name


def key_of(found: Fact | Notice) -> str:
    if isinstance(found, Fact):
        return "billing.usage.recorded"
    return "billing.limit.reached" if found.percentage == 100 else "billing.limit.approaching"


def of_kind(kind: str, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (item for item in items if item["pk"]["S"].partition("#")[0] == kind)


def shards_in(items: Iterable[dict[str, Any]]) -> Iterator[Shard]:
    """All shards of all counters."""
    for item in of_kind("counter", items):
        found = counter_item(item)
        if isinstance(found, Shard):
            yield found


def announcements_in(items: Iterable[dict[str, Any]]) -> Iterator[Announcement]:
    """The announcements of all counters with more than one page."""
    for item in of_kind("counter", items):
        found = counter_item(item)
        if isinstance(found, Announcement):
            yield found


def counter_item(item: dict[str, Any]) -> Shard | Announcement | None:
    """The shard or announcement in this item; None if the item is neither."""
    _, organization, period, *further = item["pk"]["S"].split("#")
    feature, _, which = item["sk"]["S"].partition("#")
    counter = organization, feature, period
    try:
        page = 0
        if further:
            owner, number = further
            page = int(number)
            if owner != feature or page < 1:
                return None
        if which == "pages":
            return Announcement(counter, page, int(item["pages"]["N"]), int(item["total"]["N"]))
        shard = Shard(counter, page, int(which), item)
        if shard.total < 0 or shard.count < 0:
            return None
    except (KeyError, ValueError):
        return None
    return shard


def rules_in(plan: Mapping[str, Any]) -> dict[str, Rule]:
    """The rule for each feature in a plan's item."""
    found: dict[str, Rule] = {}
    for feature, stored in plan["features"]["M"].items():
        limit = limit_in(stored["M"]["limit"])
        warn_at = tuple(int(each["N"]) for each in stored["M"]["warnAt"]["L"])
        hard = stored["M"]["enforcement"]["S"] == "hard"
        found[feature] = Rule(None if isinstance(limit, str) else limit, hard, warn_at)
    return found


def limit_in(stored: Mapping[str, Any]) -> int | str:
    return int(stored["N"]) if "N" in stored else "unlimited"
