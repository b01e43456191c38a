"""What stands in the table, read by the table's documented shapes and by nothing of the functions."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any, TypeAlias

from tests.faults.settings import Rule

# Organization, feature, billing period.
Counted: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Fact:
    """A usage record as it stood in the table."""

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
    """Partition and sort key of the counter's item that it was added to."""

    @property
    def counter(self) -> Counted:
        return self.organization, self.feature, self.period

    @cached_property
    def recorded_at_s(self) -> float:
        return datetime.fromisoformat(self.recorded_at).timestamp()

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the client must have sent for it."""
        optional = {
            "sourceId": self.source_id,
            "sourceType": self.source_type,
            "metadata": None if self.metadata is None else json.loads(self.metadata),
        }
        sent = {"feature": self.feature, "quantity": self.quantity}
        return sent | {name: value for name, value in optional.items() if value is not None}

    @property
    def payload(self) -> dict[str, Any]:
        """What its event tells."""
        return {
            "organizationId": self.organization,
            "feature": self.feature,
            "quantity": self.quantity,
            "billingPeriod": self.period,
            "recordedAt": self.recorded_at,
        }

    def valid_within(self, began_at_s: float, ended_at_s: float, skew_s: float) -> bool:
        """Whether it may have held its key at some moment between, by a clock that may differ so much."""
        # A millisecond is what is stored; the world's clock is a binary fraction.
        return self.recorded_at_s <= ended_at_s + skew_s + 0.001 and self.expires_at_s > int(began_at_s - skew_s)

    def valid_after(self, ended_at_s: float, skew_s: float) -> bool:
        """Whether it still held its key then, late as an environment may have been."""
        return self.expires_at_s > ended_at_s + skew_s + 1


@dataclass(frozen=True)
class Shard:
    """A part of a counter as it stood in the table."""

    counter: Counted
    page: int
    """By its partition key; the first one is 0."""
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


@dataclass(frozen=True)
class Announcement:
    """How many pages of shards a counter has, as it stood in the table."""

    counter: Counted
    page: int
    """On which page it stands, by its partition key."""
    pages: int
    total: int


@dataclass(frozen=True)
class Notice:
    """That usage had reached a part of a limit, as it stood in the table."""

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
        """What its event tells."""
        told = {
            "organizationId": self.organization,
            "feature": self.feature,
            "limit": self.limit,
            "currentUsage": self.usage,
            "reachedAt": self.noticed_at,
        }
        return told if self.percentage == 100 else told | {"percentage": self.percentage}


def fact_in(item: Mapping[str, Any]) -> Fact | None:
    """The record that the item holds; None if it is spoilt."""
    try:
        _, organization, key = item["pk"]["S"].split("#", 2)
        if item["organizationId"]["S"] != organization:
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
            # TTL deletes a record 20 minutes after its key is free: a request that was lost may land until then.
            expires_at_s=int(item["expiresAt"]["N"]) - 20 * 60,
            trace_id=item["traceId"]["S"],
            source_id=item.get("sourceId", {}).get("S"),
            source_type=item.get("sourceType", {}).get("S"),
            metadata=item.get("metadata", {}).get("S"),
            shard=(item["counter"]["M"]["pk"]["S"], item["counter"]["M"]["sk"]["S"]),
        )
    except (KeyError, ValueError):
        return None


def notice_in(item: Mapping[str, Any]) -> Notice | None:
    """The notice that the item holds; None if it is spoilt."""
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
    """The billing period of this moment."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m")


@cache
def start_of(period: str) -> float:
    """The moment at which a billing period begins, in seconds since 1970."""
    return datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC).timestamp()


def name_of(found: Fact | Notice) -> str:
    return f"record {found.organization} {found.key}" if isinstance(found, Fact) else found.name


def key_of(found: Fact | Notice) -> str:
    if isinstance(found, Fact):
        return "billing.usage.recorded"
    return "billing.limit.reached" if found.percentage == 100 else "billing.limit.approaching"


def of_kind(kind: str, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (item for item in items if item["pk"]["S"].partition("#")[0] == kind)


def shards_in(items: Iterable[dict[str, Any]]) -> Iterator[Shard]:
    """All counters' shards, with what they count."""
    for item in of_kind("counter", items):
        found = counter_item(item)
        if isinstance(found, Shard):
            yield found


def announcements_in(items: Iterable[dict[str, Any]]) -> Iterator[Announcement]:
    """How many pages counters have; of those that have more than one."""
    for item in of_kind("counter", items):
        found = counter_item(item)
        if isinstance(found, Announcement):
            yield found


def counter_item(item: dict[str, Any]) -> Shard | Announcement | None:
    """What this item of a counter is; None: nothing that a counter has."""
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
    """What a plan's item says of each feature."""
    found: dict[str, Rule] = {}
    for feature, stored in plan["features"]["M"].items():
        limit = limit_in(stored["M"]["limit"])
        warn_at = tuple(int(each["N"]) for each in stored["M"]["warnAt"]["L"])
        hard = stored["M"]["enforcement"]["S"] == "hard"
        found[feature] = Rule(None if isinstance(limit, str) else limit, hard, warn_at)
    return found


def limit_in(stored: Mapping[str, Any]) -> int | str:
    return int(stored["N"]) if "N" in stored else "unlimited"
