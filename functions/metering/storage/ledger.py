"""Usage records and counters: the transaction that writes both, and reads of the records.

`usage_records` and `counter_items` have the form of the items.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from metering.model.moments import to_epoch_s
from metering.model.usage import CounterId, Usage
from metering.storage.attributes import Item
from metering.storage.consistent_reads import read_in_transaction, read_item
from metering.storage.counter_items import FIRST_SHARD, HARD, counter_key, counter_total, day_attribute
from metering.storage.failures import BUSY_REASONS, CONFLICT, busy_when_unanswered
from metering.storage.lists import LISTED_IN, open_list
from metering.storage.signals import ItemsBusy, MalformedItem
from metering.storage.usage_records import (
    StoredUsage,
    deletable_at,
    has_expired,
    stored_usage_from_item,
    usage_item,
    usage_key,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Source: DynamoDB API reference, TransactWriteItems and TransactGetItems.
MAX_ACTIONS = 100


@dataclass(frozen=True)
class Recorded:
    """A recorded usage. `replayed`: its key already had this usage, so this time it counted nothing."""

    usage: Usage
    replayed: bool
    shard: Item | None = None
    """The shard that counts the usage, if the record was found, not written. `confirm` before a read of the total."""


Found = TypeVar("Found", Recorded, StoredUsage)


# A named tuple, because defining a dataclass takes six times as long at each cold start.
class Addition(NamedTuple):
    """Usages of one counter. One transaction records them and adds them to one shard."""

    counter: CounterId
    usages: Sequence[Usage]
    shard: int
    hard_limit: int | None = None
    """With a hard limit, the shard is the first one, which holds the whole counter."""
    lifts_limit: bool = False
    """Whether this addition removes the shard's hard limit, because a new read of the plan shows no hard limit."""

    @property
    def quantity(self) -> int:
        return sum(usage.quantity for usage in self.usages)

    def quantity_by_day(self) -> Mapping[int, int]:
        """The quantities by day of the billing period."""
        days: dict[int, int] = defaultdict(int)
        for usage in self.usages:
            days[usage.day] += usage.quantity
        return days


@dataclass
class Cancellation:
    """Why DynamoDB cancelled a transaction, by cause. The transaction wrote nothing."""

    stored: list[StoredUsage] = field(default_factory=list)
    """Existing records under the transaction's keys."""
    malformed: dict[str, MalformedItem] = field(default_factory=dict)
    """Existing records that cannot be read, by idempotency key."""
    busy_records: list[Usage] = field(default_factory=list)
    """Usages whose record another transaction locked, or DynamoDB throttled."""
    busy_shards: dict[CounterId, bool] = field(default_factory=dict)
    """Counters whose shard another transaction locked (False), or DynamoDB throttled (True)."""
    conflict: bool = False
    """Whether another transaction locked any record or shard."""
    full: dict[CounterId, int] = field(default_factory=dict)
    """Counters whose hard limit the addition would exceed, with their totals."""
    unreadable: dict[CounterId, MalformedItem] = field(default_factory=dict)
    """Counters to which nothing can be added, because their item is malformed."""
    soft: list[CounterId] = field(default_factory=list)
    """Counters that have no hard limit in this period. The addition has a hard limit."""
    hard: list[CounterId] = field(default_factory=list)
    """Counters that have a hard limit. The addition has no hard limit."""


def commit_additions(client: "DynamoDBClient", table: str, additions: Sequence[Addition]) -> Cancellation | None:
    """Record all of these usages or none. A usage that is sent again counts once.

    One transaction puts a record for each usage, unless an unexpired record has its key. For each counter, it adds the
    sum of the quantities to one shard. With a hard limit, the update requires that the total stays within the limit.
    Without a hard limit, an update of the first shard requires that the shard has none either. An addition that lifts
    the limit requires nothing.

    `additions` have at most MAX_ACTIONS usages and counters together. No key and no counter repeats.

    Returns: None if all usages are recorded; otherwise the reasons why none is.
    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer. Try again with the same usages: if this try committed
            them, the next try finds records with their `event_id`s.
    Source: DynamoDB API reference, TransactWriteItems, CancellationReasons.
    """
    actions: list[Any] = []
    # Cancellation reasons come in the order of the transaction's items.
    subjects: list[Usage | Addition] = []
    for addition in additions:
        subjects += [*addition.usages, addition]
        actions += [_put(table, usage, addition.shard) for usage in addition.usages] + [_add(table, addition)]
    try:
        # A crash before this call leaves nothing. After this call, the stream publishes the records, and the caller's
        # retry finds them.
        with busy_when_unanswered():
            client.transact_write_items(TransactItems=actions)
    except client.exceptions.TransactionCanceledException as cancelled:
        found = _cancellation(subjects, cancelled.response["CancellationReasons"])
        if found == Cancellation():
            # Any other reason is a bug of this service, such as an item that is too large.
            raise
        return found
    return None


