"""Each threshold of a limit is noticed once, in any order and repetition of deliveries."""

import io
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.metrics import EphemeralMetrics
from metering import limit_watcher
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.model.usage import CounterId
from metering.outbox import thresholds
from metering.outbox.events import new_fact
from metering.outbox.stream_batches import NotAStreamBatch
from metering.outbox.thresholds import WatcherDeps
from metering.storage import counter_pages
from metering.storage.counter_items import SHARDS_PER_PAGE, page_partition, pages_key
from metering.storage.organization_items import organization_item
from metering.storage.plan_items import plan_item

from tests.testing.contention import answer_with, failed
from tests.testing.logs import logger
from tests.testing.payloads import NO_STREAM_BATCHES
from tests.testing.service import Clock, Context
from tests.testing.table import items, put_on_plan

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_NUMBERS = itertools.count(1)
PRO = Plan("pro", "Pro", {"api_calls": Entitlement(limit=100, warn_at=(50, 80)), "seats": Entitlement(limit=None)})


LOW = Plan("low", "Low", {"api_calls": Entitlement(limit=40, warn_at=())})
MANY_FEATURES = Plan("many", "Many", {f"feature_{number}": Entitlement(limit=100, warn_at=()) for number in range(20)})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deps(dynamodb: "DynamoDBClient", clock: Clock) -> WatcherDeps:
    put_on_plan(dynamodb, "usage", Organization("demo-org"), PRO)
    return _deps(dynamodb, clock)


def _deps(dynamodb: "DynamoDBClient", clock: Clock) -> WatcherDeps:
    """A new execution environment of the watcher."""
    metrics: Any = EphemeralMetrics()
    return WatcherDeps(dynamodb, "usage", timedelta(days=400), clock.now, logger(), metrics)


