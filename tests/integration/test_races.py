"""Real threads against the emulator's DynamoDB, which is exact under them; conflicts come from a hook on the client.

Every thread is an execution environment of its own: the record function's real code, on real time.
"""

import itertools
import time
from collections import Counter
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

import pytest
from botocore.config import Config
from metering.plans import Feature, Organization, Plan

from tests.contention import COUNTER, RECORD, Contention
from tests.local_stack import LocalStack, at_once
from tests.payloads import example, record_request
from tests.service import RecordFunction, Reply
from tests.table import counted, create_table, items, put_on_plan, records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_TABLES = itertools.count(1)


class WallClock:
    """Real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Racing:
    """A table of its own, raced on by environments that share one client, so that the hook sees them all."""

    def __init__(self, stack: LocalStack, watch: tuple[int, ...]) -> None:
        self.table = f"races-{next(_TABLES)}"
        config = Config(max_pool_connections=32, retries={"total_max_attempts": 1}, proxies={})
        self.client: DynamoDBClient = stack.access.session.client(
            "dynamodb", endpoint_url=stack.stack.endpoint, config=config
        )
        create_table(self.client, self.table)
        # DynamoDB holds an item for about 6 ms of a transaction.
        self.contention = Contention(self.client, watch, hold_s=0.006) if watch else None

    def record(self, body: dict[str, object]) -> Reply:
        """Record it in a fresh environment, and again when told to try again, as callers do."""
        for attempt in range(20):
            reply = RecordFunction(self.client, WallClock(), self.table, random=Random())(record_request(body))
            if reply.status != 503:
                return reply
            time.sleep(attempt * 0.05)
        return reply


@pytest.fixture(
    params=[(), (RECORD,), (COUNTER,), (RECORD, COUNTER)], ids=["calm", "record held", "counter held", "both held"]
)
def racing(request: pytest.FixtureRequest, stack: LocalStack) -> Racing:
    return Racing(stack, request.param)


def test_the_same_call_100_times_at_once_counts_once(racing: Racing) -> None:
    replies = at_once(racing.record, [example(quantity=3)] * 100)
    assert {reply.status for reply in replies} == {200}
    assert counted(racing.client, racing.table, "demo-org") == (3, 1)
    assert len(records(racing.client, racing.table, "demo-org")) == 1
    assert {reply.body["currentUsage"] for reply in replies} == {3}
    first = [reply for reply in replies if "Idempotent-Replayed" not in reply.headers]
    assert len(first) == 1
    if racing.contention:
        assert racing.contention.conflicts > 0


def test_200_distinct_calls_at_once_are_all_counted(racing: Racing) -> None:
    replies = at_once(racing.record, [example(idempotencyKey=f"k-{number}") for number in range(200)])
    assert {reply.status for reply in replies} == {200}
    assert counted(racing.client, racing.table, "demo-org") == (200, 200)
    stored = records(racing.client, racing.table, "demo-org")
    assert sum(int(item["quantity"]["N"]) for item in stored) == 200
    assert len({item["eventId"]["S"] for item in stored}) == 200
    # Whoever reads last reads it all; each answer holds at least its own record.
    totals = [reply.body["currentUsage"] for reply in replies]
    assert max(totals) == 200
    assert min(totals) >= 1


def test_each_record_names_the_shard_that_counted_it(racing: Racing) -> None:
    at_once(racing.record, [example(idempotencyKey=f"k-{number}", quantity=number) for number in range(1, 101)])
    named: Counter[str] = Counter()
    for item in records(racing.client, racing.table, "demo-org"):
        named[item["counter"]["M"]["sk"]["S"]] += int(item["quantity"]["N"])
    shards = racing.client.query(
        TableName=racing.table,
        KeyConditionExpression="begins_with(sk, :feature) AND pk = :pk",
        ExpressionAttributeValues={
            ":pk": {"S": f"counter#demo-org#{datetime.now(UTC):%Y-%m}"},
            ":feature": {"S": "api_calls#"},
        },
        ConsistentRead=True,
    )["Items"]
    assert {shard["sk"]["S"]: int(shard["total"]["N"]) for shard in shards} == named
    if racing.contention and COUNTER in racing.contention.watch:
        assert len(named) > 1


def test_two_contents_under_one_key_at_once_leave_one_of_them(racing: Racing) -> None:
    replies = at_once(racing.record, [example(quantity=1 + number % 2) for number in range(60)])
    assert {reply.status for reply in replies} == {200, 422}
    (stored,) = records(racing.client, racing.table, "demo-org")
    quantity = int(stored["quantity"]["N"])
    assert counted(racing.client, racing.table, "demo-org") == (quantity, 1)
    winners = [reply.status for number, reply in enumerate(replies) if 1 + number % 2 == quantity]
    assert winners == [200] * 30


def test_1000_records_at_once_meet_a_hard_limit_of_500_and_500_fit(racing: Racing) -> None:
    plan = Plan("pro", "Pro", {"api_calls": Feature(limit=500, hard=True)})
    put_on_plan(racing.client, racing.table, Organization("demo-org"), plan)
    replies = at_once(racing.record, [example(idempotencyKey=f"k-{number}") for number in range(1000)])
    # No 5xx is left after the callers' retries.
    assert {reply.status for reply in replies} == {200}
    answers = [reply.body for reply in replies]
    assert sum(answer["recorded"] for answer in answers) == 500
    assert {answer["limitReached"] for answer in answers if not answer["recorded"]} == {True}
    assert max(answer["currentUsage"] for answer in answers) == 500
    assert counted(racing.client, racing.table, "demo-org") == (500, 500)
    assert len(records(racing.client, racing.table, "demo-org")) == 500
    counters = items(racing.client, racing.table, "counter#demo-org#")
    assert [counter["sk"]["S"] for counter in counters] == ["api_calls#0"]


def test_records_of_several_at_once_fill_a_hard_limit_as_far_as_whole_records_go(racing: Racing) -> None:
    plan = Plan("pro", "Pro", {"api_calls": Feature(limit=100, hard=True)})
    put_on_plan(racing.client, racing.table, Organization("demo-org"), plan)
    bodies = [example(idempotencyKey=f"k-{number}", quantity=1 + number % 7) for number in range(200)]
    replies = at_once(racing.record, bodies)
    recorded = [body["quantity"] for body, reply in zip(bodies, replies, strict=True) if reply.body["recorded"]]
    assert counted(racing.client, racing.table, "demo-org") == (sum(recorded), len(recorded))
    # What was refused last did not fit, so less than the largest quantity is left.
    assert 100 - 7 < sum(recorded) <= 100