class FoundRecords(NamedTuple):
    """The records found under some keys."""

    stored: list[StoredUsage]
    malformed: dict[str, MalformedItem]
    """Records that cannot be read, by idempotency key."""
    busy: list[Usage]
    """Usages whose record another transaction locked, or DynamoDB throttled. If there are any, nothing was read."""


def find_records(client: "DynamoDBClient", table: str, usages: Sequence[Usage]) -> FoundRecords:
    """Return the unexpired records under the keys of `usages`.

    One transaction reads all records. `usages` are 1 to 100 usages of one organization, with the same `recorded_at` and
    different keys.

    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer.
    """
    looked = FoundRecords([], {}, [])
    try:
        items = read_in_transaction(
            client, table, [usage_key(each.organization, each.idempotency_key) for each in usages]
        )
    except ItemsBusy as busy:
        looked.busy.extend(usages[position] for position in busy.positions)
        return looked
    for usage, item in zip(usages, items, strict=True):
        try:
            stored = None if item is None else stored_usage_from_item(item)
        except MalformedItem as malformed:
            looked.malformed[usage.idempotency_key] = malformed
        else:
            if stored is not None and not has_expired(stored.usage, usage.recorded_at):
                looked.stored.append(stored)
    return looked


def read_record(client: "DynamoDBClient", table: str, key: Item, now: datetime) -> StoredUsage | None:
    """Return the usage stored at `key`, or None if its record is missing or has expired at `now`.

    Expiry is exact to the second. The read is consistent: it finds all usage that was acknowledged before this call.

    Raises:
        MalformedItem: the record cannot be read.
        StoreBusy: DynamoDB throttled the call or did not answer.
    """
    item = read_item(client, table, key)
    if item is None:
        return None
    found = stored_usage_from_item(item)
    return None if has_expired(found.usage, now) else found


# `confirm` reads two items for each usage, its record and its shard. A transaction reads at most MAX_ACTIONS items.
MAX_CONFIRMED = MAX_ACTIONS // 2


def confirm(client: "DynamoDBClient", table: str, found: Sequence[Found]) -> Sequence[Found]:
    """Make sure that every later read of a counter includes these usages. There are at most MAX_CONFIRMED.

    DynamoDB shows a transaction item by item. So a plain read can find a record before the addition to its shard. A
    transaction that reads both items fails while another transaction holds one of them. Then the usage is busy.

    Returns: the usages whose record or shard is busy. If this is empty, all usages are confirmed, otherwise none.
    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer; try again.
    """
    owners: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for each in found:
        if each.shard is not None:
            for key in (usage_key(each.usage.organization, each.usage.idempotency_key), each.shard):
                owners[key["pk"]["S"], key["sk"]["S"]].append(each)
    if not owners:
        return []
    try:
        read_in_transaction(client, table, [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in owners], projection="pk")
    except ItemsBusy as busy:
        by_position = list(owners.values())
        unsure = [each for position in busy.positions for each in by_position[position]]
        return [each for each in found if each in unsure]
    return []


