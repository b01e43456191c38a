"""Reads of the items that an index of the table names.

An index lags without a limit and has no consistent reads. It can lack an item that was written a moment ago, and name
an item that has changed since. So the callers take only keys from the index, and read the items consistently.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import SystemRandom
from typing import TYPE_CHECKING, Any, TypeVar

from metering.storage.attributes import Item
from metering.storage.retry import wait_s

from ops.errors import TableBusy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")
Found = TypeVar("Found")

# Not more than botocore's connections to one endpoint.
_THREADS = 8
# Source: DynamoDB API reference, BatchGetItem.
_MOST_KEYS = 100
# With the waits of `wait_s`, which double up to a second, these tries take about eight seconds.
_MOST_TRIES = 20


def keys(dynamodb: "DynamoDBClient", table: str, index: str, attribute: str, values: Iterable[Item]) -> list[Item]:
    """Return the keys of all items that `index` has under any of these values of its partition key `attribute`."""

    def query(value: Item) -> list[Item]:
        pages = dynamodb.get_paginator("query").paginate(
            TableName=table,
            IndexName=index,
            KeyConditionExpression="#attribute = :value",
            ExpressionAttributeNames={"#attribute": attribute},
            ExpressionAttributeValues={":value": value},
        )
        return [{"pk": item["pk"], "sk": item["sk"]} for page in pages for item in page["Items"]]

    return _side_by_side(query, values)


def items(
    dynamodb: "DynamoDBClient",
    table: str,
    wanted: Sequence[Item],
    sleep: Callable[[float], None] = time.sleep,
) -> list[Item]:
    """Return the items at these different keys, in any order. Keys without an item are left out.

    Each item has all changes that were acknowledged before this call.

    Raises:
        TableBusy: DynamoDB left some items unread during every try.
    """

    def read(some: Sequence[Item]) -> list[Item]:
        found: list[Item] = []
        left: Mapping[str, Any] = {table: {"Keys": some, "ConsistentRead": True}}
        for attempt in range(_MOST_TRIES):
            answer: Any = dynamodb.batch_get_item(RequestItems=left)
            found += answer["Responses"].get(table, [])
            left = answer.get("UnprocessedKeys", {})
            if not left:
                return found
            sleep(wait_s(attempt, SystemRandom()))
        raise TableBusy(f"DynamoDB left items unread during {_MOST_TRIES} tries: run the command again later.")

    return _side_by_side(read, [wanted[start : start + _MOST_KEYS] for start in range(0, len(wanted), _MOST_KEYS)])


def _side_by_side(call: Callable[[T], list[Found]], parts: Iterable[T]) -> list[Found]:
    """Call with each of the parts, several at a time, and return everything found, in the order of the parts."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(itertools.chain.from_iterable(threads.map(call, parts)))
