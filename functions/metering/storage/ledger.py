"""The ledger: usage records and counters, kept in step by one transaction."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from metering.model.moments import to_epoch_s
from metering.model.usage import CounterId, Usage
from metering.storage.attributes import Item
from metering.storage.consistent_reads import read_in_transaction, read_item
from metering.storage.counter_items import FIRST_SHARD, HARD, counter_key, counter_total
from metering.storage.failures import BUSY_REASONS, CONFLICT, busy_when_unanswered
from metering.storage.signals import ItemsBusy, MalformedItem
from metering.storage.usage_records import StoredUsage, deletable_at, stored_usage_from_item, usage_item, usage_key

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Source: DynamoDB API reference, TransactWriteItems and TransactGetItems.
MAX_ACTIONS = 100


@dataclass(frozen=True)
class Recorded:
    """The usage that is in the ledger; `replayed` if it was there before this request."""

    usage: Usage
    replayed: bool
    shard: Item | None = None
    """Where it was added up, if it was found rather than written: `confirm` it before its counter is summed."""


Found = TypeVar("Found", Recorded, StoredUsage)


# Named tuples, here and where else a record goes by: to make a dataclass takes six times as long, at every cold start.
class Addition(NamedTuple):
    """Usages of one counter, which one transaction records and adds to one shard of it."""

    counter: CounterId
    usages: Sequence[Usage]
    shard: int
    hard_limit: int | None = None
    """The shard is then the first, which holds all of such a counter."""
    lifts_limit: bool = False
    """Whether a hard limit on the shard ends with this addition: the plan was read again, and has none."""

    @property
    def quantity(self) -> int:
        return sum(usage.quantity for usage in self.usages)


@dataclass
class Cancellation:
    """Why a transaction was cancelled, as far as its reasons tell. Nothing of it was written."""

    stored: list[StoredUsage] = field(default_factory=list)
    """Existing records under its keys."""
    malformed: dict[str, MalformedItem] = field(default_factory=dict)
    """By idempotency key: existing records that cannot be read."""
    busy_records: list[Usage] = field(default_factory=list)
    """Usages whose records another transaction locked, or DynamoDB throttled."""
    busy_shards: dict[CounterId, bool] = field(default_factory=dict)
    """Counters whose shard was locked or throttled; true if it was throttled."""
    conflict: bool = False
    """Whether another transaction locked one of them."""
    full: dict[CounterId, int] = field(default_factory=dict)
    """Totals of counters whose hard limits have no room for it."""
    unreadable: dict[CounterId, MalformedItem] = field(default_factory=dict)
    """Counters to which nothing can be added, because their item is malformed."""
    soft: list[CounterId] = field(default_factory=list)
    """Counters that began without a hard limit, although the addition has one."""
    hard: list[CounterId] = field(default_factory=list)
    """Counters under a hard limit, although the addition has none."""


def commit_additions(client: "DynamoDBClient", table: str, additions: Sequence[Addition]) -> Cancellation | None:
    """Count all of these usages, each once however often it is sent: all of them or none.

    One transaction puts each record if its key is new or its record has expired, and adds up each counter's quantities
    in one update of a shard. Under a hard limit, only if the counter then holds no more than that; without one, only if
    no hard limit holds. At most 100 items, no key twice, each counter once.

    Returns: None if all is recorded; else why nothing was.
    Raises:
        StoreBusy: throttled or unanswered; try again with the same usages: of those that did land, the next try finds
            their own `event_id`s.
    Source: DynamoDB API reference, TransactWriteItems, CancellationReasons.
    """
    actions: list[Any] = []
    # By position: its cancellation reasons come in the order of the transaction's items.
    subjects: list[Usage | Addition] = []
    for addition in additions:
        subjects += [*addition.usages, addition]
        actions += [_put(table, usage, addition.shard) for usage in addition.usages] + [_add(table, addition)]
    try:
        # A crash before this line leaves nothing, a crash after it leaves records and counts; the stream publishes
        # what is there, and the caller's retry finds it.
        with busy_when_unanswered():
            client.transact_write_items(TransactItems=actions)
    except client.exceptions.TransactionCanceledException as cancelled:
        found = _cancellation(subjects, cancelled.response["CancellationReasons"])
        if found == Cancellation():
            # For a reason that is none of those above: a mistake of ours, such as an item that is too large.
            raise
        return found
    return None


class FoundRecords(NamedTuple):
    """What was found under some keys."""

    stored: list[StoredUsage]
    malformed: dict[str, MalformedItem]
    """By idempotency key: what is stored there cannot be read."""
    busy: list[Usage]
    """Those whose records another transaction holds, or DynamoDB throttles. Then nothing was read of any: ask again."""


def find_records(client: "DynamoDBClient", table: str, usages: Sequence[Usage]) -> FoundRecords:
    """What the ledger already holds under the keys of `usages`: 1 to 100 of one organization and moment, no key twice.

    They are read together: a transaction that is under way, and would show its record later, makes it `busy`.

    Raises:
        StoreBusy: throttled or unanswered.
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
            if stored is not None and not _has_expired(stored.usage, usage.recorded_at):
                looked.stored.append(stored)
    return looked


