"""Recording returns soft limits in its answers and enforces hard limits."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.storage.plan_items import plan_item

from tests.testing.contention import answer_with, cancelled, failed
from tests.testing.payloads import batch_request, example, record_request
from tests.testing.problems import assert_problem
from tests.testing.service import Clock, RecordFunction, Reply
from tests.testing.table import counted, items, put_on_plan, put_organization, records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SOFT = Entitlement(limit=10)
HARD = Entitlement(limit=10, hard=True)


def _plan(feature: Entitlement, name: str = "pro") -> Plan:
    return Plan(name, name.title(), {"api_calls": feature})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def function(dynamodb: "DynamoDBClient", clock: Clock) -> RecordFunction:
    return RecordFunction(dynamodb, clock)


def _set(function: RecordFunction, feature: Entitlement) -> None:
    """Put `demo-org` on a plan with this entitlement, and let the cached one expire."""
    put_on_plan(function.client, function.table, Organization("demo-org"), _plan(feature))
    function.clock.pass_by(seconds=61)


def _record(function: RecordFunction, quantity: int, key: str, status: int = 200) -> Reply:
    return function(record_request(example(quantity=quantity, idempotencyKey=key)), status)


def test_an_answer_without_a_limit_names_none(function: RecordFunction) -> None:
    _set(function, Entitlement(limit=None))
    assert _record(function, 1, "a").body == {"recorded": True, "currentUsage": 1, "limitReached": False}


def test_a_soft_limit_is_returned_and_refuses_nothing(function: RecordFunction) -> None:
    _set(function, SOFT)
    answers = [_record(function, quantity, f"k{quantity}").body for quantity in (9, 1, 5)]
    assert [(answer["recorded"], answer["currentUsage"], answer["limitReached"]) for answer in answers] == [
        (True, 9, False),
        (True, 10, True),
        (True, 15, True),
    ]
    assert {answer["limit"] for answer in answers} == {10}


def test_a_hard_limit_is_reached_and_never_exceeded(function: RecordFunction) -> None:
    _set(function, HARD)
    assert _record(function, 9, "a").body == {"recorded": True, "currentUsage": 9, "limitReached": False, "limit": 10}
    refused = _record(function, 2, "b")
    assert refused.body == {"recorded": False, "currentUsage": 9, "limitReached": True, "limit": 10}
    assert _record(function, 1, "c").body == {"recorded": True, "currentUsage": 10, "limitReached": True, "limit": 10}
    assert counted(function.client, "usage", "demo-org") == (10, 2)
    assert len(records(function.client, "usage", "demo-org")) == 2


def test_the_first_usage_may_fill_a_hard_limit_and_not_exceed_it(function: RecordFunction) -> None:
    _set(function, HARD)
    assert _record(function, 11, "a").body["recorded"] is False
    assert _record(function, 10, "a").body["recorded"] is True


def test_a_hard_limit_of_zero_refuses_everything(function: RecordFunction) -> None:
    _set(function, replace(HARD, limit=0))
    for key in ("a", "b"):
        refused = _record(function, 1, key).body
        assert refused == {"recorded": False, "currentUsage": 0, "limitReached": True, "limit": 0}
    assert counted(function.client, "usage", "demo-org") == (0, 0)


def test_a_quantity_above_the_hard_limit_is_refused_without_a_write(function: RecordFunction) -> None:
    _set(function, HARD)
    writes = answer_with(function.client, "TransactWriteItems", [])
    refused = _record(function, 11, "a").body
    assert refused == {"recorded": False, "currentUsage": 0, "limitReached": True, "limit": 10}
    assert writes == []


def test_refused_usage_may_be_sent_again_with_the_same_key(function: RecordFunction) -> None:
    _set(function, HARD)
    _record(function, 9, "a")
    assert _record(function, 2, "b").body["recorded"] is False
    _set(function, replace(HARD, limit=11))
    again = _record(function, 2, "b")
    assert again.body == {"recorded": True, "currentUsage": 11, "limitReached": True, "limit": 11}
    assert "Idempotent-Replayed" not in again.headers


@pytest.mark.parametrize("limit", [10, 5, 0])
def test_counted_usage_is_acknowledged_under_any_later_limit(function: RecordFunction, limit: int) -> None:
    _set(function, HARD)
    _record(function, 10, "a")
    _set(function, replace(HARD, limit=limit))
    replay = _record(function, 10, "a")
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert replay.body == {"recorded": True, "currentUsage": 10, "limitReached": True, "limit": limit}


def test_other_content_under_a_used_key_is_a_conflict_even_beyond_the_limit(function: RecordFunction) -> None:
    _set(function, HARD)
    _record(function, 10, "a")
    for quantity in (9, 11):
        assert _record(function, quantity, "a", 422).body["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_a_limit_is_known_within_a_minute(function: RecordFunction) -> None:
    _set(function, HARD)
    _record(function, 1, "a")
    plan = _plan(replace(HARD, limit=2))
    put_on_plan(function.client, "usage", Organization("demo-org"), plan)
    function.clock.pass_by(seconds=59)
    assert _record(function, 1, "b").body["limit"] == 10
    function.clock.pass_by(seconds=2)
    assert _record(function, 1, "c").body == {"recorded": False, "currentUsage": 2, "limitReached": True, "limit": 2}


def test_a_limit_is_known_within_a_minute_also_to_an_environment_that_was_frozen(function: RecordFunction) -> None:
    _set(function, replace(HARD, limit=1000))
    assert _record(function, 1, "a").body["limit"] == 1000
    put_on_plan(function.client, "usage", Organization("demo-org"), _plan(replace(HARD, limit=100)))
    function.clock.freeze(hours=5)
    refused = _record(function, 1000, "b").body
    assert refused == {"recorded": False, "currentUsage": 1, "limitReached": True, "limit": 100}


def test_an_inactive_organization_is_known_to_an_environment_that_was_frozen(function: RecordFunction) -> None:
    _record(function, 1, "a")
    put_organization(function.client, "usage", "demo-org", "inactive")
    function.clock.freeze(hours=2)
    assert_problem(_record(function, 1, "b", status=403), 403, "FORBIDDEN", "auth")


def _recorded(function: RecordFunction, quantity: int, key: str, *, in_a_batch: bool) -> dict[str, Any]:
    """The `recorded`, `currentUsage` and `limit` of the answer for one record, sent alone or in a batch."""
    usage = example(quantity=quantity, idempotencyKey=key)
    if not in_a_batch:
        body = function(record_request(usage)).body
        return {name: body.get(name) for name in ("recorded", "currentUsage", "limit")}
    other = example(feature="other", idempotencyKey=f"{key}-other")
    result = function(batch_request([other, usage])).body["results"][1]
    return {
        "recorded": result["status"] == "recorded",
        **{name: result.get(name) for name in ("currentUsage", "limit")},
    }


@pytest.mark.parametrize("in_a_batch", [False, True])
@pytest.mark.parametrize("before", [SOFT, Entitlement(limit=None), None])
def test_a_hard_limit_is_not_lifted_by_cached_terms(
    dynamodb: "DynamoDBClient", clock: Clock, before: Entitlement | None, in_a_batch: bool
) -> None:
    first, second = RecordFunction(dynamodb, clock), RecordFunction(dynamodb, clock)
    features = {"other": Entitlement(limit=None)} | ({} if before is None else {"api_calls": before})
    put_on_plan(dynamodb, "usage", Organization("demo-org"), Plan("pro", "Pro", features))
    # The second environment has cached the plan, and the counter does not exist yet.
    second(record_request(example(feature="other", idempotencyKey="other")))
    hard = {**features, "api_calls": replace(HARD, limit=100)}
    put_on_plan(dynamodb, "usage", Organization("demo-org"), Plan("pro", "Pro", hard))
    assert _recorded(first, 1, "a", in_a_batch=in_a_batch) == {"recorded": True, "currentUsage": 1, "limit": 100}
    clock.pass_by(seconds=30)
    assert _recorded(second, 1, "b", in_a_batch=in_a_batch) == {"recorded": True, "currentUsage": 2, "limit": 100}
    assert _recorded(second, 99, "c", in_a_batch=in_a_batch) == {"recorded": False, "currentUsage": 2, "limit": 100}
    clock.pass_by(days=5)
    for function in (first, second):
        assert _recorded(function, 1000, "d", in_a_batch=in_a_batch)["recorded"] is False


@pytest.mark.parametrize("in_a_batch", [False, True])
def test_a_removed_hard_limit_ends_with_the_next_usage_and_the_counter_may_spread(
    function: RecordFunction, in_a_batch: bool
) -> None:
    _set(function, HARD)
    _record(function, 10, "a")
    late = RecordFunction(function.client, function.clock)
    _set(function, SOFT)
    reads = answer_with(function.client, "TransactGetItems", [])
    assert _recorded(function, 5, "b", in_a_batch=in_a_batch) == {"recorded": True, "currentUsage": 15, "limit": 10}
    # Organization and plan are read before the first try, and again because of the counter's hard limit.
    assert len(reads) == 2
    (counter,) = (item for item in items(function.client, "usage", "counter#demo-org#") if "api" in item["sk"]["S"])
    assert "hard" not in counter
    # A hard limit relies on the first shard alone. This one ended before any addition to another shard.
    _set(function, HARD)
    assert _recorded(late, 5, "c", in_a_batch=in_a_batch) == {"recorded": True, "currentUsage": 20, "limit": 10}


@pytest.mark.parametrize("in_a_batch", [False, True])
def test_a_hard_limit_is_not_lifted_by_terms_of_two_moments(
    dynamodb: "DynamoDBClient", clock: Clock, in_a_batch: bool
) -> None:
    first, second = RecordFunction(dynamodb, clock), RecordFunction(dynamodb, clock)
    put_on_plan(dynamodb, "usage", Organization("demo-org"), _plan(SOFT, "a"))
    second(record_request(example(feature="other", idempotencyKey="other")))
    put_on_plan(dynamodb, "usage", Organization("demo-org"), _plan(HARD, "a"))
    _record(first, 9, "a")
    clock.pass_by(seconds=30)
    # The organization moves from plan a to plan b, and it is under a hard limit at every moment.
    moves = iter([("b", HARD)])

    def move(params: Any, **_: Any) -> None:
        if "plan#a" in str(params["body"]):
            for name, feature in moves:
                put_on_plan(dynamodb, "usage", Organization("demo-org"), _plan(feature, name))
                dynamodb.put_item(TableName="usage", Item=plan_item(_plan(SOFT, "a")))

    events: Any = dynamodb.meta.events
    for operation in ("GetItem", "TransactGetItems"):
        events.register(f"before-call.dynamodb.{operation}", move)
    assert _recorded(second, 1, "b", in_a_batch=in_a_batch) == {"recorded": True, "currentUsage": 10, "limit": 10}
    assert next(moves, None) is None
    assert _recorded(first, 1, "c", in_a_batch=in_a_batch)["recorded"] is False


@pytest.mark.parametrize("in_a_batch", [False, True])
def test_all_terms_are_read_again_at_a_hard_limit(function: RecordFunction, in_a_batch: bool) -> None:
    first = RecordFunction(function.client, function.clock)
    function(record_request(example(feature="other", idempotencyKey="other")))
    put_on_plan(function.client, "usage", Organization("demo-org"), _plan(HARD))
    _record(first, 1, "a")
    put_organization(function.client, "usage", "demo-org", "inactive")
    if in_a_batch:
        results = function(batch_request([example(idempotencyKey="b"), example(idempotencyKey="a")])).body["results"]
        assert [result["status"] for result in results] == ["invalid", "replayed"]
        assert results[0]["problem"]["code"] == "FORBIDDEN"
    else:
        assert_problem(_record(function, 1, "b", status=403), 403, "FORBIDDEN", "auth")
        assert _record(function, 1, "a").headers["Idempotent-Replayed"] == "true"
    assert counted(function.client, "usage", "demo-org") == (2, 2)


@pytest.mark.parametrize("quantity", [2, 11])
@pytest.mark.parametrize("in_a_batch", [False, True])
def test_a_stored_record_is_a_replay_also_if_its_cancellation_names_the_counter_alone(
    function: RecordFunction, in_a_batch: bool, quantity: int
) -> None:
    _set(function, replace(HARD, limit=quantity))
    _record(function, quantity, "a")
    (counter,) = items(function.client, "usage", "counter#demo-org#")
    _set(function, HARD)
    reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Item": counter}]
    answer = failed("TransactionCanceledException", CancellationReasons=reasons)
    answer_with(function.client, "TransactWriteItems", [answer])
    usage = example(quantity=quantity, idempotencyKey="a")
    if in_a_batch:
        (result,) = function(batch_request([usage])).body["results"]
        assert (result["status"], result["currentUsage"]) == ("replayed", quantity)
    else:
        replay = function(record_request(usage))
        assert (replay.body["recorded"], replay.headers["Idempotent-Replayed"]) == (True, "true")


def test_soft_turned_hard_holds_from_the_next_period_on(function: RecordFunction) -> None:
    _set(function, SOFT)
    _record(function, 9, "a")
    _set(function, HARD)
    assert _record(function, 9, "b").body["recorded"] is True
    function.clock.pass_by(days=31)
    assert _record(function, 9, "c").body["recorded"] is True
    assert _record(function, 9, "d").body["recorded"] is False


def test_soft_turned_hard_holds_in_the_next_period_despite_cached_soft_terms(
    dynamodb: "DynamoDBClient",
) -> None:
    clock = Clock(at=datetime(2026, 11, 30, 23, 59, 20, tzinfo=UTC))
    function = RecordFunction(dynamodb, clock)
    put_on_plan(dynamodb, "usage", Organization("demo-org"), _plan(SOFT))
    _record(function, 1, "a")
    clock.pass_by(seconds=10)
    put_on_plan(dynamodb, "usage", Organization("demo-org"), _plan(HARD))
    assert _record(function, 20, "b").body["recorded"] is True
    clock.pass_by(seconds=40)
    assert [_record(function, 9, key).body["recorded"] for key in ("c", "d")] == [True, False]
    assert _record(RecordFunction(dynamodb, clock), 9, "e").body["recorded"] is False


def test_usage_recorded_before_its_hard_limit_is_known_makes_the_period_soft(function: RecordFunction) -> None:
    function(record_request(example(feature="other", quantity=1, idempotencyKey="a")))
    put_on_plan(function.client, "usage", Organization("demo-org"), _plan(HARD))
    function.clock.pass_by(seconds=30)
    assert _record(function, 11, "b").body["recorded"] is True
    function.clock.pass_by(hours=1)
    assert _record(function, 11, "c").body == {"recorded": True, "currentUsage": 22, "limitReached": True, "limit": 10}


def test_soft_turned_hard_refuses_nothing_in_its_period_however_large(function: RecordFunction) -> None:
    _set(function, SOFT)
    _record(function, 9, "a")
    _set(function, HARD)
    assert _record(function, 11, "b").body == {"recorded": True, "currentUsage": 20, "limitReached": True, "limit": 10}
    function.clock.pass_by(days=31)
    assert _record(function, 11, "c").body["recorded"] is False


def test_a_counter_that_is_known_to_be_soft_is_not_read_for_a_hard_limit(function: RecordFunction) -> None:
    _set(function, Entitlement())
    _record(function, 1, "a")
    _set(function, HARD)
    queries = answer_with(function.client, "Query", [])
    assert _record(function, 11, "b").body["currentUsage"] == 12
    assert len(queries) == 1


def test_soft_turned_hard_is_soft_until_the_period_ends_also_after_usage_that_would_fit(
    function: RecordFunction,
) -> None:
    _set(function, SOFT)
    _record(function, 5, "a")
    _set(function, HARD)
    # The second would not fit. A hard limit checks only the first shard, and other shards may hold more.
    assert [_record(function, 4, key).body["recorded"] for key in ("b", "c")] == [True, True]


def test_hard_turned_soft_and_hard_again_is_soft_until_the_period_ends(function: RecordFunction) -> None:
    _set(function, HARD)
    _record(function, 9, "a")
    _set(function, SOFT)
    assert _record(function, 9, "b").body["recorded"] is True
    _set(function, replace(HARD, limit=20))
    assert _record(function, 9, "c").body == {"recorded": True, "currentUsage": 27, "limitReached": True, "limit": 20}


def test_a_counter_under_a_hard_limit_stays_in_its_first_shard(function: RecordFunction) -> None:
    _set(function, HARD)
    conflict = cancelled(["None", "TransactionConflict"])
    for key in ("a", "b"):
        answer_with(function.client, "TransactWriteItems", [conflict] * 3)
        _record(function, 1, key)
    # Until its own addition, an execution environment that does not know the limit also stays in the first shard.
    late = RecordFunction(function.client, function.clock)
    put_on_plan(function.client, "usage", Organization("demo-org"), _plan(SOFT))
    answer_with(function.client, "TransactWriteItems", [conflict] * 3)
    _record(late, 1, "c")
    counters = items(function.client, "usage", "counter#demo-org#")
    assert [(counter["sk"]["S"], counter["total"]["N"]) for counter in counters] == [("api_calls#0", "3")]


def test_an_organizations_own_limit_takes_the_place_of_its_plans(function: RecordFunction) -> None:
    own = Organization("demo-org", limits={"api_calls": 3, "storage_gb": 7})
    put_on_plan(function.client, "usage", own, _plan(HARD))
    assert _record(function, 4, "a").body["recorded"] is False
    assert _record(function, 3, "a").body["limit"] == 3
    stored = function(record_request(example(feature="storage_gb", quantity=8, idempotencyKey="b"))).body
    assert stored == {"recorded": True, "currentUsage": 8, "limitReached": True, "limit": 7}


def test_an_organization_may_be_unlimited_where_its_plan_is_not(function: RecordFunction) -> None:
    put_on_plan(function.client, "usage", Organization("demo-org", limits={"api_calls": None}), _plan(HARD))
    assert _record(function, 11, "a").body == {"recorded": True, "currentUsage": 11, "limitReached": False}


def test_a_plan_that_nobody_described_limits_nothing(function: RecordFunction) -> None:
    put_on_plan(function.client, "usage", Organization("demo-org", plan="gone"), None)
    assert _record(function, 11, "a").body["recorded"] is True


@pytest.mark.parametrize("feature", [None, Entitlement(limit=None), SOFT, HARD])
def test_a_limit_costs_a_read_of_the_plan_a_minute_and_nothing_else(
    function: RecordFunction, feature: Entitlement | None
) -> None:
    if feature is not None:
        _set(function, feature)
    calls: list[str] = []
    function.client.meta.events.register("before-send.dynamodb", lambda event_name, **_: calls.append(event_name))
    _record(function, 1, "a")
    first, calls[:] = [call.rsplit(".", 1)[1] for call in calls], []
    _record(function, 1, "b")
    plan = [] if feature is None else ["TransactGetItems"]
    assert first == ["GetItem", *plan, "TransactWriteItems", "Query"]
    assert [call.rsplit(".", 1)[1] for call in calls] == ["TransactWriteItems", "Query"]


def test_unknown_features_are_recorded_unless_the_environment_rejects_them(function: RecordFunction) -> None:
    _set(function, SOFT)
    function(record_request(example(feature="api_cals")))


def test_an_unknown_feature_is_invalid_and_the_nearest_known_one_is_named(dynamodb: "DynamoDBClient") -> None:
    function = RecordFunction(dynamodb, reject_unknown_features=True)
    put_on_plan(dynamodb, "usage", Organization("demo-org", limits={"own": 1}), _plan(SOFT))
    put_on_plan(dynamodb, "usage", Organization("acme"), Plan("other", "Other", {"storage_gb": SOFT}))
    refused = function(record_request(example(feature="api_cals")), 422)
    assert refused.body["code"] == "VALIDATION_FAILED"
    (issue,) = refused.body["issues"]
    assert (issue["path"], issue["code"]) == ("feature", "feature_unknown")
    assert "did you mean api_calls?" in issue["message"]
    assert records(dynamodb, "usage", "demo-org") == []
    # The features of the organization, of its plan and of another plan are known.
    for feature in ("own", "api_calls", "storage_gb"):
        function(record_request(example(feature=feature, idempotencyKey=feature)))


def test_without_any_plan_no_feature_is_suggested(dynamodb: "DynamoDBClient") -> None:
    refused = RecordFunction(dynamodb, reject_unknown_features=True)(record_request(example()), 422)
    assert refused.body["issues"][0]["message"] == "No plan has the feature api_calls."


def test_counted_usage_is_acknowledged_even_after_its_feature_was_removed(dynamodb: "DynamoDBClient") -> None:
    RecordFunction(dynamodb)(record_request(example()))
    replay = RecordFunction(dynamodb, reject_unknown_features=True)(record_request(example()))
    assert replay.headers["Idempotent-Replayed"] == "true"
