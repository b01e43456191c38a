"""What limits do to recording: soft ones are told, hard ones hold."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from metering.plans import Feature, Organization, Plan

from tests.contention import answer_with, cancelled
from tests.payloads import example, record_request
from tests.service import Clock, RecordFunction, Reply
from tests.table import counted, items, put_on_plan, records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SOFT = Feature(limit=10)
HARD = Feature(limit=10, hard=True)


def _plan(feature: Feature, name: str = "pro") -> Plan:
    return Plan(name, name.title(), {"api_calls": feature})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def function(dynamodb: "DynamoDBClient", clock: Clock) -> RecordFunction:
    return RecordFunction(dynamodb, clock)


def _set(function: RecordFunction, feature: Feature) -> None:
    """From now on `demo-org` has this feature, and whoever remembers another has forgotten it."""
    put_on_plan(function.client, function.table, Organization("demo-org"), _plan(feature))
    function.clock.pass_by(seconds=61)


def _record(function: RecordFunction, quantity: int, key: str, status: int = 200) -> Reply:
    return function(record_request(example(quantity=quantity, idempotencyKey=key)), status)


def test_without_a_limit_none_is_told(function: RecordFunction) -> None:
    _set(function, Feature(limit=None))
    assert _record(function, 1, "a").body == {"recorded": True, "currentUsage": 1, "limitReached": False}


def test_a_soft_limit_is_told_and_refuses_nothing(function: RecordFunction) -> None:
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


def test_a_hard_limit_of_nothing_refuses_everything(function: RecordFunction) -> None:
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


def test_what_a_hard_limit_refused_may_be_sent_again_with_the_same_key(function: RecordFunction) -> None:
    _set(function, HARD)
    _record(function, 9, "a")
    assert _record(function, 2, "b").body["recorded"] is False
    _set(function, replace(HARD, limit=11))
    again = _record(function, 2, "b")
    assert again.body == {"recorded": True, "currentUsage": 11, "limitReached": True, "limit": 11}
    assert "Idempotent-Replayed" not in again.headers


@pytest.mark.parametrize("limit", [10, 5, 0])
def test_what_was_counted_is_acknowledged_whatever_the_limit_is_now(function: RecordFunction, limit: int) -> None:
    _set(function, HARD)
    _record(function, 10, "a")
    _set(function, replace(HARD, limit=limit))
    replay = _record(function, 10, "a")
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert replay.body == {"recorded": True, "currentUsage": 10, "limitReached": True, "limit": limit}


def test_another_content_under_a_used_key_is_told_also_when_it_does_not_fit(function: RecordFunction) -> None:
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


def test_soft_turned_hard_holds_from_the_next_period_on(function: RecordFunction) -> None:
    _set(function, SOFT)
    _record(function, 9, "a")
    _set(function, HARD)
    assert _record(function, 9, "b").body["recorded"] is True
    function.clock.pass_by(days=31)
    assert _record(function, 9, "c").body["recorded"] is True
    assert _record(function, 9, "d").body["recorded"] is False


def test_soft_turned_hard_holds_in_the_next_period_also_for_whoever_still_remembered_it_soft(
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


def test_usage_that_comes_before_its_hard_limit_is_known_makes_the_period_a_soft_one(function: RecordFunction) -> None:
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


def test_soft_turned_hard_is_soft_until_the_period_ends_also_after_usage_that_would_fit(
    function: RecordFunction,
) -> None:
    _set(function, SOFT)
    _record(function, 5, "a")
    _set(function, HARD)
    # The second would not: other shards may hold more than the first one, which is all that a hard limit asks.
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
    # Also for an environment that has not heard of the limit yet, until it has added to the first shard itself.
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


@pytest.mark.parametrize("feature", [None, Feature(limit=None), SOFT, HARD])
def test_a_limit_costs_a_read_of_the_plan_a_minute_and_nothing_else(
    function: RecordFunction, feature: Feature | None
) -> None:
    if feature is not None:
        _set(function, feature)
    calls: list[str] = []
    function.client.meta.events.register("before-send.dynamodb", lambda event_name, **_: calls.append(event_name))
    _record(function, 1, "a")
    first, calls[:] = [call.rsplit(".", 1)[1] for call in calls], []
    _record(function, 1, "b")
    assert first == ["GetItem"] * (1 if feature is None else 2) + ["TransactWriteItems", "Query"]
    assert [call.rsplit(".", 1)[1] for call in calls] == ["TransactWriteItems", "Query"]


def test_unknown_features_are_recorded_unless_the_environment_refuses_them(function: RecordFunction) -> None:
    _set(function, SOFT)
    function(record_request(example(feature="api_cals")))


def test_an_unknown_feature_is_refused_and_the_nearest_known_one_named(dynamodb: "DynamoDBClient") -> None:
    function = RecordFunction(dynamodb, reject_unknown_features=True)
    put_on_plan(dynamodb, "usage", Organization("demo-org", limits={"own": 1}), _plan(SOFT))
    put_on_plan(dynamodb, "usage", Organization("acme"), Plan("other", "Other", {"storage_gb": SOFT}))
    refused = function(record_request(example(feature="api_cals")), 422)
    assert refused.body["code"] == "VALIDATION_FAILED"
    (issue,) = refused.body["issues"]
    assert (issue["path"], issue["code"]) == ("feature", "feature_unknown")
    assert "did you mean api_calls?" in issue["message"]
    assert records(dynamodb, "usage", "demo-org") == []
    # Its own, its plan's, and another plan's are known.
    for feature in ("own", "api_calls", "storage_gb"):
        function(record_request(example(feature=feature, idempotencyKey=feature)))


def test_without_any_plan_no_feature_is_named(dynamodb: "DynamoDBClient") -> None:
    refused = RecordFunction(dynamodb, reject_unknown_features=True)(record_request(example()), 422)
    assert refused.body["issues"][0]["message"] == "There is no feature api_calls in any plan."


def test_what_was_counted_is_acknowledged_also_when_its_feature_is_no_longer_known(dynamodb: "DynamoDBClient") -> None:
    RecordFunction(dynamodb)(record_request(example()))
    replay = RecordFunction(dynamodb, reject_unknown_features=True)(record_request(example()))
    assert replay.headers["Idempotent-Replayed"] == "true"