def read_record(client: "DynamoDBClient", table: str, key: Item, now: datetime) -> StoredUsage | None:
    """The usage whose record is at `key`; None if there is none, or one that has expired by `now`: to the second.

    Consistent: whatever was answered as recorded before this call is found.

    Raises:
        MalformedItem: it cannot be read.
        StoreBusy: throttled or unanswered.
    """
    item = read_item(client, table, key)
    if item is None:
        return None
    found = stored_usage_from_item(item)
    return None if _has_expired(found.usage, now) else found


# Each record is read beside its shard.
MAX_CONFIRMED = MAX_ACTIONS // 2


def confirm(client: "DynamoDBClient", table: str, found: Sequence[Found]) -> Sequence[Found]:
    """Make sure that every later read of a counter includes these usages, at most MAX_CONFIRMED.

    DynamoDB shows a transaction item by item: a record may be visible while the shard that counts it is not. So both
    are read together. One that another transaction still holds is busy.

    Returns: those whose record or shard is busy. Then nothing is sure about the others either.
    Raises:
        StoreBusy: throttled or unanswered; ask again.
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


def _has_expired(usage: Usage, now: datetime) -> bool:
    return usage.expires_at <= to_epoch_s(now)


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
            # An attribute to which something is to be added is no number.
            found.unreadable[subject.counter] = MalformedItem("nothing can be added to the counter")
    return found


def _read_failed_condition(addition: Addition, item: Item, found: Cancellation) -> None:
    """A counter whose first shard did not meet the condition under which hard limits are kept."""
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
    """What it means for `usage` that this is stored under its key; None: the key has other content."""
    # Our own commit, whose answer an earlier try of this request lost: new, not replayed.
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
            # TTL deletes hours late; the key is free to the second.
            "ConditionExpression": "attribute_not_exists(pk) OR expiresAt <= :now",
            "ExpressionAttributeValues": {":now": {"N": str(deletable_at(to_epoch_s(usage.recorded_at)))}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def _add(table: str, addition: Addition) -> Any:
    values: dict[str, Any] = {":quantity": {"N": str(addition.quantity)}, ":count": {"N": str(len(addition.usages))}}
    names = {"#total": "total", "#count": "count"}
    add = "ADD #total :quantity, #count :count"
    update: dict[str, Any] = {"TableName": table, "Key": counter_key(addition.counter, addition.shard)}
    if addition.hard_limit is not None:
        # The first write fixes the counter's mode for the period. Under a hard limit this item holds all of it.
        update |= {
            "UpdateExpression": f"{add} SET #hard = :hard",
            "ConditionExpression": "attribute_not_exists(pk) OR (attribute_exists(#hard) AND #total <= :room)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        names["#hard"] = HARD
        values |= {":hard": {"BOOL": True}, ":room": {"N": str(addition.hard_limit - addition.quantity)}}
    elif addition.shard == FIRST_SHARD and addition.lifts_limit:
        # Before anybody adds to another shard, no hard limit may rely on this one any more.
        update["UpdateExpression"] = f"{add} REMOVE #hard"
        names["#hard"] = HARD
    elif addition.shard == FIRST_SHARD:
        # A cached plan may be older than the limit, so it never removes a hard one.
        update |= {
            "UpdateExpression": add,
            "ConditionExpression": "attribute_not_exists(#hard)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        names["#hard"] = HARD
    else:
        update["UpdateExpression"] = add
    return {"Update": {**update, "ExpressionAttributeNames": names, "ExpressionAttributeValues": values}}
