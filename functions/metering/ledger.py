"""The ledger: usage records and counters, kept in step by one transaction."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from metering.errors import Contended, CounterIsSoft, KeyReused, LimitExceeded, StoreBusy
from metering.items import (
    FIRST_SHARD,
    HARD,
    Item,
    Usage,
    counter_feature,
    counter_key,
    counter_partition,
    counter_prefix,
    to_epoch_s,
    usage_from_item,
    usage_item,
    usage_key,
)
from metering.store import BUSY_REASONS, busy_when_unanswered

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# The order of the transaction's items; its cancellation reasons come in the same one.
_RECORD, _COUNTER = 0, 1


@dataclass(frozen=True)
class Recorded:
    """The usage that stands in the ledger; `replayed` if it stood there before this request."""

    usage: Usage
    replayed: bool


def record(client: "DynamoDBClient", table: str, usage: Usage, shard: int, hard_limit: int | None = None) -> Recorded:
    """Count `usage` once, however often it is sent.

    One transaction puts the record if its key is new or its record has expired, and adds the quantity to the
    counter's shard: both land or neither does. Under a `hard_limit`, only if the counter then holds no more than
    that; the shard is then the first, which holds all of such a counter.

    Returns: Recorded(replayed=True) if the same content was stored before under this key.
    Raises:
        KeyReused: same key, other content; nothing written.
        LimitExceeded: the usage is new and does not fit; nothing written.
        CounterIsSoft: the counter was begun without a hard limit, so others may add to other shards of it; nothing
            written, record without one.
        Contended: another transaction held an item; nothing written, try again.
        StoreBusy: throttled or unanswered; try again with the same `usage`: if this call did land, the next one
            finds its own `event_id` and answers as this one would have.
    Source: DynamoDB API reference, TransactWriteItems, CancellationReasons.
    """
    try:
        # A crash before this line leaves nothing, a crash after it leaves record and count; the stream publishes
        # what is there, and the caller's retry finds it.
        with busy_when_unanswered():
            items = [_put(table, usage, shard), _add(table, usage, shard, hard_limit)]
            client.transact_write_items(TransactItems=items)
    except client.exceptions.TransactionCanceledException as cancelled:
        reasons = cancelled.response["CancellationReasons"]
        codes = [reason.get("Code") for reason in reasons]
        # A record that is there decides, whatever else happened: no retry would change it.
        if codes[_RECORD] == "ConditionalCheckFailed":
            return _stored_before(usage_from_item(reasons[_RECORD]["Item"]), usage)
        if "TransactionConflict" in codes:
            # A rival for the record most likely carries the same key. It will decide, wherever we count.
            raise Contended(on_counter=codes[_RECORD] != "TransactionConflict") from cancelled
        if BUSY_REASONS & set(codes):
            raise StoreBusy("DynamoDB is throttling an item") from cancelled
        if codes[_COUNTER] == "ConditionalCheckFailed":
            counter: Any = reasons[_COUNTER]["Item"]
            if HARD not in counter:
                raise CounterIsSoft from cancelled
            raise LimitExceeded(int(counter["total"]["N"])) from cancelled
        raise
    return Recorded(usage, replayed=False)


def find(client: "DynamoDBClient", table: str, usage: Usage) -> Recorded | None:
    """What the ledger already holds under the key of `usage`, or None if it would be new now.

    Raises:
        KeyReused: same key, other content.
        StoreBusy: throttled or unanswered.
    """
    found = stored(client, table, usage_key(usage.organization, usage.idempotency_key), usage.recorded_at)
    return None if found is None else _stored_before(found, usage)


def stored(client: "DynamoDBClient", table: str, key: Item, now: datetime) -> Usage | None:
    """The usage whose record is at `key`; None if there is none, or one that has expired by `now`: to the second.

    Consistent: whatever was answered as recorded before this call is found.

    Raises:
        StoreBusy: throttled or unanswered.
    """
    with busy_when_unanswered():
        found = client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
    if found is None:
        return None
    usage = usage_from_item(found)
    return None if usage.expires_at <= to_epoch_s(now) else usage


def is_soft(client: "DynamoDBClient", table: str, usage: Usage) -> bool:
    """Whether the counter of `usage` was begun, and may spread over shards: no hard limit will hold in its period.

    Once it is so, it stays so.

    Raises:
        StoreBusy: throttled or unanswered.
    """
    with busy_when_unanswered():
        counter = client.get_item(TableName=table, Key=counter_key(usage, FIRST_SHARD), ConsistentRead=True).get("Item")
    return counter is not None and HARD not in counter


def total(client: "DynamoDBClient", table: str, organization: str, billing_period: str, feature: str) -> int:
    """The organization's usage of the feature in the billing period: the sum of the counter's shards.

    Consistent: whatever was answered as recorded before this call is in it.

    Raises:
        StoreBusy: throttled or unanswered.
    """
    # At most 8 shards of a few hundred bytes: always one page.
    with busy_when_unanswered():
        shards = client.query(
            TableName=table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :feature)",
            ExpressionAttributeValues={
                ":pk": {"S": counter_partition(organization, billing_period)},
                ":feature": {"S": counter_prefix(feature)},
            },
            ProjectionExpression="#total",
            ExpressionAttributeNames={"#total": "total"},
            ConsistentRead=True,
        )["Items"]
    return sum(int(shard["total"]["N"]) for shard in shards)


def totals(
    client: "DynamoDBClient", table: str, organization: str, billing_period: str, after: Item | None
) -> tuple[Counter[str], Item | None]:
    """The organization's usage in the billing period by feature: one page of it, the first or the one `after` another.

    A feature's shards may stand on two pages: whoever reads several adds them up. Consistent, each page by itself.

    Returns: what this page adds up to, and after what the next one begins; None: there is no next one.
    Raises:
        StoreBusy: throttled or unanswered.
    """
    start: Any = {} if after is None else {"ExclusiveStartKey": after}
    with busy_when_unanswered():
        page = client.query(
            TableName=table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": counter_partition(organization, billing_period)}},
            ProjectionExpression="sk, #total",
            ExpressionAttributeNames={"#total": "total"},
            ConsistentRead=True,
            **start,
        )
    found: Counter[str] = Counter()
    for shard in page["Items"]:
        found[counter_feature(shard)] += int(shard["total"]["N"])
    return found, page.get("LastEvaluatedKey")


def _stored_before(stored: Usage, usage: Usage) -> Recorded:
    # Our own commit, whose answer an earlier try of this request lost: new, not replayed.
    if stored.event_id == usage.event_id:
        return Recorded(stored, replayed=False)
    if stored.fingerprint != usage.fingerprint:
        raise KeyReused
    return Recorded(stored, replayed=True)


def _put(table: str, usage: Usage, shard: int) -> Any:
    return {
        "Put": {
            "TableName": table,
            "Item": usage_item(usage, shard),
            # TTL deletes hours late; the key is free from the very second of expiresAt on.
            "ConditionExpression": "attribute_not_exists(pk) OR expiresAt <= :now",
            "ExpressionAttributeValues": {":now": {"N": str(to_epoch_s(usage.recorded_at))}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def _add(table: str, usage: Usage, shard: int, hard_limit: int | None) -> Any:
    values: dict[str, Any] = {":quantity": {"N": str(usage.quantity)}, ":one": {"N": "1"}}
    names = {"#total": "total", "#count": "count"}
    add = "ADD #total :quantity, #count :one"
    update: dict[str, Any] = {"TableName": table, "Key": counter_key(usage, shard)}
    if hard_limit is not None:
        # Who begins the counter decides for its period: where a hard limit holds, all is in this one item.
        update |= {
            "UpdateExpression": f"{add} SET #hard = :hard",
            "ConditionExpression": "attribute_not_exists(pk) OR (attribute_exists(#hard) AND #total <= :room)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        names["#hard"] = HARD
        values |= {":hard": {"BOOL": True}, ":room": {"N": str(hard_limit - usage.quantity)}}
    elif shard == FIRST_SHARD:
        # Before anybody adds to another shard, no hard limit may rely on this one any more.
        update["UpdateExpression"] = f"{add} REMOVE #hard"
        names["#hard"] = HARD
    else:
        update["UpdateExpression"] = add
    return {"Update": {**update, "ExpressionAttributeNames": names, "ExpressionAttributeValues": values}}
