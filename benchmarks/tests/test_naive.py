"""The naive handler breaks the promises that it lacks according to docs/cost.md."""

import io
import json
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools import Logger

import benchmarks
from tests.testing.payloads import example, record_request
from tests.testing.service import Clock, Context

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.verify

_HANDLERS = Path(benchmarks.__file__).parent / "handlers"


class _Bus:
    """A bus whose first calls fail: `failures` raise, and `refused` refuse the entry."""

    def __init__(self, failures: int = 0, refused: int = 0) -> None:
        self.failures, self.refused = failures, refused
        self.delivered: list[str] = []

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        if self.refused:
            self.refused -= 1
            return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}
        self.delivered += [json.loads(entry["Detail"])["id"] for entry in Entries]
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}]}


@pytest.fixture
def keys(dynamodb: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch) -> str:
    dynamodb.create_table(
        TableName="keys",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    monkeypatch.setenv("KEYS_TABLE_NAME", "keys")
    return "keys"


def naive(dynamodb: "DynamoDBClient", keys: str, bus: _Bus) -> Any:
    recording = runpy.run_path(str(_HANDLERS / "naive.py"))["recording"]
    handler = recording(dynamodb, bus, Logger(service="naive", stream=io.StringIO()), keys=keys, table="usage", bus="b")
    return lambda body: json.loads(handler(record_request(body), Context(Clock()))["body"])


def test_without_failures_the_naive_handler_counts_and_publishes_once(dynamodb: "DynamoDBClient", keys: str) -> None:
    bus = _Bus()
    record = naive(dynamodb, keys, bus)
    assert [record(example())["currentUsage"] for _ in range(3)] == [1, 1, 1]
    assert record(example(idempotencyKey="another"))["currentUsage"] == 2
    assert bus.delivered == ["abc-123", "another"]


def test_a_failed_publication_makes_the_retry_count_twice(dynamodb: "DynamoDBClient", keys: str) -> None:
    record = naive(dynamodb, keys, _Bus(failures=1))
    with pytest.raises(ConnectionError):
        record(example())
    assert record(example())["currentUsage"] == 2


def test_an_entry_that_the_bus_does_not_accept_is_counted_and_never_published(
    dynamodb: "DynamoDBClient", keys: str
) -> None:
    bus = _Bus(refused=1)
    record = naive(dynamodb, keys, bus)
    assert [record(example())["currentUsage"] for _ in range(2)] == [1, 1]
    assert bus.delivered == []