def _cancellation(subjects: Sequence[Usage | Addition], reasons: Sequence[Any]) -> Cancellation:
    found = Cancellation()
    for subject, reason in zip(subjects, reasons, strict=True):
        code = reason.get("Code")
        if code == CONFLICT or code in BUSY_REASONS:
            found.conflict = found.conflict or code == CONFLICT
            if isinstance(subject, Usage):
                found.busy_records.append(subject)
            else:
                found.busy_shards[subject.counter] = code != CONFLICT
        elif code == "ConditionalCheckFailed" and isinstance(subject, Usage):
            try:
                found.stored.append(stored_usage_from_item(reason["Item"]))
            except MalformedItem as malformed:
                found.malformed[subject.idempotency_key] = malformed
        elif code == "ConditionalCheckFailed" and isinstance(subject, Addition):
            _read_failed_condition(subject, reason["Item"], found)
        elif code == "ValidationError" and isinstance(subject, Addition):
            # An attribute that the update adds to is not a number.
            found.unreadable[subject.counter] = MalformedItem("nothing can be added to the counter")
    return found


def _read_failed_condition(addition: Addition, item: Item, found: Cancellation) -> None:
    """Add to `found` why the update of the counter's first shard failed its condition about hard limits."""
    if addition.hard_limit is None:
        found.hard.append(addition.counter)
    elif HARD not in item:
        found.soft.append(addition.counter)
    else:
        try:
            found.full[addition.counter] = counter_total(item)
        except MalformedItem as malformed:
            found.unreadable[addition.counter] = malformed


def match_record(stored: StoredUsage, usage: Usage) -> Recorded | None:
    """Return `stored`, the record under the key of `usage`, as the result. Return None if its content differs."""
    # An earlier try for this usage wrote the record, and its answer was lost. So the usage is new and not a replay.
    if stored.usage.event_id == usage.event_id:
        return Recorded(stored.usage, replayed=False, shard=stored.shard)
    if stored.usage.fingerprint != usage.fingerprint:
        return None
    return Recorded(stored.usage, replayed=True, shard=stored.shard)


def _put(table: str, usage: Usage, shard: int) -> Any:
    return {
        "Put": {
            "TableName": table,
            "Item": usage_item(usage, shard),
            # TTL deletes a record hours or days after `expiresAt`, but its key must be free from that second on.
            "ConditionExpression": "attribute_not_exists(pk) OR expiresAt <= :now",
            "ExpressionAttributeValues": {":now": {"N": str(deletable_at(to_epoch_s(usage.recorded_at)))}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def _add(table: str, addition: Addition) -> Any:
    values: dict[str, Any] = {":quantity": {"N": str(addition.quantity)}, ":count": {"N": str(len(addition.usages))}}
    names = {"#total": "total", "#count": "count"}
    add = "ADD #total :quantity, #count :count"
    # In the same update, so that the sum of a shard's days always equals its total.
    for day, quantity in addition.quantity_by_day().items():
        attribute = day_attribute(day)
        add += f", {attribute} :{attribute}"
        values[f":{attribute}"] = {"N": str(quantity)}
    if addition.shard == FIRST_SHARD:
        # In the same update, so that each counter is listed. The list never changes, so only its first write costs a
        # write unit of the index.
        add += f" SET {LISTED_IN} = :list"
        values[":list"] = open_list(addition.counter.organization, addition.counter.billing_period)
    update: dict[str, Any] = {"TableName": table, "Key": counter_key(addition.counter, addition.shard)}
    if addition.hard_limit is not None:
        # The counter's first write decides whether hard limits can apply in its period. Under a hard limit, this shard
        # holds the whole total.
        update |= {
            "UpdateExpression": f"{add}, #hard = :hard",
            "ConditionExpression": "attribute_not_exists(pk) OR (attribute_exists(#hard) AND #total <= :room)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        names["#hard"] = HARD
        values |= {":hard": {"BOOL": True}, ":room": {"N": str(addition.hard_limit - addition.quantity)}}
    elif addition.shard == FIRST_SHARD and addition.lifts_limit:
        # Later additions use other shards too, so from now on this shard does not hold the whole total.
        update["UpdateExpression"] = f"{add} REMOVE #hard"
        names["#hard"] = HARD
    elif addition.shard == FIRST_SHARD:
        # A cached plan can be older than the hard limit. So an addition with a cached plan never removes the limit.
        update |= {
            "UpdateExpression": add,
            "ConditionExpression": "attribute_not_exists(#hard)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        names["#hard"] = HARD
    else:
        update["UpdateExpression"] = add
    return {"Update": {**update, "ExpressionAttributeNames": names, "ExpressionAttributeValues": values}}
