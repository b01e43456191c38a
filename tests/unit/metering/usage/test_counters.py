"""A counter spreads no further than necessary, and never to a page that a reader could miss."""

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from metering.http.operations import FEATURE_CHECK, USAGE_SUMMARY
from metering.model.errors import Unavailable
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.model.usage import CounterId
from metering.storage import counter_pages
from metering.storage.counter_items import MAX_PAGES, SHARDS_PER_PAGE, counter_of, page_partition, pages_key
from metering.storage.retry import RetryBudget
from metering.usage.counters import Counters

from tests.testing.contention import answer_with, cancelled, failed, lose_answers
from tests.testing.payloads import batch_request, example, query_request, record_request
from tests.testing.problems import assert_problem
from tests.testing.service import Clock, QueryFunction, RecordFunction
from tests.testing.table import items, put_on_plan, records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_RANDOM = Random(5)
COUNTER = CounterId("demo-org", "2026-11", "api_calls")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counters(dynamodb: "DynamoDBClient", clock: Clock) -> Counters:
    return Counters(dynamodb, "usage", clock.clocks)


@pytest.fixture
def function(dynamodb: "DynamoDBClient", clock: Clock) -> RecordFunction:
    return RecordFunction(dynamodb, clock)


def hold(dynamodb: "DynamoDBClient", shard: int, total: int, **attributes: Any) -> None:
    """Store this total in the shard of the counter."""
    key = {
        "pk": {"S": page_partition(COUNTER, shard // SHARDS_PER_PAGE)},
        "sk": {"S": f"{COUNTER.feature}#{shard}"},
    }
    dynamodb.put_item(TableName="usage", Item={**key, "total": {"N": str(total)}, "count": {"N": "1"}, **attributes})


def announced(dynamodb: "DynamoDBClient") -> Any:
    return dynamodb.get_item(TableName="usage", Key=pages_key(COUNTER)).get("Item")


def budget(clock: Clock) -> RetryBudget:
    return RetryBudget(clock.monotonic() + 10, clock.monotonic, clock.sleep, Random(1))


def shard_of(counters: Counters) -> int:
    """The shard of the next addition."""
    return counters.shard(COUNTER, _RANDOM)


def shard_busy(counters: Counters, until: int) -> int:
    """Report busy shards until so many pages are known.

    Returns: the number of reports.
    """
    for times in range(2000):
        if max(counters.shard(COUNTER, Random(seed)) for seed in range(300)) >= SHARDS_PER_PAGE * (until - 1):
            return times
        counters.shard_busy(COUNTER, shard_of(counters), budget(Clock()), throttled=False)
    raise AssertionError(f"the counter never reaches {until} pages")


# --- adding ------------------------------------------------------------------------------------------------------


def test_a_calm_counter_stays_in_its_first_shard(counters: Counters, dynamodb: "DynamoDBClient") -> None:
    hold(dynamodb, 0, 1)
    for _ in range(100):
        assert counters.shard(COUNTER, Random()) == 0
        counters.increment_committed(COUNTER, 0, 1)


def test_a_new_environment_learns_a_counters_shards_from_its_first_total(
    counters: Counters, dynamodb: "DynamoDBClient", clock: Clock
) -> None:
    for shard in range(4):
        hold(dynamodb, shard, 1)
    assert counters.total(COUNTER, budget(clock)) == 4
    assert {counters.shard(COUNTER, Random(seed)) for seed in range(99)} == {0, 1, 2, 3}


@pytest.mark.parametrize("attributes", [{"hard": {"BOOL": True}}, None])
def test_a_counter_that_may_be_under_a_hard_limit_does_not_spread(
    counters: Counters, dynamodb: "DynamoDBClient", clock: Clock, attributes: dict[str, Any] | None
) -> None:
    if attributes is not None:
        hold(dynamodb, 0, 1, **attributes)
    for _ in range(200):
        counters.shard_busy(COUNTER, shard_of(counters), budget(Clock()), throttled=False)
        counters.total(COUNTER, budget(clock))
        assert counters.shard(COUNTER, Random()) == 0
    assert announced(dynamodb) is None


def test_a_page_is_announced_before_anybody_adds_to_it(function: RecordFunction) -> None:
    function(record_request(example(idempotencyKey="before")))
    writes: list[str] = []

    def note(params: Any, model: Any, **_: Any) -> None:
        if model.name == "UpdateItem":
            writes.append("announcement")
        elif model.name == "TransactWriteItems" and f"#{COUNTER.feature}#1".encode() in params["body"]:
            writes.append("addition")

    events: Any = function.client.meta.events
    events.register("before-call.dynamodb", note)
    for number in range(40):
        codes = [cancelled(["None", "TransactionConflict"])] * 4
        answer_with(function.client, "TransactWriteItems", codes)
        function(record_request(example(idempotencyKey=f"k{number}")))
    assert writes[0] == "announcement"
    assert "addition" in writes
    pages = {item["counter"]["M"]["pk"]["S"] for item in records(function.client, "usage", "demo-org")}
    assert len(pages) > 1


@pytest.mark.parametrize("code", ["ThrottlingException", "TransactionConflictException"])
def test_an_announcement_that_fails_opens_no_page(counters: Counters, dynamodb: "DynamoDBClient", code: str) -> None:
    hold(dynamodb, 0, 1)
    answer_with(dynamodb, "UpdateItem", [failed(code)] * 1000)
    for _ in range(300):
        counters.shard_busy(COUNTER, shard_of(counters), budget(Clock()), throttled=False)
    assert {counters.shard(COUNTER, Random(seed)) for seed in range(99)} == set(range(SHARDS_PER_PAGE))


def test_a_learning_read_that_fails_widens_nothing(counters: Counters, dynamodb: "DynamoDBClient") -> None:
    hold(dynamodb, 0, 1)
    answer_with(dynamodb, "Query", [failed("ThrottlingException")] * 10)
    for _ in range(10):
        counters.shard_busy(COUNTER, shard_of(counters), budget(Clock()), throttled=False)
        assert counters.shard(COUNTER, Random()) == 0
    counters.shard_busy(COUNTER, shard_of(counters), budget(Clock()), throttled=False)
    assert counters.shard(COUNTER, Random(), busy=0) == 1


def test_pages_that_another_announced_are_found_and_not_announced_again(
    counters: Counters, dynamodb: "DynamoDBClient", clock: Clock
) -> None:
    hold(dynamodb, 0, 1)
    alone = shard_busy(counters, until=2)
    first = announced(dynamodb)["pages"]
    another = Counters(dynamodb, "usage", clock.clocks)
    writes = answer_with(dynamodb, "UpdateItem", [])
    another.total(COUNTER, budget(clock))
    assert shard_busy(another, until=2) < alone
    assert writes == []
    assert announced(dynamodb)["pages"] == first


def test_an_announcement_only_grows(dynamodb: "DynamoDBClient") -> None:
    assert counter_pages.announce(dynamodb, "usage", COUNTER, 4) == 4
    assert counter_pages.announce(dynamodb, "usage", COUNTER, 2) == 4
    assert counter_pages.announce(dynamodb, "usage", COUNTER, 4) == 4
    assert announced(dynamodb)["pages"] == {"N": "4"}
    assert counter_pages.announce(dynamodb, "usage", COUNTER, 8) == 8
    # The announcement has a total of zero, because an earlier release sums every item under the feature.
    assert announced(dynamodb)["total"] == {"N": "0"}


def test_a_counter_never_exceeds_the_maximum_of_pages(counters: Counters, dynamodb: "DynamoDBClient") -> None:
    hold(dynamodb, 0, 1)
    shard_busy(counters, until=MAX_PAGES)
    for _ in range(500):
        counters.shard_busy(COUNTER, shard_of(counters), budget(Clock()), throttled=False)
    assert announced(dynamodb)["pages"] == {"N": str(MAX_PAGES)}
    assert max(counters.shard(COUNTER, Random(seed)) for seed in range(3000)) < MAX_PAGES * SHARDS_PER_PAGE


def test_a_new_period_starts_narrow(counters: Counters, dynamodb: "DynamoDBClient") -> None:
    hold(dynamodb, 0, 1)
    shard_busy(counters, until=2)
    assert counters.shard(COUNTER._replace(billing_period="2026-12"), Random()) == 0


def test_another_feature_stays_as_it_is(counters: Counters, dynamodb: "DynamoDBClient") -> None:
    hold(dynamodb, 0, 1)
    shard_busy(counters, until=2)
    assert counters.shard(COUNTER._replace(feature="api_calls.batch"), Random()) == 0


def test_each_further_page_has_its_own_partition_key() -> None:
    partitions = [page_partition(COUNTER, page) for page in range(3)]
    assert partitions == [
        "counter#demo-org#2026-11",
        "counter#demo-org#2026-11#api_calls#1",
        "counter#demo-org#2026-11#api_calls#2",
    ]
    for partition in partitions:
        assert counter_of({"pk": {"S": partition}, "sk": {"S": "api_calls#9"}}) == COUNTER


def test_nothing_is_asked_after_the_deadline(counters: Counters, dynamodb: "DynamoDBClient", clock: Clock) -> None:
    hold(dynamodb, 0, 1)
    asked = answer_with(dynamodb, "Query", [])
    late = budget(clock)
    clock.pass_by(seconds=11)
    with pytest.raises(Unavailable):
        counters.shard_busy(COUNTER, 0, late, throttled=False)
    assert asked == []


def test_no_page_is_announced_after_the_deadline(counters: Counters, dynamodb: "DynamoDBClient", clock: Clock) -> None:
    hold(dynamodb, 0, 1)
    announcements = answer_with(dynamodb, "UpdateItem", [failed("ThrottlingException")] * 1000)
    for _ in range(10):
        counters.shard_busy(COUNTER, shard_of(counters), budget(clock), throttled=True)
    before = len(announcements)
    assert before > 0
    # The next report first reads whether another environment has announced a page, which may take long.
    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb.Query", lambda **_: clock.pass_by(seconds=11))
    with pytest.raises(Unavailable):
        counters.shard_busy(COUNTER, shard_of(counters), budget(clock), throttled=True)
    assert len(announcements) == before


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.fixture
def paged(dynamodb: "DynamoDBClient") -> int:
    """Store a counter on three pages.

    Returns: its total.
    """
    totals = {0: 1, 7: 20, 8: 300, 15: 4000, 16: 50000, 23: 600000}
    for shard, total in totals.items():
        hold(dynamodb, shard, total)
    counter_pages.announce(dynamodb, "usage", COUNTER, 3)
    return sum(totals.values())


def test_every_reader_sums_every_page(paged: int, dynamodb: "DynamoDBClient", clock: Clock, counters: Counters) -> None:
    assert counters.total(COUNTER, budget(clock)) == paged
    for limit, reason in ((paged, "limit_reached"), (paged + 1, "limit_available")):
        put_on_plan(
            dynamodb, "usage", Organization("demo-org"), Plan("pro", "Pro", {"api_calls": Entitlement(limit=limit)})
        )
        ask = QueryFunction(dynamodb, clock)
        summary = ask(query_request(USAGE_SUMMARY)).body["usage"]
        assert [(each["feature"], each["used"]) for each in summary] == [("api_calls", paged)]
        assert ask(query_request(FEATURE_CHECK, feature="api_calls")).body["reason"] == reason


def test_a_total_of_one_page_is_one_read(function: RecordFunction) -> None:
    asked = answer_with(function.client, "Query", [])
    totals = [
        function(record_request(example(idempotencyKey=f"k{number}"))).body["currentUsage"] for number in range(9)
    ]
    assert totals == list(range(1, 10))
    assert len(asked) == 9


def test_a_total_of_several_pages_is_read_once_a_second_and_updated_locally(
    paged: int, function: RecordFunction, clock: Clock
) -> None:
    asked = answer_with(function.client, "Query", [])
    totals = [
        function(record_request(example(idempotencyKey=f"k{number}"))).body["currentUsage"] for number in range(9)
    ]
    assert totals == [paged + number for number in range(1, 10)]
    assert len(asked) == 3
    RecordFunction(function.client, clock)(record_request(example(idempotencyKey="elsewhere")))
    asked.clear()
    reply = function(batch_request([example(idempotencyKey="b1"), example(idempotencyKey="b2")]))
    assert reply.body["results"][0]["currentUsage"] == paged + 11
    assert asked == []
    clock.pass_by(seconds=1.5)
    assert function(record_request(example(idempotencyKey="c"))).body["currentUsage"] == paged + 13
    assert len(asked) == 3


def test_a_totals_age_counts_from_the_start_of_its_read(paged: int, function: RecordFunction, clock: Clock) -> None:
    events: Any = function.client.meta.events
    events.register("before-call.dynamodb.Query", lambda **_: clock.pass_by(seconds=0.6))
    assert function(record_request(example(idempotencyKey="first"))).body["currentUsage"] == paged + 1
    RecordFunction(function.client, clock)(record_request(example(idempotencyKey="elsewhere")))
    # Three pages take 0.6 s each. Another execution environment can add usage after each page is read.
    assert function(record_request(example(idempotencyKey="second"))).body["currentUsage"] == paged + 3


def test_a_total_of_several_pages_gets_old_while_the_environment_is_frozen(
    paged: int, function: RecordFunction, clock: Clock
) -> None:
    assert function(record_request(example(idempotencyKey="first"))).body["currentUsage"] == paged + 1
    RecordFunction(function.client, clock)(record_request(example(idempotencyKey="elsewhere", quantity=70)))
    clock.freeze(hours=1)
    assert function(record_request(example(idempotencyKey="second"))).body["currentUsage"] == paged + 72


def test_a_total_of_several_pages_is_as_old_as_the_question(
    paged: int, counters: Counters, dynamodb: "DynamoDBClient", clock: Clock
) -> None:
    events: Any = dynamodb.meta.events
    # No total of several pages is cached for longer than this.
    events.register("after-call.dynamodb.Query", lambda **_: clock.pass_by(seconds=1.5))
    assert counters.total(COUNTER, budget(clock)) == paged
    hold(dynamodb, 1, 70)
    assert counters.total(COUNTER, budget(clock)) == paged + 70


def test_a_total_of_several_pages_is_not_kept_when_the_wall_clock_is_set_back(
    paged: int, function: RecordFunction, clock: Clock
) -> None:
    function(record_request(example(idempotencyKey="first")))
    RecordFunction(function.client, clock)(record_request(example(idempotencyKey="elsewhere", quantity=70)))
    clock.set_back(seconds=1)
    assert function(record_request(example(idempotencyKey="second"))).body["currentUsage"] == paged + 72


def test_a_found_commit_of_the_batch_is_in_the_remembered_total(paged: int, function: RecordFunction) -> None:
    function(record_request(example(idempotencyKey="first")))
    lose_answers(function.client, "TransactWriteItems", times=1)
    results = function(batch_request([example(idempotencyKey=key, quantity=5) for key in "ab"])).body["results"]
    assert [result["currentUsage"] for result in results] == [paged + 11] * 2


def test_a_replay_among_new_records_of_a_batch_is_in_their_total(paged: int, function: RecordFunction) -> None:
    function(record_request(example(idempotencyKey="first")))
    other = RecordFunction(function.client, function.clock)
    other(record_request(example(idempotencyKey="elsewhere", quantity=7)))
    batch = [example(idempotencyKey="elsewhere", quantity=7), example(idempotencyKey="new")]
    results = function(batch_request(batch)).body["results"]
    assert [result["currentUsage"] for result in results] == [paged + 9] * 2


def test_of_very_many_counters_not_all_are_remembered(counters: Counters, dynamodb: "DynamoDBClient") -> None:
    hold(dynamodb, 0, 1)
    shard_busy(counters, until=2)
    for number in range(10_000):
        counters.increment_committed(COUNTER._replace(organization=f"another-{number}"), 0, 1)
    assert {shard_of(counters) for _ in range(50)} == {0}


def test_a_replay_is_in_its_own_total(paged: int, function: RecordFunction, clock: Clock) -> None:
    function(record_request(example(idempotencyKey="here")))
    RecordFunction(function.client, clock)(record_request(example(idempotencyKey="elsewhere", quantity=7)))
    replay = function(record_request(example(idempotencyKey="elsewhere", quantity=7)))
    assert replay.body["currentUsage"] == paged + 8
    RecordFunction(function.client, clock)(record_request(example(idempotencyKey="again-elsewhere", quantity=9)))
    results = function(batch_request([example(idempotencyKey="again-elsewhere", quantity=9)])).body["results"]
    assert results[0]["currentUsage"] == paged + 17


def test_a_page_that_cannot_be_read_is_asked_again(
    paged: int, counters: Counters, dynamodb: "DynamoDBClient", clock: Clock
) -> None:
    answer_with(dynamodb, "Query", [None, failed("ThrottlingException"), None, failed("ThrottlingException")])
    assert counters.total(COUNTER, budget(clock)) == paged


def test_a_question_about_many_pages_does_not_outlast_its_invocation(dynamodb: "DynamoDBClient", clock: Clock) -> None:
    hold(dynamodb, 0, 1)
    counter_pages.announce(dynamodb, "usage", COUNTER, MAX_PAGES)
    plan = Plan("pro", "Pro", {"api_calls": Entitlement(limit=10)})
    put_on_plan(dynamodb, "usage", Organization("demo-org"), plan)
    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb.Query", lambda **_: clock.pass_by(seconds=0.5))
    for asked in (query_request(FEATURE_CHECK, feature="api_calls"), query_request(USAGE_SUMMARY)):
        began_s = clock.monotonic()
        assert_problem(QueryFunction(dynamodb, clock)(asked, 503), 503, "SERVICE_UNAVAILABLE", "dependency")
        assert clock.monotonic() - began_s < 15


def test_a_total_with_an_unread_page_is_not_returned(paged: int, function: RecordFunction) -> None:
    answer_with(function.client, "Query", [None, None, *[failed("ThrottlingException")] * 1000])
    assert paged
    assert_problem(function(record_request(example()), 503), 503, "SERVICE_UNAVAILABLE", "dependency")


def test_the_announcement_is_no_usage(function: RecordFunction) -> None:
    function(record_request(example(quantity=5)))
    counter_pages.announce(function.client, "usage", COUNTER, 2)
    assert len(items(function.client, "usage", "counter#")) == 2
    assert function(record_request(example(idempotencyKey="b"))).body["currentUsage"] == 6
