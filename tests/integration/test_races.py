"""Real threads race on the emulator's DynamoDB, which counts exactly under them. A hook on the client adds conflicts.

Every thread is its own execution environment, with the functions' real code and the real time.
"""

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.metrics import EphemeralMetrics
from botocore.config import Config
from metering import limit_watcher
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.outbox import thresholds
from metering.outbox.events import LIMIT_APPROACHING, LIMIT_REACHED, USAGE_RECORDED

from tests.testing.contention import COUNTER, RECORD, Contention
from tests.testing.local_stack import LocalStack, at_once
from tests.testing.logs import logger
from tests.testing.payloads import batch_request, example, record_request
from tests.testing.publisher import Bus, Publisher
from tests.testing.service import Context, RecordFunction, Reply, WallClock
from tests.testing.table import counted, create_table, items, put_on_plan, records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.verify

_TABLES = itertools.count(1)


@dataclass
class Audited(Bus):
    """A bus that keeps the events that it accepted."""

    events: dict[str, Any] = field(default_factory=dict)
    """The events, by id."""

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
        for detail in (json.loads(entry["Detail"]) for entry in Entries):
            assert self.events.setdefault(detail["id"], detail) == detail
        return super().put_events(Entries)


class Racing:
    """One table for many environments. They share one client, so that the hook sees all their calls."""

    def __init__(self, stack: LocalStack, watch: tuple[int, ...]) -> None:
        self.table = f"races-{next(_TABLES)}"
        config = Config(max_pool_connections=32, retries={"total_max_attempts": 1}, proxies={})
        self.client: DynamoDBClient = stack.access.session.client(
            "dynamodb", endpoint_url=stack.stack.endpoint, config=config
        )
        create_table(self.client, self.table)
        stream: Any = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        self._stream_arn = self.client.update_table(TableName=self.table, StreamSpecification=stream)[
            "TableDescription"
        ]["LatestStreamArn"]
        self._streams = stack.access.session.client("dynamodbstreams", endpoint_url=stack.stack.endpoint, config=config)
        # A transaction of DynamoDB holds an item for about 6 ms.
        self.contention = Contention(self.client, watch, hold_s=0.006) if watch else None

    def record(self, body: dict[str, object]) -> Reply:
        """Record the usage in a new environment, and again after a 503, as callers do."""
        for attempt in range(20):
            reply = RecordFunction(self.client, WallClock(), self.table, random=Random()).reply(record_request(body))
            if reply.status != 503:
                return reply
            time.sleep(attempt * 0.05)
        return reply

    def send(self, records: list[dict[str, object]]) -> list[Any]:
        """Record one usage alone or several as a batch, in new environments until they are settled.

        Returns: the status and the total of each record, as in a batch.
        """
        for attempt in range(40):
            environment = RecordFunction(self.client, WallClock(), self.table, random=Random())
            if len(records) == 1:
                reply = environment.reply(record_request(records[0]))
                if reply.status == 200:
                    replayed = "Idempotent-Replayed" in reply.headers
                    status = "refused" if not reply.body["recorded"] else "replayed" if replayed else "recorded"
                    return [(status, reply.body["currentUsage"])]
                if reply.status == 422:
                    return [("conflict", None)]
            else:
                reply = environment.reply(batch_request(records))
                results = reply.body.get("results", [{"status": "unavailable"}])
                if all(result["status"] != "unavailable" for result in results):
                    return [(result["status"], result.get("currentUsage")) for result in results]
            assert reply.status in (200, 503)
            time.sleep(attempt * 0.02)
        raise AssertionError("never settled")

    def deliver(self) -> Counter[tuple[str, int | None, int | None]]:
        """Deliver the table's stream with all the repetitions that Lambda allows.

        Two environments of the watcher get it at once. The publisher then gets it twice, with the watcher's notices.

        Returns: the number of published events, by kind, limit and percentage.
        """
        at_once(self._watch, [list(self._batches())] * 2)
        bus = Audited()
        # The publisher has no failure bucket, because no record may go there.
        publish = Publisher(s3=None, bus=bus)
        for batch in list(self._batches()) * 2:
            assert publish(*batch) == []
        facts = [(event["key"], event["payload"]) for event in bus.events.values()]
        return Counter((key, payload.get("limit"), payload.get("percentage")) for key, payload in facts)

    def _watch(self, batches: list[list[Any]]) -> None:
        metrics: Any = EphemeralMetrics()
        clock = WallClock()
        watch = thresholds.WatcherDeps(self.client, self.table, timedelta(days=400), clock.now, logger(), metrics)
        for batch in batches * 2:
            context: Any = Context(clock, timeout_s=300)
            assert limit_watcher.respond({"Records": batch}, context, watch) == {"batchItemFailures": []}

    def _batches(self) -> Iterator[list[Any]]:
        """All records of the table's stream, in batches as Lambda delivers them."""
        (shard,) = self._streams.describe_stream(StreamArn=self._stream_arn)["StreamDescription"]["Shards"]
        iterator = self._streams.get_shard_iterator(
            StreamArn=self._stream_arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while (page := self._streams.get_records(ShardIterator=iterator, Limit=100))["Records"]:
            batch: list[Any] = page["Records"]
            for record in batch:
                change = record["dynamodb"]
                change["ApproximateCreationDateTime"] = change["ApproximateCreationDateTime"].timestamp()
            yield batch
            iterator = page["NextShardIterator"]


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
    # The last reader sees the whole total, and each answer includes at least its own record.
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
    plan = Plan("pro", "Pro", {"api_calls": Entitlement(limit=500, hard=True, warn_at=(50, 80))})
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
    assert racing.deliver() == {
        (USAGE_RECORDED, None, None): 500,
        (LIMIT_APPROACHING, 500, 50): 1,
        (LIMIT_APPROACHING, 500, 80): 1,
        (LIMIT_REACHED, 500, None): 1,
    }


def test_100_records_at_once_cross_a_soft_limit_and_each_threshold_is_noticed_once(racing: Racing) -> None:
    plan = Plan("pro", "Pro", {"api_calls": Entitlement(limit=60, warn_at=(50, 80))})
    put_on_plan(racing.client, racing.table, Organization("demo-org"), plan)
    replies = at_once(racing.record, [example(idempotencyKey=f"k-{number}") for number in range(100)])
    assert {(reply.status, reply.body["recorded"]) for reply in replies} == {(200, True)}
    assert {reply.body["limitReached"] == (reply.body["currentUsage"] >= 60) for reply in replies} == {True}
    assert counted(racing.client, racing.table, "demo-org") == (100, 100)
    assert racing.deliver() == {
        (USAGE_RECORDED, None, None): 100,
        (LIMIT_APPROACHING, 60, 50): 1,
        (LIMIT_APPROACHING, 60, 80): 1,
        (LIMIT_REACHED, 60, None): 1,
    }


def test_concurrent_records_fill_a_hard_limit_as_far_as_whole_records_fit(racing: Racing) -> None:
    plan = Plan("pro", "Pro", {"api_calls": Entitlement(limit=100, hard=True)})
    put_on_plan(racing.client, racing.table, Organization("demo-org"), plan)
    bodies = [example(idempotencyKey=f"k-{number}", quantity=1 + number % 7) for number in range(200)]
    replies = at_once(racing.record, bodies)
    recorded = [body["quantity"] for body, reply in zip(bodies, replies, strict=True) if reply.body["recorded"]]
    assert counted(racing.client, racing.table, "demo-org") == (sum(recorded), len(recorded))
    # The last refused usage did not fit, so the remaining room is smaller than the largest quantity.
    assert 100 - 7 < sum(recorded) <= 100


def _overlapping(seed: int) -> list[dict[str, object]]:
    """A single record or a batch, with keys that other requests send too and nearly always the same content."""
    random = Random(seed)
    first = random.randrange(150)
    size = random.choice([1, 1, 2, 10, 40, 100])
    keys = [(first + step) % 200 for step in range(size)]
    # Each request has its own order, and some have a key twice.
    random.shuffle(keys)
    return [
        example(
            feature=("api_calls", "storage_gb", "exports")[key % 3],
            quantity=1 + key % 5 + (random.random() < 0.01),
            idempotencyKey=f"k-{key}",
        )
        for key in keys + keys[:1] * (size > 2)
    ][:100]


def test_racing_batches_and_single_records_count_each_key_once(racing: Racing) -> None:
    requests = [_overlapping(seed) for seed in range(64)]
    # 16 threads send them, each request from its own environment.
    outcomes = at_once(racing.send, requests)
    stored = {item["sk"]["S"]: item for item in records(racing.client, racing.table, "demo-org")}
    recorded: Counter[str] = Counter()
    for request, results in zip(requests, outcomes, strict=True):
        for sent, (status, _) in zip(request, results, strict=True):
            kept = stored[str(sent["idempotencyKey"])]
            is_same = int(kept["quantity"]["N"]) == sent["quantity"]
            # A record whose answer was lost is a replay in the next request. No answer is lost here.
            assert (status in ("recorded", "replayed")) is is_same, (sent, status, kept)
            assert status in ("recorded", "replayed", "conflict")
            recorded[str(sent["idempotencyKey"])] += status == "recorded"
    # At most one request reports a key as recorded. None does if that request did not settle at once.
    assert max(recorded.values()) == 1
    quantity = sum(int(item["quantity"]["N"]) for item in stored.values())
    assert counted(racing.client, racing.table, "demo-org") == (quantity, len(stored))
    assert len({item["eventId"]["S"] for item in stored.values()}) == len(stored)
    assert racing.deliver() == {(USAGE_RECORDED, None, None): len(stored)}
    if racing.contention:
        assert racing.contention.conflicts > 0


def test_batches_at_once_fill_a_hard_limit_and_never_exceed_it(racing: Racing) -> None:
    plan = Plan("pro", "Pro", {"api_calls": Entitlement(limit=500, hard=True)})
    put_on_plan(racing.client, racing.table, Organization("demo-org"), plan)
    batches = [[example(idempotencyKey=f"k-{at}-{number}") for number in range(50)] for at in range(20)]
    outcomes = [result for results in at_once(racing.send, batches) for result in results]
    statuses = Counter(status for status, _ in outcomes)
    # A record of a request that did not settle is a replay in the next one.
    assert (statuses["recorded"] + statuses["replayed"], statuses["refused"]) == (500, 500)
    assert counted(racing.client, racing.table, "demo-org") == (500, 500)
    assert [item["sk"]["S"] for item in items(racing.client, racing.table, "counter#demo-org#")] == ["api_calls#0"]
