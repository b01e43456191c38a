"""Under any failures of any calls, a batch that is sent again until it is settled matches the model.

The publisher then gets the table's stream, and its events match the model, too.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st
from metering.http.endpoint import RESERVE_S
from metering.model import organizations
from metering.model.plans import Entitlement, Plan
from metering.storage.ledger import MAX_ACTIONS
from moto import mock_aws

from tests.fuzz import model
from tests.fuzz.model import Answer, Memory, Organization, Recorded, Truth, Usage
from tests.fuzz.settings import CASES, FUZZ
from tests.testing.aws import SESSION
from tests.testing.contention import cancelled, failed, parsed
from tests.testing.payloads import batch_request
from tests.testing.publisher import Bus, Publisher
from tests.testing.service import Clock, RecordFunction, Reply, expect
from tests.testing.table import create_table, items, put_on_plan

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.verify

PLAN = Plan(
    "pro",
    "Pro",
    {
        "calls": Entitlement(),
        "exports": Entitlement(limit=40),
        "seats": Entitlement(limit=60, hard=True),
        "spare": Entitlement(limit=0, hard=True),
        **{f"of_many_{number}": Entitlement(limit=9, hard=number % 2 == 0) for number in range(30)},
    },
)
INVALID = model.refusal(422, "VALIDATION_FAILED")
# None lets the call succeed.
_FAULTS = ("conflict", "throttled item", "throttled", "failed", "unanswered before", "unanswered after", None, None)


def _usage(number: int, more: int, elsewhere: int) -> Usage:
    features = ("calls", "seats", "exports", "seats", "calls", "spare", f"of_many_{number // 7 % 30}")
    return Usage("demo-org", features[(number + elsewhere) % 7], 1 + number % 11 + more, f"k-{number}")


# Now and then a key comes again with another quantity or another feature.
USAGES = st.builds(
    _usage,
    st.integers(0, 99) | st.integers(0, 14),
    st.sampled_from([0] * 12 + [1, 9]),
    st.sampled_from([0] * 8 + [1, 3]),
)
# With many features, the last one may just not fit into a transaction.
MANY = st.builds(
    lambda first, each: [
        Usage("demo-org", f"of_many_{n // each}", 1, f"m-{first + n}") for n in range(min(100, 30 * each))
    ],
    st.integers(0, 200),
    st.integers(1, 12),
)
BATCHES = st.lists(USAGES | st.none(), min_size=1, max_size=30) | st.lists(USAGES, min_size=100, max_size=100) | MANY


@dataclass
class Faulty:
    """Injects the next of `faults` into each call, until none is left."""

    client: "DynamoDBClient"
    random: Random
    faults: list[str | None] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    _now: str | None = None

    def __post_init__(self) -> None:
        events: Any = self.client.meta.events
        for operation in ("TransactWriteItems", "Query", "GetItem", "TransactGetItems", "UpdateItem"):
            events.register(f"before-call.dynamodb.{operation}", self._before)
            events.register(f"needs-retry.dynamodb.{operation}", self._after)

    def _before(self, params: Any, model: Any, **_: Any) -> Any:
        self._now = self.faults.pop(0) if self.faults else None
        if self._now is None:
            return None
        items = json.loads(params["body"]).get("TransactItems")
        fault = self._now if items or self._now not in ("conflict", "throttled item") else "throttled"
        self.injected[f"{model.name}: {fault}"] += 1
        match fault:
            case "conflict" | "throttled item":
                code = "TransactionConflict" if fault == "conflict" else "ThrottlingError"
                # The last item is a counter. Two in five of these faults hit it alone.
                at = (
                    {len(items) - 1} if self.random.random() < 0.4 else set(self.random.choices(range(len(items)), k=2))
                )
                return _answered(cancelled(code if each in at else "None" for each in range(len(items))))
            case "throttled":
                return _answered(failed("ThrottlingException"))
            case "failed":
                return _answered(failed("InternalServerError", status=500))
            case "unanswered before":
                raise ReadTimeoutError(endpoint_url="https://dynamodb")
        return None

    def _after(self, **_: Any) -> None:
        if self._now == "unanswered after":
            self._now = None
            raise ReadTimeoutError(endpoint_url="https://dynamodb")


def _answered(answer: Any) -> Any:
    return answer, parsed(answer)


@dataclass
class Kept(Bus):
    """A bus that keeps the events that it accepts."""

    details: list[Any] = field(default_factory=list)

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
        self.details += [json.loads(entry["Detail"]) for entry in Entries]
        return super().put_events(Entries)


class World:
    """One table, one environment that records into it, and the model."""

    def __init__(self, client: "DynamoDBClient", streams: Any, patience_s: float) -> None:
        self.client, self.streams = client, streams
        for table in client.list_tables()["TableNames"]:
            client.delete_table(TableName=table)
        create_table(client, "usage")
        stream: Any = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        self.stream = client.update_table(TableName="usage", StreamSpecification=stream)["TableDescription"][
            "LatestStreamArn"
        ]
        put_on_plan(client, "usage", organizations.Organization("demo-org"), PLAN)
        self.clock = Clock()
        self.record = RecordFunction(client, self.clock, timeout_s=RESERVE_S + patience_s, random=Random(7))
        truth = Truth({"demo-org": Organization(subscription={"planId": "pro"})}, {"pro": PLAN})
        self.memory, self.recorded_usage = Memory(truth), Recorded()

    def send(self, batch: list[Usage | None]) -> Reply:
        records = [
            {"feature": "calls", "quantity": "1"}
            if each is None
            else {"feature": each.feature, "quantity": each.quantity, "idempotencyKey": each.key}
            for each in batch
        ]
        return self.record.reply(batch_request(records))

    def expected(self, batch: list[Usage | None]) -> list[Answer]:
        return [
            INVALID if each is None else self.recorded_usage.record(each, self.memory, self.clock.at, rejects=False)
            for each in batch
        ]

    def published(self) -> Counter[tuple[str, int, str]]:
        """The feature, quantity and period of each event that the table's stream causes."""
        (shard,) = self.streams.describe_stream(StreamArn=self.stream)["StreamDescription"]["Shards"]
        iterator = self.streams.get_shard_iterator(
            StreamArn=self.stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        found = self.streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
        bus = Kept()
        assert Publisher(s3=None, bus=bus)(*found) == []
        assert len({detail["id"] for detail in bus.details}) == len(bus.details)
        payloads = [detail["payload"] for detail in bus.details]
        return Counter((each["feature"], each["quantity"], each["billingPeriod"]) for each in payloads)

    def stored(self) -> tuple[dict[str, tuple[str, int]], Counter[str], Counter[str]]:
        """The records by key, and the counters' totals and numbers of records by feature."""
        recorded = {
            item["sk"]["S"]: (item["feature"]["S"], int(item["quantity"]["N"]))
            for item in items(self.client, "usage", "usage#")
        }
        totals: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        for item in items(self.client, "usage", "counter#"):
            feature = item["sk"]["S"].partition("#")[0]
            totals[feature] += int(item["total"]["N"])
            counts[feature] += int(item.get("count", {"N": "0"})["N"])
        return recorded, totals, counts


def _settled(world: World, batch: list[Usage | None]) -> tuple[list[str], list[Any], int]:
    """Send the batch until no record is unavailable.

    Returns: the first final status of each record, the last results, and the number of requests.
    """
    first: list[str | None] = [None] * len(batch)
    for sent in range(1, 100):
        reply = world.send(batch)
        if reply.status == 503:
            continue
        assert reply.status == 200, reply.body
        assert [result["index"] for result in reply.body["results"]] == list(range(len(batch)))
        statuses = [result["status"] for result in reply.body["results"]]
        assert {name: number for name, number in reply.body["totals"].items() if number} == Counter(statuses)
        for index, status in enumerate(statuses):
            if first[index] is None and status != "unavailable":
                first[index] = status
        if "unavailable" not in statuses:
            return [str(status) for status in first], reply.body["results"], sent
    raise AssertionError("the batch was never settled")


def _check(world: World, faulty: Faulty, batches: list[tuple[list[Usage | None], list[str | None]]]) -> Counter[str]:
    seen: Counter[str] = Counter()
    for batch, faults in batches:
        expected = world.expected(batch)
        after = [
            "invalid" if usage is None else world.recorded_usage.after_a_batch(usage, answer, world.clock.at)[0]
            for usage, answer in zip(batch, expected, strict=True)
        ]
        faulty.faults = list(faults)
        first_statuses, results, sent = _settled(world, batch)
        faulty.faults = []
        for status, model_says in zip(first_statuses, after, strict=True):
            # A record that an earlier request committed without an answer is a replay in the next request.
            assert status == model_says or (status == "replayed" and sent > 1), (first_statuses, after)
        last_totals = {
            (usage.feature, result["currentUsage"])
            for usage, result in zip(batch, results, strict=True)
            if usage is not None and "currentUsage" in result
        }
        assert last_totals <= {
            (feature, world.recorded_usage.totals["demo-org", "2026-11", feature]) for feature in PLAN.features
        }
        seen.update(first_statuses)
        seen["sent again"] += sent > 1
        # The same batch once more records nothing.
        again = expect(200, world.send(batch))
        assert again.body["totals"]["recorded"] == 0
    recorded, totals, counts = world.stored()
    usages = [usage for usage, _ in world.recorded_usage.records.values()]
    assert recorded == {usage.key: (usage.feature, usage.quantity) for usage in usages}
    assert +totals == Counter(
        {feature: total for (_, _, feature), total in world.recorded_usage.totals.items() if total}
    )
    assert +counts == Counter(usage.feature for usage in usages)
    assert world.published() == Counter((usage.feature, usage.quantity, "2026-11") for usage in usages)
    return seen


# The time that a request spends on its tries: a few tries, or its whole retry budget.
PATIENCE = st.sampled_from([0.02, 0.1, 1.0, 7.5])
FAULTS = st.lists(st.sampled_from(_FAULTS), max_size=40)
# The number of actions in a transaction. With few, a small batch takes as many transactions as a large one.
SENDINGS = st.tuples(st.lists(st.tuples(BATCHES, FAULTS), min_size=1, max_size=4), st.just(MAX_ACTIONS)) | st.tuples(
    st.lists(st.tuples(st.lists(USAGES, min_size=2, max_size=12), FAULTS), min_size=2, max_size=4),
    st.sampled_from([4, 5, 8]),
)


@pytest.fixture(scope="module")
def clients() -> Iterator[tuple["DynamoDBClient", Any]]:
    with mock_aws():
        # The retries of botocore itself would wait in real time.
        config = Config(retries={"total_max_attempts": 1})
        yield SESSION.client("dynamodb", config=config), SESSION.client("dynamodbstreams", config=config)


@pytest.mark.timeout(0)  # FUZZ_CASES decides
def test_batches_match_the_model_under_any_failures(
    clients: tuple["DynamoDBClient", Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, streams = clients
    faulty = Faulty(client, Random(7))
    seen: Counter[str] = Counter()

    @settings(FUZZ, max_examples=max(1, CASES // 8))
    @given(sendings=SENDINGS, patience_s=PATIENCE)
    def look(sendings: tuple[list[tuple[list[Usage | None], list[str | None]]], int], patience_s: float) -> None:
        batches, actions = sendings
        faulty.faults = []
        monkeypatch.setattr("metering.usage.batch.MAX_ACTIONS", actions)
        seen.update(_check(World(client, streams, patience_s), faulty, batches))

    look()
    # The drawn cases must include each of these.
    assert min(seen[status] for status in ("recorded", "replayed", "refused", "conflict", "invalid")) > 0
    assert seen["sent again"] > 0
    kinds = {fault for fault in _FAULTS if fault is not None}
    assert {name.partition(": ")[2] for name in faulty.injected} == kinds
    assert {name.partition(":")[0] for name in faulty.injected} >= {"TransactWriteItems", "Query", "GetItem"}
