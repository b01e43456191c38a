"""The days of a counter: each shard holds its total by day, and each record names its day."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from metering.model.usage import CounterId, Usage
from metering.storage.counter_items import counter_key
from metering.storage.ledger import Addition, commit_additions

from tests.testing.table import records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

COUNTER = CounterId("demo-org", "2026-11", "api_calls")


def usage(key: str, quantity: int, day: int) -> Usage:
    recorded_at = datetime(2026, 11, day, 23, 59, 59, tzinfo=UTC)
    return Usage("demo-org", "api_calls", quantity, key, "1:f", f"e-{key}", recorded_at, "2026-11", 2_000_000_000, "t")


def shard(dynamodb: "DynamoDBClient", number: int) -> dict[str, int]:
    item: Any = dynamodb.get_item(TableName="usage", Key=counter_key(COUNTER, number), ConsistentRead=True)["Item"]
    return {name: int(value["N"]) for name, value in item.items() if "N" in value}


@pytest.mark.parametrize(
    "addition",
    [
        Addition(COUNTER, [], 0),
        Addition(COUNTER, [], 0, hard_limit=100),
        Addition(COUNTER, [], 0, lifts_limit=True),
        Addition(COUNTER, [], 5),
    ],
    ids=["soft", "hard", "lifting", "another shard"],
)
def test_every_kind_of_addition_counts_its_days(dynamodb: "DynamoDBClient", addition: Addition) -> None:
    for usages in ([usage("a", 5, 1)], [usage("b", 7, 1), usage("c", 2, 30)]):
        assert commit_additions(dynamodb, "usage", [addition._replace(usages=usages)]) is None
    assert shard(dynamodb, addition.shard) == {"total": 14, "count": 3, "d01": 12, "d30": 2}


def test_a_cancelled_transaction_counts_no_day(dynamodb: "DynamoDBClient") -> None:
    assert commit_additions(dynamodb, "usage", [Addition(COUNTER, [usage("a", 5, 1)], 0)]) is None
    again = commit_additions(dynamodb, "usage", [Addition(COUNTER, [usage("a", 5, 2), usage("b", 1, 2)], 0)])
    assert again is not None
    assert shard(dynamodb, 0) == {"total": 5, "count": 1, "d01": 5}


def test_a_record_names_its_day(dynamodb: "DynamoDBClient") -> None:
    commit_additions(dynamodb, "usage", [Addition(COUNTER, [usage("a", 5, 9)], 3)])
    (record,) = records(dynamodb, "usage", "demo-org")
    assert record["counter"] == {"M": {**counter_key(COUNTER, 3), "day": {"N": "9"}}}