def _count(
    deps: WatcherDeps, total: int, *, organization: str = "demo-org", feature: str = "api_calls", shard: int = 0
) -> Any:
    """Store this total in the counter's shard.

    Returns: the stream record of the change.
    """
    counter = CounterId(organization, "2026-11", feature)
    key = {"pk": {"S": page_partition(counter, shard // SHARDS_PER_PAGE)}, "sk": {"S": f"{feature}#{shard}"}}
    deps.client.put_item(TableName="usage", Item={**key, "total": {"N": str(total)}, "count": {"N": "1"}})
    return _stream_record(key)


def _stream_record(item: Any, at: datetime | None = None) -> Any:
    """The stream record of a change to this item, with this time if it is given."""
    change = {
        "Keys": {"pk": item["pk"], "sk": item["sk"]},
        "NewImage": item,
        "SequenceNumber": str(next(_NUMBERS)),
        **({} if at is None else {"ApproximateCreationDateTime": at.timestamp()}),
    }
    return {"eventName": "MODIFY", "dynamodb": change}


def _look(deps: WatcherDeps, *records: Any, clock: Clock | None = None) -> str | None:
    context: Any = Context(clock or Clock(), timeout_s=300)
    failures = limit_watcher.respond({"Records": list(records)}, context, deps)["batchItemFailures"]
    return failures[0]["itemIdentifier"] if failures else None


def _counters_asked(queries: list[Any]) -> list[str]:
    """The partitions in which these queries read counters."""
    return [query["ExpressionAttributeValues"][":pk"]["S"] for query in queries if "IndexName" not in query]


def _many(deps: WatcherDeps, plan: Plan, number: int) -> list[str]:
    """Put so many organizations on this plan, each with a usage of 40 calls.

    Returns: their names, in the index's order.
    """
    names = [f"many-{at:02}" for at in range(number)]
    for name in names:
        put_on_plan(deps.client, "usage", Organization(name), plan)
        _count(deps, 40, organization=name)
    return names


def _malformed(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.getMessage() == "an item is malformed" for record in caplog.records)


def _every_call_takes(deps: WatcherDeps, clock: Clock, seconds: float) -> None:
    events: Any = deps.client.meta.events
    events.register("before-call.dynamodb", lambda **_: clock.pass_by(seconds=seconds))


def _noticed(deps: WatcherDeps, organization: str = "demo-org") -> list[tuple[str, str]]:
    found = items(deps.client, "usage", f"notice#{organization}#")
    return sorted((item["sk"]["S"], item["currentUsage"]["N"]) for item in found)


@pytest.mark.parametrize(("event", "keys"), NO_STREAM_BATCHES.values(), ids=NO_STREAM_BATCHES)
def test_an_event_that_is_no_stream_batch_is_reported_by_its_keys(
    deps: WatcherDeps, event: Any, keys: list[str]
) -> None:
    context: Any = Context(Clock(), timeout_s=300)
    log = io.StringIO()
    deps.logger = logger(log)
    with pytest.raises(NotAStreamBatch) as raised:
        limit_watcher.respond(event, context, deps)
    line = json.loads(log.getvalue())
    assert (line["level"], line["message"]) == ("ERROR", "event is not a batch of the table's stream")
    assert list(raised.value.keys) == line["keys"] == keys
    assert "s3cret" not in f"{raised.value}{line}"


@pytest.mark.parametrize("spoilt", [{}, None, 7, {"dynamodb": None}, {"dynamodb": {"Keys": []}}], ids=str)
def test_a_malformed_record_delays_no_other(deps: WatcherDeps, spoilt: Any) -> None:
    assert _look(deps, spoilt, _count(deps, 50)) is None
    assert len(_noticed(deps)) == 1


@pytest.mark.parametrize(
    ("total", "thresholds"),
    [
        (0, []),
        (49, []),
        (50, [50]),
        (79, [50]),
        (80, [50, 80]),
        (99, [50, 80]),
        (100, [50, 80, 100]),
        (1000, [50, 80, 100]),
    ],
)
def test_every_threshold_that_is_reached_is_noticed(deps: WatcherDeps, total: int, thresholds: list[int]) -> None:
    assert _look(deps, _count(deps, total)) is None
    assert _noticed(deps) == sorted((f"api_calls#100#{each}", str(total)) for each in thresholds)


def test_a_notice_from_the_last_moment_of_a_month_belongs_to_that_month(deps: WatcherDeps, clock: Clock) -> None:
    clock.at = datetime(2026, 11, 30, 23, 59, 59, 999_600, UTC)
    _look(deps, _count(deps, 100))
    notices = items(deps.client, "usage", "notice#demo-org#2026-11")
    assert {item["noticedAt"]["S"] for item in notices} == {"2026-11-30T23:59:59.999Z"}
    assert {int(item["expiresAt"]["N"]) for item in notices} == {int(clock.at.timestamp()) + 400 * 86_400}


def test_a_notice_is_the_fact_that_is_published(deps: WatcherDeps) -> None:
    _look(deps, _count(deps, 100))
    facts = {}
    for item in items(deps.client, "usage", "notice#"):
        fact = new_fact({"eventName": "INSERT", "dynamodb": {"NewImage": item}})
        assert fact is not None
        facts[fact.key, fact.payload.get("percentage")] = fact
    assert facts.keys() == {
        ("billing.limit.reached", None),
        ("billing.limit.approaching", 50),
        ("billing.limit.approaching", 80),
    }
    reached = facts["billing.limit.reached", None]
    assert reached.payload == {
        "organizationId": "demo-org",
        "feature": "api_calls",
        "limit": 100,
        "currentUsage": 100,
        "reachedAt": "2026-11-23T00:20:04.123Z",
    }
    assert len({fact.id for fact in facts.values()}) == 3


def test_the_shards_of_a_counter_are_one_total(deps: WatcherDeps) -> None:
    records = [_count(deps, 30, shard=shard) for shard in (0, 3)]
    assert _look(deps, *records) is None
    assert _noticed(deps) == [("api_calls#100#50", "60")]


def _announce(deps: WatcherDeps, pages: int, feature: str = "api_calls") -> Any:
    """Announce so many pages of the counter.

    Returns: the stream record of the announcement.
    """
    counter = CounterId("demo-org", "2026-11", feature)
    counter_pages.announce(deps.client, "usage", counter, pages)
    return _stream_record(pages_key(counter))


@pytest.mark.parametrize("changed", [0, 8, 23])
def test_a_change_of_any_shard_sums_every_page_of_its_counter(deps: WatcherDeps, changed: int) -> None:
    records = {shard: _count(deps, 20, shard=shard) for shard in (0, 8, 23)}
    _announce(deps, 3)
    assert _look(deps, records[changed]) is None
    assert _noticed(deps) == [("api_calls#100#50", "60")]


def test_several_counters_with_pages_are_each_summed(deps: WatcherDeps) -> None:
    put_on_plan(deps.client, "usage", Organization("demo-org"), MANY_FEATURES)
    for feature, shard in (("feature_3", 0), ("feature_3", 15), ("feature_4", 0), ("feature_4", 8), ("feature_5", 0)):
        record = _count(deps, 50, feature=feature, shard=shard)
    for feature in ("feature_3", "feature_4"):
        _announce(deps, 2, feature)
    queries = answer_with(deps.client, "Query", [])
    assert _look(deps, record, _stream_record(organization_item(Organization("demo-org", plan="many")))) is None
    assert [sk for sk, _ in _noticed(deps)] == ["feature_3#100#100", "feature_4#100#100"]
    assert len(queries) == 3


def test_a_counter_of_many_pages_does_not_outlast_the_invocation(deps: WatcherDeps, clock: Clock) -> None:
    record = _count(deps, 60)
    _announce(deps, 64)
    _every_call_takes(deps, clock, 0.5)
    context: Any = Context(clock, timeout_s=thresholds.RESERVE_S + 5)
    answer = limit_watcher.respond({"Records": [record]}, context, deps)
    assert answer == {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}
    assert context.get_remaining_time_in_millis() > 0


def test_an_announcement_is_not_usage_and_delays_nothing(deps: WatcherDeps, caplog: pytest.LogCaptureFixture) -> None:
    record = _count(deps, 50)
    assert _look(deps, _announce(deps, 2), record) is None
    assert (_noticed(deps), _malformed(caplog)) == ([("api_calls#100#50", "50")], 0)


def test_a_batch_reads_a_counter_once_for_all_its_records(deps: WatcherDeps) -> None:
    records = [_count(deps, total, shard=shard) for total in (10, 20, 30) for shard in (0, 1)]
    queries = answer_with(deps.client, "Query", [])
    _look(deps, *records)
    assert len(queries) == 1
    assert queries[0]["ConsistentRead"] is True


def test_a_batch_reads_a_counter_once_for_usage_organization_and_plan(deps: WatcherDeps) -> None:
    counter, organization = _count(deps, 100), _stream_record(organization_item(Organization("demo-org", plan="pro")))
    queries = answer_with(deps.client, "Query", [])
    assert _look(deps, counter, organization, _stream_record(plan_item(PRO))) is None
    assert _counters_asked(queries) == ["counter#demo-org#2026-11"]
    assert len(_noticed(deps)) == 3


def test_several_counters_of_an_organization_are_read_in_one_query(deps: WatcherDeps) -> None:
    put_on_plan(deps.client, "usage", Organization("demo-org"), MANY_FEATURES)
    records = [_count(deps, 100, feature=f"feature_{number}") for number in (3, 4)]
    _count(deps, 100, feature="feature_5")
    queries = answer_with(deps.client, "Query", [])
    _look(deps, *records)
    assert len(queries) == 1
    assert [sk for sk, _ in _noticed(deps)] == ["feature_3#100#100", "feature_4#100#100"]


def test_a_single_counter_is_asked_without_the_others(deps: WatcherDeps) -> None:
    _count(deps, 100, feature="seats")
    record = _count(deps, 50)
    queries = answer_with(deps.client, "Query", [])
    _look(deps, record)
    assert [query["ExpressionAttributeValues"][":feature"] for query in queries] == [{"S": "api_calls#"}]


def test_a_changed_plan_costs_one_query_per_organization_for_all_its_features(deps: WatcherDeps) -> None:
    names = _many(deps, MANY_FEATURES, 11)
    queries = answer_with(deps.client, "Query", [])
    assert _look(deps, _stream_record(plan_item(MANY_FEATURES))) is None
    assert _counters_asked(queries) == [f"counter#{name}#2026-11" for name in names]
    assert len(queries) == 12


def test_counters_and_organizations_on_several_pages_are_all_looked_at(deps: WatcherDeps) -> None:
    put_on_plan(deps.client, "usage", Organization("acme"), MANY_FEATURES)
    put_on_plan(deps.client, "usage", Organization("demo-org"), MANY_FEATURES)
    for organization in ("acme", "demo-org"):
        for feature in ("feature_3", "feature_7"):
            for shard in (0, 1, 2):
                _count(deps, 40, organization=organization, feature=feature, shard=shard)

    def one_by_one(params: Any, **_: Any) -> None:
        params["Limit"] = 1

    events: Any = deps.client.meta.events
    events.register("provide-client-params.dynamodb.Query", one_by_one)
    assert _look(deps, _stream_record(plan_item(MANY_FEATURES))) is None
    assert _noticed(deps) == _noticed(deps, "acme") == [("feature_3#100#100", "120"), ("feature_7#100#100", "120")]


def test_delivered_again_nothing_is_noticed_again(deps: WatcherDeps, clock: Clock) -> None:
    record = _count(deps, 100)
    _look(deps, record)
    before = items(deps.client, "usage", "notice#")
    clock.pass_by(hours=1)
    for environment in (deps, _deps(deps.client, clock)):
        _look(environment, record)
    assert items(deps.client, "usage", "notice#") == before


def test_a_known_notice_is_not_written_again(deps: WatcherDeps) -> None:
    _look(deps, _count(deps, 100))
    writes = answer_with(deps.client, "PutItem", [])
    _look(deps, _stream_record({"pk": {"S": "counter#demo-org#2026-11"}, "sk": {"S": "api_calls#0"}}))
    assert writes == []


def test_without_a_limit_nothing_is_asked(deps: WatcherDeps) -> None:
    records = [_count(deps, 10**9, feature="seats"), _count(deps, 10**9, feature="unknown")]
    queries = answer_with(deps.client, "Query", [])
    _look(deps, *records)
    assert (queries, _noticed(deps)) == ([], [])


def test_periods_and_organizations_have_separate_notices(deps: WatcherDeps) -> None:
    put_on_plan(deps.client, "usage", Organization("acme"), PRO)
    _look(deps, _count(deps, 100, organization="acme"))
    assert (_noticed(deps), len(_noticed(deps, "acme"))) == ([], 3)
    old = {"pk": {"S": "counter#demo-org#2026-10"}, "sk": {"S": "api_calls#0"}}
    deps.client.put_item(TableName="usage", Item={**old, "total": {"N": "60"}})
    _look(deps, _stream_record(old))
    (notice,) = items(deps.client, "usage", "notice#demo-org#")
    assert notice["pk"]["S"] == "notice#demo-org#2026-10"


def test_a_limit_that_was_lowered_is_noticed_for_everybody_on_the_plan(deps: WatcherDeps) -> None:
    put_on_plan(deps.client, "usage", Organization("acme"), PRO)
    for organization in ("demo-org", "acme"):
        _count(deps, 40, organization=organization)
    lower = replace(PRO, features={"api_calls": Entitlement(limit=40, warn_at=())})
    deps.client.put_item(TableName="usage", Item=plan_item(lower))
    assert _look(deps, _stream_record(plan_item(lower))) is None
    assert _noticed(deps) == _noticed(deps, "acme") == [("api_calls#40#100", "40")]


def test_a_lowered_limit_is_noticed_in_the_period_of_its_change(deps: WatcherDeps, clock: Clock) -> None:
    _count(deps, 40)
    lower = replace(PRO, features={"api_calls": Entitlement(limit=40, warn_at=())})
    deps.client.put_item(TableName="usage", Item=plan_item(lower))
    clock.pass_by(days=31)
    assert _look(deps, _stream_record(plan_item(lower), at=datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))) is None
    assert _noticed(deps) == [("api_calls#40#100", "40")]
    (notice,) = items(deps.client, "usage", "notice#")
    assert notice["pk"]["S"] == "notice#demo-org#2026-11"


def test_a_new_limit_gets_its_own_notices_when_it_is_reached(deps: WatcherDeps) -> None:
    _look(deps, _count(deps, 100))
    own = organization_item(Organization("demo-org", plan="pro", limits={"api_calls": 200}))
    deps.client.put_item(TableName="usage", Item=own)
    _look(deps, _stream_record(own))
    assert [sk for sk, _ in _noticed(deps) if "#200#" in sk] == ["api_calls#200#50"]
    _look(deps, _count(deps, 200))
    assert [sk for sk, _ in _noticed(deps) if "#200#" in sk] == [
        "api_calls#200#100",
        "api_calls#200#50",
        "api_calls#200#80",
    ]
    # The first limit returns, whose thresholds were noticed before.
    before = len(_noticed(deps))
    back = organization_item(Organization("demo-org", plan="pro"))
    deps.client.put_item(TableName="usage", Item=back)
    _look(deps, _stream_record(back))
    assert len(_noticed(deps)) == before


@pytest.mark.parametrize("operation", ["TransactGetItems", "Query", "PutItem"])
def test_a_change_that_could_not_be_checked_is_delivered_again(deps: WatcherDeps, operation: str) -> None:
    for organization in ("acme", "idle"):
        put_on_plan(deps.client, "usage", Organization(organization), PRO)
    idle = _count(deps, 100, organization="idle", feature="seats")
    records = [idle, _count(deps, 100, organization="acme"), _count(deps, 100)]
    # The first record needs only its organization and plan, because its feature has no limit.
    answers = [None] if operation == "TransactGetItems" else []
    answer_with(deps.client, operation, [*answers, failed("ThrottlingException")])
    assert _look(deps, *records) == records[1]["dynamodb"]["SequenceNumber"]
    assert _look(deps, *records[1:]) is None
    assert len(_noticed(deps)) == len(_noticed(deps, "acme")) == 3


def test_a_failed_check_returns_the_batch_from_its_first_record(
    deps: WatcherDeps,
) -> None:
    put_on_plan(deps.client, "usage", Organization("acme"), PRO)
    records = [_count(deps, 50), _count(deps, 50, organization="acme"), _count(deps, 60)]
    answer_with(deps.client, "GetItem", [failed("ThrottlingException")])
    assert _look(deps, *records) == records[0]["dynamodb"]["SequenceNumber"]
    assert _look(deps, *records) is None
    assert (_noticed(deps), _noticed(deps, "acme")) == ([("api_calls#100#50", "60")], [("api_calls#100#50", "50")])


def test_the_watcher_reads_the_organization_consistently(deps: WatcherDeps) -> None:
    reads = answer_with(deps.client, "GetItem", [])
    _look(deps, _count(deps, 100))
    # This is the read of the organization. A transaction then reads it with its plan.
    assert [read["ConsistentRead"] for read in reads] == [True]


def test_no_limit_is_noticed_that_the_organization_never_had(deps: WatcherDeps) -> None:
    # While the watcher reads, the organization leaves the plan, and then the plan's limit is lowered.
    def move(**_: Any) -> None:
        put_on_plan(deps.client, "usage", Organization("demo-org"), Plan("free", "Free", {"exports": Entitlement()}))
        lowered = Plan("pro", "Pro", {"api_calls": Entitlement(limit=7)})
        deps.client.put_item(TableName="usage", Item=plan_item(lowered))

    count = _count(deps, 10)
    events: Any = deps.client.meta.events
    events.register("before-call.dynamodb.TransactGetItems", move)
    assert _look(deps, count) is None
    assert _noticed(deps) == []


def test_a_changed_plan_costs_one_transactional_read_per_organization(deps: WatcherDeps) -> None:
    for organization in ("acme", "bolt"):
        put_on_plan(deps.client, "usage", Organization(organization), PRO)
    reads = answer_with(deps.client, "TransactGetItems", [])
    _look(deps, _stream_record(plan_item(PRO)))
    assert len(reads) == 3


@pytest.mark.parametrize(("failing", "first_not_done"), [(0, 0), (1, 0), (2, 0), (3, 2)])
def test_the_first_unfinished_record_is_reported_in_any_order_of_checks(
    deps: WatcherDeps, failing: int, first_not_done: int
) -> None:
    put_on_plan(deps.client, "usage", Organization("acme", limits={"api_calls": 40}), None)
    put_on_plan(deps.client, "usage", Organization("zulu", limits={"api_calls": 40}), None)
    # The watcher queries the organizations on the plan, then demo-org, and then the others in the batch's order.
    records = [
        _count(deps, 40, organization="acme"),
        _stream_record(plan_item(PRO)),
        _count(deps, 40, organization="zulu"),
        _count(deps, 50),
    ]
    answer_with(deps.client, "Query", [*[None] * failing, failed("ThrottlingException")])
    assert _look(deps, *records) == records[first_not_done]["dynamodb"]["SequenceNumber"]
    assert _look(deps, *records[first_not_done:]) is None
    assert [len(_noticed(deps, name)) for name in ("demo-org", "acme", "zulu")] == [1, 2, 2]


def test_a_plan_with_too_many_organizations_resumes_where_it_stopped(deps: WatcherDeps, clock: Clock) -> None:
    names = _many(deps, LOW, 30)
    changed = _stream_record(plan_item(LOW))
    _every_call_takes(deps, clock, 7)
    queries = answer_with(deps.client, "Query", [])
    number = changed["dynamodb"]["SequenceNumber"]
    assert [_look(deps, changed, clock=clock) for _ in range(3)] == [number, number, None]
    assert _counters_asked(queries) == [f"counter#{name}#2026-11" for name in names]
    assert [len(_noticed(deps, name)) for name in names] == [1] * 30


def test_the_watcher_starts_no_check_that_could_exceed_the_deadline(deps: WatcherDeps, clock: Clock) -> None:
    _many(deps, LOW, 30)
    _every_call_takes(deps, clock, 7)
    begun = clock.monotonic()
    _look(deps, _stream_record(plan_item(LOW)), clock=clock)
    assert 300 - thresholds.RESERVE_S <= clock.monotonic() - begun < 300


def test_a_failed_plan_resumes_with_the_organization_that_failed(deps: WatcherDeps) -> None:
    names = _many(deps, LOW, 4)
    changed = _stream_record(plan_item(LOW))
    queries = answer_with(deps.client, "Query", [None, None, None, failed("ThrottlingException")])
    assert _look(deps, changed) == changed["dynamodb"]["SequenceNumber"]
    assert _look(deps, changed) is None
    assert _counters_asked(queries) == [f"counter#{names[at]}#2026-11" for at in (0, 1, 2, 2, 3)]


def test_a_plan_that_was_looked_at_to_the_end_is_looked_at_from_the_beginning(deps: WatcherDeps) -> None:
    names = _many(deps, LOW, 2)
    changed = _stream_record(plan_item(LOW))
    _look(deps, changed)
    queries = answer_with(deps.client, "Query", [])
    _look(deps, changed)
    assert len(_counters_asked(queries)) == len(names)


def test_a_finished_plan_is_not_checked_again_when_another_record_returns_the_batch(deps: WatcherDeps) -> None:
    names = _many(deps, LOW, 3)
    counter, plan = _count(deps, 40), _stream_record(plan_item(LOW))
    # The watcher queries the organizations on the plan, the counters of all three, and then the counter of demo-org.
    queries = answer_with(deps.client, "Query", [None, None, None, None, failed("ThrottlingException")])
    assert _look(deps, counter, plan) == counter["dynamodb"]["SequenceNumber"]
    asked = len(_counters_asked(queries))
    assert asked == len(names) + 1
    assert _look(deps, counter, plan) is None
    assert len(_counters_asked(queries)) == asked + 1
    assert [len(_noticed(deps, name)) for name in names] == [1] * 3


def test_a_plan_that_changed_again_is_looked_at_from_the_beginning(deps: WatcherDeps) -> None:
    names = _many(deps, LOW, 3)
    changed = _stream_record(plan_item(LOW))
    answer_with(deps.client, "Query", [None, None, failed("ThrottlingException")])
    assert _look(deps, changed) == changed["dynamodb"]["SequenceNumber"]
    lower = replace(LOW, features={"api_calls": Entitlement(limit=20, warn_at=())})
    deps.client.put_item(TableName="usage", Item=plan_item(lower))
    assert _look(deps, changed, _stream_record(plan_item(lower))) is None
    assert [("api_calls#20#100", "40") in _noticed(deps, name) for name in names] == [True] * 3


def test_a_new_environment_checks_every_organization_on_the_plan(deps: WatcherDeps, clock: Clock) -> None:
    names = _many(deps, LOW, 3)
    changed = _stream_record(plan_item(LOW))
    answer_with(deps.client, "Query", [None, None, failed("ThrottlingException")])
    _look(deps, changed)
    queries = answer_with(deps.client, "Query", [])
    assert _look(_deps(deps.client, clock), changed) is None
    assert len(_counters_asked(queries)) == len(names)


def test_a_record_without_enough_time_is_delivered_again(deps: WatcherDeps) -> None:
    record = _count(deps, 100)
    clock = Clock()
    context: Any = Context(clock, timeout_s=thresholds.RESERVE_S - 1)
    answer = limit_watcher.respond({"Records": [record]}, context, deps)
    assert answer == {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}


@pytest.mark.parametrize(
    ("pk", "sk"),
    [
        ("counter#demo-org", "api_calls#0"),
        ("counter#demo-org#2026-13", "api_calls#0"),
        ("counter#demo-org#2026-11", "7"),
    ],
)
def test_a_malformed_key_delays_nothing(deps: WatcherDeps, pk: str, sk: str) -> None:
    spoilt = _stream_record({"pk": {"S": pk}, "sk": {"S": sk}})
    assert _look(deps, spoilt, _count(deps, 50)) is None
    assert len(_noticed(deps)) == 1


def test_a_malformed_organization_delays_no_other(deps: WatcherDeps) -> None:
    spoilt = organization_item(Organization("acme", plan="pro"))
    spoilt["limits"] = {"S": "many"}
    deps.client.put_item(TableName="usage", Item=spoilt)
    records = [_count(deps, 100, organization="acme"), _count(deps, 50)]
    assert _look(deps, *records) is None
    assert (len(_noticed(deps)), _noticed(deps, "acme")) == (1, [])


def test_a_malformed_organization_hides_no_other_on_its_plan(
    deps: WatcherDeps, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("acme", "zulu"):
        put_on_plan(deps.client, "usage", Organization(name), PRO)
    spoilt = organization_item(Organization("acme", plan="pro"))
    spoilt["limits"] = {"S": "many"}
    deps.client.put_item(TableName="usage", Item=spoilt)
    for name in ("acme", "demo-org", "zulu"):
        _count(deps, 50, organization=name)
    assert _look(deps, _stream_record(plan_item(PRO))) is None
    assert [len(_noticed(deps, name)) for name in ("acme", "demo-org", "zulu")] == [0, 1, 1]
    assert _malformed(caplog) == 1


def test_a_malformed_plan_is_logged_once(deps: WatcherDeps, caplog: pytest.LogCaptureFixture) -> None:
    _many(deps, LOW, 3)
    spoilt = {**plan_item(LOW), "features": {"S": "all"}}
    deps.client.put_item(TableName="usage", Item=spoilt)
    assert _look(deps, _stream_record(spoilt), _count(deps, 50)) is None
    assert (len(_noticed(deps)), _noticed(deps, "many-00"), _malformed(caplog)) == (1, [], 1)


@pytest.mark.parametrize("total", [{}, {"total": {"S": "100"}}, {"total": {"N": "1.5"}}, {"total": {"N": "-1"}}])
def test_a_malformed_counter_delays_nothing_else(
    deps: WatcherDeps, caplog: pytest.LogCaptureFixture, total: Any
) -> None:
    put_on_plan(deps.client, "usage", Organization("acme"), MANY_FEATURES)
    key = {"pk": {"S": "counter#acme#2026-11"}, "sk": {"S": "feature_3#1"}}
    deps.client.put_item(TableName="usage", Item={**key, **total})
    for feature in ("feature_3", "feature_7"):
        _count(deps, 100, organization="acme", feature=feature)
    organization = _stream_record(organization_item(Organization("acme", plan="pro")))
    assert _look(deps, _stream_record(key), organization, _count(deps, 50)) is None
    assert _noticed(deps, "acme") == [("feature_7#100#100", "100")]
    assert (len(_noticed(deps)), _malformed(caplog)) == (1, 1)


def test_an_unknown_organization_or_plan_gets_no_notice(deps: WatcherDeps) -> None:
    assert _look(deps, _count(deps, 100, organization="nobody")) is None
    put_on_plan(deps.client, "usage", Organization("acme", plan="gone"), None)
    assert _look(deps, _count(deps, 100, organization="acme")) is None
    assert items(deps.client, "usage", "notice#") == []


def test_a_limit_of_zero_is_reached_by_the_first_usage(deps: WatcherDeps) -> None:
    none = replace(PRO, features={"api_calls": Entitlement(limit=0, warn_at=())})
    deps.client.put_item(TableName="usage", Item=plan_item(none))
    _look(deps, _stream_record(plan_item(none)))
    assert _noticed(deps) == []
    _look(deps, _count(deps, 1))
    assert _noticed(deps) == [("api_calls#0#100", "1")]
