"""Consistent reads by key. Each read includes all writes that were acknowledged before the read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metering.storage.attributes import Item
from metering.storage.failures import BUSY_REASONS, CONFLICT, busy_when_unanswered
from metering.storage.signals import ItemsBusy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def read_item(client: "DynamoDBClient", table: str, key: Item) -> Item | None:
    """Return the item at this key, or None.

    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer.
    """
    with busy_when_unanswered():
        return client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")


def read_in_transaction(
    client: "DynamoDBClient", table: str, keys: Sequence[Item], projection: str | None = None
) -> list[Item | None]:
    """Return the items at these keys as they were at one moment; None for each key without an item.

    `keys` are 1 to 100 different keys. The read is serializable with transactions, so it never shows a part of one.

    Raises:
        ItemsBusy: a transaction holds some of the items, or DynamoDB throttled them; read again.
        StoreBusy: DynamoDB throttled the call or did not answer.
    Source: DynamoDB developer guide, "DynamoDB transactions", isolation levels; API reference, TransactGetItems.
    """
    more: Any = {} if projection is None else {"ProjectionExpression": projection}
    gets: Any = [{"Get": {"TableName": table, "Key": key, **more}} for key in keys]
    try:
        with busy_when_unanswered():
            responses = client.transact_get_items(TransactItems=gets)["Responses"]
    except client.exceptions.TransactionCanceledException as cancelled:
        codes = [reason.get("Code") for reason in cancelled.response["CancellationReasons"]]
        busy = [position for position, code in enumerate(codes) if code == CONFLICT or code in BUSY_REASONS]
        if not busy:
            raise
        raise ItemsBusy(busy) from cancelled
    return [response.get("Item") for response in responses]
