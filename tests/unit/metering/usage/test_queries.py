"""The answers to queries, which agree with the answers to recording."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from metering.http.operations import FEATURE_CHECK, SUBSCRIPTION_GET, USAGE_GET, USAGE_SUMMARY
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.model.usage import CounterId
from metering.storage.counter_items import counter_key
from metering.storage.counter_pages import announce
from metering.storage.organization_items import organization_item

from tests.testing.contention import answer_with, show_late
from tests.testing.payloads import example, payload, query_request, record_request
from tests.testing.problems import assert_problem
from tests.testing.service import NOW, QueryFunction, RecordFunction
from tests.testing.subscribed import FEATURES, PRO, SUBSCRIBED
from tests.testing.table import put_on_plan, put_organization, records

NOVEMBER = {
    "billingPeriod": "2026-11",
    "periodStart": "2026-11-01T00:00:00.000Z",
    "periodEnd": "2026-12-01T00:00:00.000Z",
}


def _put(function: RecordFunction, organization: Organization, plan: Plan | None = PRO) -> None:
    put_on_plan(function.client, function.table, organization, plan)


def _use(function: RecordFunction, quantity: int, feature: str = "api_calls", **changes: Any) -> Any:
    key = changes.pop("key", f"{feature}-{quantity}-{function.clock.at.isoformat()}")
    reply = function(record_request(example(feature=feature, quantity=quantity, idempotencyKey=key, **changes)))
    assert reply.status == 200
    return reply.body


# --- summary ---------------------------------------------------------------------------------------------------------


def test_a_summary_has_every_feature_with_usage_or_a_limit_by_name(
    function: RecordFunction, ask: QueryFunction
) -> None:
    _put(function, replace(SUBSCRIBED, limits={"seats": 4, "support": 2}))
    for quantity, feature in ((1, "api_calls"), (4, "api_calls"), (2, "webhooks"), (7, "exports"), (1, "API_calls")):
        _use(function, quantity, feature)
    reply = ask(query_request(USAGE_SUMMARY))
    assert reply.headers == {"Content-Type": "application/json"}
    assert reply.body == {
        **NOVEMBER,
        "usage": [
            {"feature": "API_calls", "used": 1},
            {"feature": "api_calls", "used": 5, "limit": 10, "percentage": 50.0, "unit": "calls"},
            {"feature": "exports", "used": 7, "unit": "files"},
            {"feature": "seats", "used": 0, "limit": 4, "percentage": 0.0},
            {"feature": "storage_gb", "used": 0, "limit": 0, "percentage": 100.0},
            {"feature": "support", "used": 0, "limit": 2, "percentage": 0.0},
            {"feature": "webhooks", "used": 2},
        ],
    }


@pytest.mark.parametrize(
    ("used", "limit", "percentage"),
    [
        (1, 3, 33.3),
        (2, 3, 66.7),
        (1999, 2000, 99.9),  # 99.95
        (99_999, 100_000, 99.9),
        (3, 3, 100.0),
        (2001, 2000, 100.0),  # 100.05, which a binary fraction cannot hold
        (35, 10, 350.0),
        (1, 100_000, 0.0),
        (7, 0, 100.0),
        (10**9, 2**53 - 1, 0.0),
    ],
)
def test_a_percentage_has_one_decimal_and_is_100_only_where_the_limit_is_reached(
    function: RecordFunction, ask: QueryFunction, used: int, limit: int, percentage: float
) -> None:
    _put(function, SUBSCRIBED, Plan("pro", "Pro", {"api_calls": Entitlement(limit=limit)}))
    _use(function, used)
    (usage,) = ask(query_request(USAGE_SUMMARY)).body["usage"]
    assert usage["percentage"] == percentage


def test_a_summary_is_the_sum_of_all_shards_over_all_pages(function: RecordFunction, ask: QueryFunction) -> None:
    for number in range(30):
        for shard in range(3):
            key = {"pk": {"S": "counter#demo-org#2026-11"}, "sk": {"S": f"f{number:02}#{shard}"}}
            function.client.put_item(TableName="usage", Item={**key, "total": {"N": str(10**shard)}})

    def in_pages_of_seven(params: Any, **_: Any) -> None:
        params["Limit"] = 7

    events: Any = function.client.meta.events
    events.register("provide-client-params.dynamodb.Query", in_pages_of_seven)
    queries = answer_with(function.client, "Query", [])
    usage = ask(query_request(USAGE_SUMMARY)).body["usage"]
    assert usage == [{"feature": f"f{number:02}", "used": 111} for number in range(30)]
    assert len(queries) == 13
    assert all(query["ConsistentRead"] for query in queries)


@pytest.mark.parametrize("name", ["billingPeriod", "period"])
def test_a_past_period_is_answered_by_either_name(function: RecordFunction, ask: QueryFunction, name: str) -> None:
    _use(function, 5)
    function.clock.pass_by(days=8)
    _use(function, 7)
    november = ask(query_request(USAGE_SUMMARY, {name: "2026-11"})).body
    assert november == {**NOVEMBER, "usage": [{"feature": "api_calls", "used": 5}]}
    for parameters in ({}, {name: "current"}, {name: "2026-12"}, {"billingPeriod": "current", "period": "current"}):
        present = ask(query_request(USAGE_SUMMARY, parameters)).body
        assert (present["billingPeriod"], present["usage"]) == ("2026-12", [{"feature": "api_calls", "used": 7}])
    past = ask(query_request(USAGE_SUMMARY, {name: "2024-01"})).body
    assert (past["billingPeriod"], past["usage"]) == ("2024-01", [])


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("2026-11", "2026-11-01T00:00:00.000Z", "2026-12-01T00:00:00.000Z"),
        ("2025-12", "2025-12-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z"),
        ("2024-02", "2024-02-01T00:00:00.000Z", "2024-03-01T00:00:00.000Z"),
        ("1000-01", "1000-01-01T00:00:00.000Z", "1000-02-01T00:00:00.000Z"),
    ],
)
def test_a_summary_names_the_first_moment_of_its_period_and_of_the_next(
    ask: QueryFunction, period: str, start: str, end: str
) -> None:
    body = ask(query_request(USAGE_SUMMARY, billingPeriod=period)).body
    assert body == {"billingPeriod": period, "periodStart": start, "periodEnd": end, "usage": []}


# --- summary by day --------------------------------------------------------------------------------------------------


def _by_day(ask: QueryFunction, **parameters: str) -> dict[str, tuple[int, dict[str, int]]]:
    """The total and the days of each feature."""
    usage = ask(query_request(USAGE_SUMMARY, {"by": "day", **parameters})).body["usage"]
    return {each["feature"]: (each["used"], {day["date"]: day["used"] for day in each["days"]}) for each in usage}


def test_each_day_with_usage_is_listed_in_order_and_they_add_up(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    # The first and the last moment of a day.
    function.clock.at = datetime(2026, 11, 1, tzinfo=UTC)
    _use(function, 3)
    end_of_day_9 = datetime(2026, 11, 9, 23, 59, 59, 999_999, UTC)
    for moment, quantity in ((end_of_day_9, 2), (end_of_day_9 + timedelta(microseconds=1), 4)):
        function.clock.at = moment
        _use(function, quantity)
        _use(function, quantity, "webhooks")
    function.clock.at = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    _use(function, 1)
    reply = ask(query_request(USAGE_SUMMARY, by="day"))
    api_calls = next(each for each in reply.body["usage"] if each["feature"] == "api_calls")
    assert (api_calls["used"], api_calls["percentage"]) == (10, 100.0)
    assert api_calls["days"] == [
        {"date": "2026-11-01", "used": 3},
        {"date": "2026-11-09", "used": 2},
        {"date": "2026-11-10", "used": 4},
        {"date": "2026-11-30", "used": 1},
    ]
    found = _by_day(ask)
    assert found["webhooks"] == (6, {"2026-11-09": 2, "2026-11-10": 4})
    # A limit without usage has no days.
    assert found["seats"] == (0, {})
    function.clock.at = datetime(2026, 12, 31, tzinfo=UTC)
    _use(function, 5)
    assert _by_day(ask)["api_calls"] == (5, {"2026-12-31": 5})
    assert _by_day(ask, billingPeriod="2026-11") == found


def test_the_days_are_the_sums_of_all_shards_over_all_pages(function: RecordFunction, ask: QueryFunction) -> None:
    counter = CounterId("demo-org", "2026-11", "api_calls")
    for shard in (0, 1, 7, 8, 15, 16):
        days = {"d01": 10**shard, f"d{shard + 2:02}": 1, "d30": 0}
        item = {"total": sum(days.values()), "count": 1, **days}
        numbers = {name: {"N": str(value)} for name, value in item.items()}
        function.client.put_item(TableName="usage", Item={**counter_key(counter, shard), **numbers})
    announce(function.client, "usage", counter, 3)

    def in_pages_of_one(params: Any, **_: Any) -> None:
        if params["ExpressionAttributeValues"][":pk"]["S"] == "counter#demo-org#2026-11":
            params["Limit"] = 1

    events: Any = function.client.meta.events
    events.register("provide-client-params.dynamodb.Query", in_pages_of_one)
    queries = answer_with(function.client, "Query", [])
    used, days = _by_day(ask)["api_calls"]
    assert days == {
        "2026-11-01": 1 + 10 + 10**7 + 10**8 + 10**15 + 10**16,
        **{f"2026-11-{day:02}": 1 for day in (2, 3, 9, 10, 17, 18)},
    }
    assert used == sum(days.values())
    assert all(query["ConsistentRead"] for query in queries)
    (usage,) = ask(query_request(USAGE_SUMMARY)).body["usage"]
    assert usage == {"feature": "api_calls", "used": used}


@pytest.mark.parametrize("shard", [0, 8])
@pytest.mark.parametrize("days", [{}, {"d01": 4}, {"d01": 6}, {"d01": 5, "d31": 1}, {"d32": 5}])
def test_days_that_do_not_add_up_to_their_total_are_never_shown(
    function: RecordFunction, ask: QueryFunction, shard: int, days: dict[str, int]
) -> None:
    counter = CounterId("demo-org", "2026-11", "api_calls")
    numbers = {name: {"N": str(value)} for name, value in {"total": 5, "count": 1, **days}.items()}
    function.client.put_item(TableName="usage", Item={**counter_key(counter, shard), **numbers})
    announce(function.client, "usage", counter, 2)
    assert_problem(ask(query_request(USAGE_SUMMARY, by="day"), 500), 500, "INTERNAL_ERROR", "internal")
    assert ask(query_request(USAGE_SUMMARY)).body["usage"][0]["used"] == 5


def test_only_a_summary_by_day_reads_days(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    queries = answer_with(function.client, "Query", [])
    for read in (lambda: _use(function, 1), lambda: _checked(ask), lambda: ask(query_request(USAGE_SUMMARY))):
        read()
    assert [query["ProjectionExpression"] for query in queries] == ["sk, #total, #pages, #hard"] * 3
    _by_day(ask)
    days = ", ".join(f"d{day:02}" for day in range(1, 32))
    assert queries[-1]["ProjectionExpression"] == f"sk, #total, #pages, #hard, {days}"


@pytest.mark.parametrize("name", ["billingPeriod", "period"])
def test_a_future_period_is_an_issue(ask: QueryFunction, name: str) -> None:
    reply = ask(query_request(USAGE_SUMMARY, {name: "2026-12"}), 422)
    assert_problem(reply, 422, "VALIDATION_FAILED")
    assert [(issue["path"], issue["code"]) for issue in reply.body["issues"]] == [(name, "period_in_future")]


def test_two_periods_that_differ_are_a_bad_request(ask: QueryFunction) -> None:
    reply = ask(query_request(USAGE_SUMMARY, billingPeriod="2026-11", period="2026-10"), 400)
    assert_problem(reply, 400, "BAD_REQUEST")
    assert [(issue["path"], issue["code"]) for issue in reply.body["issues"]] == [("period", "periods_differ")]
    same = ask(query_request(USAGE_SUMMARY, billingPeriod="2026-10", period="2026-10"))
    assert same.body["billingPeriod"] == "2026-10"


# --- feature check ---------------------------------------------------------------------------------------------------


def _checked(ask: QueryFunction, feature: str = "api_calls", **more: str) -> dict[str, Any]:
    """The answer of the check, without the usage of the limit."""
    body = ask(query_request(FEATURE_CHECK, {"feature": feature, **more})).body
    return {name: value for name, value in body.items() if name in ("hasAccess", "reason", "upgradeUrl")}


def _limit_usage(ask: QueryFunction, feature: str = "api_calls", **more: str) -> dict[str, Any]:
    """The other members of the same answer."""
    body = ask(query_request(FEATURE_CHECK, {"feature": feature, **more})).body
    return {name: value for name, value in body.items() if name not in ("hasAccess", "reason", "upgradeUrl")}


@pytest.mark.parametrize("status", ["TRIALING", "ACTIVE", "PAST_DUE", None])
def test_a_feature_of_the_plan_is_accessible(function: RecordFunction, ask: QueryFunction, status: str | None) -> None:
    _put(function, replace(SUBSCRIBED, subscription_status=status))
    assert _checked(ask) == {"hasAccess": True, "reason": "limit_available"}
    assert _checked(ask, "exports") == {"hasAccess": True, "reason": "included"}


@pytest.mark.parametrize("status", ["CANCELED", "PAUSED"])
def test_without_a_running_subscription_nothing_is_accessible(
    function: RecordFunction, ask: QueryFunction, status: str
) -> None:
    _put(function, replace(SUBSCRIBED, subscription_status=status, limits={"support": None}))
    denied = {"hasAccess": False, "reason": "not_in_plan"}
    assert _checked(ask) == {**denied, "upgradeUrl": "https://example.com/upgrade"}
    assert _checked(ask, "seats") == _checked(ask, "support") == _checked(ask, "unheard_of") == denied


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_access_ends_just_where_the_total_is_at_the_limit(
    function: RecordFunction, ask: QueryFunction, hard: bool
) -> None:
    _put(function, SUBSCRIBED, Plan("pro", "Pro", {"api_calls": replace(FEATURES["api_calls"], hard=hard)}))
    for quantity in (9, 2, 1, 5):
        answer = _use(function, quantity, key=str(quantity))
        checked = _checked(ask)
        reached = answer["currentUsage"] >= 10
        assert checked["reason"] == ("limit_reached" if reached else "limit_available")
        assert checked["hasAccess"] is not reached
        assert checked.get("upgradeUrl") == ("https://example.com/upgrade" if reached else None)
    function.clock.pass_by(days=8)
    assert _checked(ask) == {"hasAccess": True, "reason": "limit_available"}


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_access_to_a_quantity_ends_just_where_it_would_exceed_the_limit(
    function: RecordFunction, ask: QueryFunction, hard: bool
) -> None:
    _put(function, SUBSCRIBED, Plan("pro", "Pro", {"api_calls": replace(FEATURES["api_calls"], hard=hard)}))
    for used in (0, 4, 5, 1):
        if used:
            _use(function, used, key=str(used))
        total = _limit_usage(ask)["used"]
        for quantity in (1, 5, 6, 9, 10, 11, 10**9):
            fits = total + quantity <= 10
            reason = "limit_available" if fits else "limit_reached"
            url = {} if fits else {"upgradeUrl": "https://example.com/upgrade"}
            assert _checked(ask, quantity=str(quantity)) == {"hasAccess": fits, "reason": reason, **url}
    # Recording refuses the same quantity under a hard limit.
    assert _use(function, 1, key="last")["recorded"] is not hard


def test_a_quantity_changes_no_answer_that_depends_on_no_limit(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    assert _checked(ask, "exports", quantity="1000000000") == {"hasAccess": True, "reason": "included"}
    assert _checked(ask, "unheard_of", quantity="1") == {"hasAccess": False, "reason": "not_in_plan"}
    _put(function, replace(SUBSCRIBED, active=False))
    ask.clock.pass_by(seconds=61)
    assert _checked(ask, "exports", quantity="1")["reason"] == "not_in_plan"


def test_a_check_of_a_limit_says_what_is_left_and_when_it_starts_again(
    function: RecordFunction, ask: QueryFunction
) -> None:
    _put(function, SUBSCRIBED)
    expected = {"used": 0, "limit": 10, "remaining": 10, "resetsAt": "2026-12-01T00:00:00.000Z"}
    assert _limit_usage(ask) == expected
    _use(function, 3)
    assert _limit_usage(ask, quantity="8") == {**expected, "used": 3, "remaining": 7}
    _use(function, 9)
    assert _limit_usage(ask) == {**expected, "used": 12, "remaining": 0}
    function.clock.at = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert _limit_usage(ask) == {**expected, "resetsAt": "2027-01-01T00:00:00.000Z"}


@pytest.mark.parametrize("change", [{"active": False}, {"subscription_status": "CANCELED"}, {"plan": None}])
def test_without_a_limit_that_decides_nothing_is_said_about_one(
    function: RecordFunction, ask: QueryFunction, change: dict[str, Any]
) -> None:
    _put(function, SUBSCRIBED)
    _use(function, 3)
    assert _limit_usage(ask, "exports") == {}
    _put(function, replace(SUBSCRIBED, **change), None if "plan" in change else PRO)
    ask.clock.pass_by(seconds=61)
    assert _limit_usage(ask) == {}


def test_a_check_counts_every_page(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    counter = CounterId("demo-org", "2026-11", "api_calls")
    for shard in (0, 8):
        function.client.put_item(TableName="usage", Item={**counter_key(counter, shard), "total": {"N": "4"}})
    announce(function.client, "usage", counter, 2)
    assert (_limit_usage(ask)["used"], _checked(ask, quantity="3")["hasAccess"]) == (8, False)


def test_a_stored_upgrade_url_is_returned_unchanged(function: RecordFunction, ask: QueryFunction) -> None:
    # A plan with this URL may be stored from a time before URLs were checked.
    features = {"api_calls": Entitlement(limit=0, upgrade_url="https://a:99999/x")}
    _put(function, Organization("demo-org"), Plan("pro", "Pro", features))
    assert _checked(ask)["upgradeUrl"] == "https://a:99999/x"


def test_refused_usage_does_not_end_access_to_smaller_quantities(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    _use(function, 2, "seats")
    answer = _use(function, 2, "seats", key="too-many")
    assert (answer["recorded"], answer["limitReached"]) == (False, True)
    assert _checked(ask, "seats") == {"hasAccess": True, "reason": "limit_available"}
    assert _use(function, 1, "seats")["recorded"] is True
    assert _checked(ask, "seats")["reason"] == "limit_reached"


def test_usage_of_one_feature_does_not_end_access_to_others(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    _use(function, 10)
    assert _checked(ask, "seats")["hasAccess"] is True
    _use(function, 3, "seats")
    assert _checked(ask, "seats")["reason"] == "limit_reached"


def test_a_limit_of_zero_is_reached_from_the_beginning(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    assert _checked(ask, "storage_gb") == {"hasAccess": False, "reason": "limit_reached"}


def test_an_unknown_feature_is_not_in_the_plan(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    _use(function, 1, "unheard_of")
    assert _checked(ask, "unheard_of") == {"hasAccess": False, "reason": "not_in_plan"}


@pytest.mark.parametrize("plan", [None, "nobody-described-it"])
def test_without_a_plan_only_features_with_an_own_limit_are_accessible(
    function: RecordFunction, ask: QueryFunction, plan: str | None
) -> None:
    _put(function, Organization("demo-org", plan=plan, limits={"seats": 3, "exports": None}), None)
    assert _checked(ask) == {"hasAccess": False, "reason": "not_in_plan"}
    assert _checked(ask, "seats") == {"hasAccess": True, "reason": "limit_available"}
    assert _checked(ask, "exports") == {"hasAccess": True, "reason": "included"}


def test_an_organizations_own_limit_is_the_one_that_is_checked(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, replace(SUBSCRIBED, limits={"api_calls": 20, "exports": 0}))
    _use(function, 10)
    assert _checked(ask)["reason"] == "limit_available"
    assert _checked(ask, "exports")["reason"] == "limit_reached"


def test_an_inactive_organization_has_access_to_nothing_and_sees_what_it_used(
    function: RecordFunction, ask: QueryFunction
) -> None:
    _use(function, 3, key="abc-123")
    _put(function, replace(SUBSCRIBED, active=False))
    assert _checked(ask, "exports")["reason"] == "not_in_plan"
    assert _checked(ask, "exports")["hasAccess"] is False
    assert ask(query_request(USAGE_SUMMARY)).body["usage"][0]["used"] == 3
    assert ask(query_request(USAGE_GET, idempotencyKey="abc-123")).body["quantity"] == 3
    assert ask(query_request(SUBSCRIPTION_GET)).body["id"] == "sub-1"


def test_a_warm_check_makes_one_call_and_none_where_there_is_no_limit(
    function: RecordFunction, ask: QueryFunction
) -> None:
    _put(function, SUBSCRIBED)
    _checked(ask)
    calls: list[str] = []
    function.client.meta.events.register("before-send.dynamodb", lambda event_name, **_: calls.append(event_name))
    _checked(ask)
    assert [call.rsplit(".", 1)[1] for call in calls] == ["Query"]
    _checked(ask, "exports")
    assert len(calls) == 1


def test_another_limit_is_known_within_a_minute(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    _use(function, 10)
    assert _checked(ask)["reason"] == "limit_reached"
    _put(function, SUBSCRIBED, replace(PRO, features={"api_calls": Entitlement(limit=11)}))
    function.clock.pass_by(seconds=61)
    assert _checked(ask) == {"hasAccess": True, "reason": "limit_available"}


# --- subscription ----------------------------------------------------------------------------------------------------


def test_a_subscription_is_returned_with_all_its_members(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, replace(SUBSCRIBED, subscription_status="TRIALING", trial_ends_at=NOW + timedelta(days=3)))
    assert ask(query_request(SUBSCRIPTION_GET)).body == {
        "id": "sub-1",
        "organizationId": "demo-org",
        "planId": "pro",
        "planName": "Professional",
        "status": "TRIALING",
        "currentPeriodStart": "2026-11-01T00:00:00.000Z",
        "currentPeriodEnd": "2026-12-01T00:00:00.000Z",
        "trialEndsAt": "2026-11-26T00:20:04.123Z",
        "cancelAtPeriodEnd": False,
    }


def test_a_subscription_without_a_trial_tells_of_none(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, replace(SUBSCRIBED, subscription_status="CANCELED", cancel_at_period_end=True))
    body = ask(query_request(SUBSCRIPTION_GET)).body
    assert "trialEndsAt" not in body
    assert (body["status"], body["cancelAtPeriodEnd"]) == ("CANCELED", True)


def test_the_organizations_own_name_of_its_plan_comes_first(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, replace(SUBSCRIBED, plan_name="Pro 2026"))
    assert ask(query_request(SUBSCRIPTION_GET)).body["planName"] == "Pro 2026"


def test_an_own_name_of_another_plan_is_ignored(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    item = organization_item(replace(SUBSCRIBED, plan="team", plan_name="Team 2026"))
    function.client.put_item(TableName=function.table, Item={**item, "planId": {"S": "pro"}})
    assert ask(query_request(SUBSCRIPTION_GET)).body["planName"] == "Professional"


@pytest.mark.parametrize(
    "unknown",
    [
        {"plan": None, "plan_name": "Pro"},
        {"plan": "nobody-described-it"},
        {"subscription_id": None},
        {"subscription_status": None},
        {"current_period_start": None},
        {"current_period_end": None},
    ],
    ids=lambda unknown: next(iter(unknown)),
)
def test_a_subscription_is_not_found_until_all_of_it_is_known_and_then_at_once(
    function: RecordFunction, ask: QueryFunction, unknown: dict[str, Any]
) -> None:
    _put(function, SUBSCRIBED)
    _put(function, replace(SUBSCRIBED, **unknown), None)
    reply = ask(query_request(SUBSCRIPTION_GET), 404)
    assert_problem(reply, 404, "NOT_FOUND", "not_found")
    assert "subscription" in reply.body["detail"]
    _put(function, SUBSCRIBED)
    ask(query_request(SUBSCRIPTION_GET))


@pytest.mark.parametrize(
    ("known", "lacks"),
    [
        ({}, "id, planId, planName, status, currentPeriodStart, currentPeriodEnd"),
        ({"plan": "nobody-described-it"}, "id, planName, status, currentPeriodStart, currentPeriodEnd"),
        ({"plan": "pro", "subscription_id": "sub-1"}, "planName, status, currentPeriodStart, currentPeriodEnd"),
    ],
)
def test_an_incomplete_subscription_names_its_missing_fields(
    function: RecordFunction, ask: QueryFunction, known: dict[str, Any], lacks: str
) -> None:
    _put(function, Organization("demo-org", **known), None)
    assert f"it lacks {lacks}." in ask(query_request(SUBSCRIPTION_GET), 404).body["detail"]


def test_a_subscription_of_which_no_cancellation_is_known_is_not_canceled(
    function: RecordFunction, ask: QueryFunction
) -> None:
    _put(function, replace(SUBSCRIBED, cancel_at_period_end=None))
    assert ask(query_request(SUBSCRIPTION_GET)).body["cancelAtPeriodEnd"] is False


# --- usage -----------------------------------------------------------------------------------------------------------


def test_a_usage_is_returned_as_it_was_sent_and_stored(function: RecordFunction, ask: QueryFunction) -> None:
    event = payload("http-record-all-members.json")
    function(event)
    (item,) = records(function.client, "usage", "demo-org")
    assert ask(query_request(USAGE_GET, idempotencyKey="nightly-2026-11-23")).body == {
        "idempotencyKey": "nightly-2026-11-23",
        "feature": "storage_gb",
        "quantity": 250,
        "billingPeriod": "2026-11",
        "recordedAt": "2026-11-23T00:20:04.123Z",
        "eventId": item["eventId"]["S"],
        "sourceId": "req-7f3a",
        "sourceType": "request",
        "metadata": {
            "region": "eu-central-1",
            "tags": ["nightly", "übung"],
            "size": {"files": 12},
        },
    }


def test_members_that_were_not_sent_are_not_returned(function: RecordFunction, ask: QueryFunction) -> None:
    function(record_request(example()))
    body = ask(query_request(USAGE_GET, idempotencyKey="abc-123")).body
    assert body.keys() == {"idempotencyKey", "feature", "quantity", "billingPeriod", "recordedAt", "eventId"}


@pytest.mark.parametrize(
    "metadata", [{}, {"a": [1.0, 1e300, -0.5, True, None, "\u2028\u00fc\U0001f600"]}, {"n": 10**4000}]
)
def test_metadata_comes_back_as_it_was_sent(
    function: RecordFunction, ask: QueryFunction, metadata: dict[str, Any]
) -> None:
    function(record_request(example(metadata=metadata)))
    assert ask(query_request(USAGE_GET, idempotencyKey="abc-123")).body["metadata"] == metadata


@pytest.mark.parametrize("key", ["a#b", "#", "%25", "a%b", "a&b=c", "?+/~", '"quoted"', "~" * 255])
def test_any_key_can_be_asked_for(function: RecordFunction, ask: QueryFunction, key: str) -> None:
    function(record_request(example(idempotencyKey=key)))
    assert ask(query_request(USAGE_GET, idempotencyKey=key)).body["idempotencyKey"] == key


def test_a_key_that_was_not_used_is_not_found(function: RecordFunction, ask: QueryFunction) -> None:
    function(record_request(example()))
    reply = ask(query_request(USAGE_GET, idempotencyKey="abc-1234"), 404)
    assert_problem(reply, 404, "NOT_FOUND", "not_found")
    assert "idempotency key" in reply.body["detail"]


def test_refused_usage_is_not_found(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    assert function(record_request(example(feature="seats", quantity=4))).body["recorded"] is False
    ask(query_request(USAGE_GET, idempotencyKey="abc-123"), 404)


def test_an_expired_usage_is_not_found_from_the_very_second_on(function: RecordFunction, ask: QueryFunction) -> None:
    function(record_request(example()))
    function.clock.at = NOW.replace(microsecond=0) + timedelta(days=400, seconds=-1, milliseconds=999)
    ask(query_request(USAGE_GET, idempotencyKey="abc-123"))
    function.clock.at = NOW.replace(microsecond=0) + timedelta(days=400)
    ask(query_request(USAGE_GET, idempotencyKey="abc-123"), 404)


# --- other organizations ---------------------------------------------------------------------------------------------


def test_nobody_sees_what_another_organization_has(function: RecordFunction, ask: QueryFunction) -> None:
    _put(function, SUBSCRIBED)
    _use(function, 3, key="abc-123")
    mine = {"org_id": "acme"}
    assert ask(query_request(USAGE_SUMMARY, claims=mine)).body["usage"] == []
    assert ask(query_request(FEATURE_CHECK, claims=mine, feature="api_calls")).body["reason"] == "not_in_plan"
    ask(query_request(SUBSCRIPTION_GET, claims=mine), 404)
    for key in ("abc-123", "demo-org#abc-123", "#demo-org#abc-123", "../demo-org/abc-123"):
        ask(query_request(USAGE_GET, claims=mine, idempotencyKey=key), 404)


@pytest.mark.parametrize(
    "operation", [USAGE_SUMMARY, FEATURE_CHECK, SUBSCRIPTION_GET, USAGE_GET], ids=lambda operation: operation.key
)
def test_an_unknown_organization_is_not_found_and_works_as_soon_as_it_exists(
    function: RecordFunction, ask: QueryFunction, operation: Any
) -> None:
    _put(function, replace(SUBSCRIBED, id="somebody-else"))
    parameters = {FEATURE_CHECK: {"feature": "a"}, USAGE_GET: {"idempotencyKey": "k"}}.get(operation, {})
    event = query_request(operation, parameters, claims={"org_id": "newcomer"})
    reply = ask(event, 404)
    assert_problem(reply, 404, "NOT_FOUND", "not_found")
    assert "organization newcomer is not known" in reply.body["detail"]
    put_organization(function.client, "usage", "newcomer", "active")
    assert "organization newcomer is not known" not in ask.reply(event).body.get("detail", "")


def test_usage_that_was_returned_is_in_every_later_total(function: RecordFunction, ask: QueryFunction) -> None:
    _use(function, 3, key="abc-123")
    all_visible = show_late(ask.client, "Query", conflicts=2)
    assert ask(query_request(USAGE_GET, idempotencyKey="abc-123")).body["quantity"] == 3
    assert all_visible()
    (usage,) = ask(query_request(USAGE_SUMMARY)).body["usage"]
    assert usage["used"] == 3


def test_usage_whose_counter_stays_held_is_unavailable(function: RecordFunction, ask: QueryFunction) -> None:
    _use(function, 3, key="abc-123")
    show_late(ask.client, "Query", conflicts=1000)
    reply = ask(query_request(USAGE_GET, idempotencyKey="abc-123"), 503)
    assert_problem(reply, 503, "SERVICE_UNAVAILABLE", "dependency")
