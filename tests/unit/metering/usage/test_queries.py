"""The answers to queries, which agree with the answers to recording."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from metering.http.operations import FEATURE_CHECK, SUBSCRIPTION_GET, USAGE_GET, USAGE_SUMMARY
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.storage.organization_items import organization_item

from tests.testing.contention import answer_with, show_late
from tests.testing.payloads import example, payload, query_request, record_request
from tests.testing.problems import assert_problem
from tests.testing.service import NOW, QueryFunction, RecordFunction
from tests.testing.subscribed import FEATURES, PRO, SUBSCRIBED
from tests.testing.table import put_on_plan, put_organization, records


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
        "billingPeriod": "2026-11",
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
    assert november == {"billingPeriod": "2026-11", "usage": [{"feature": "api_calls", "used": 5}]}
    for parameters in ({}, {name: "current"}, {name: "2026-12"}, {"billingPeriod": "current", "period": "current"}):
        present = ask(query_request(USAGE_SUMMARY, parameters)).body
        assert present == {"billingPeriod": "2026-12", "usage": [{"feature": "api_calls", "used": 7}]}
    assert ask(query_request(USAGE_SUMMARY, {name: "2024-01"})).body == {"billingPeriod": "2024-01", "usage": []}


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


def _checked(ask: QueryFunction, feature: str = "api_calls") -> dict[str, Any]:
    reply = ask(query_request(FEATURE_CHECK, feature=feature))
    assert reply.status == 200
    return reply.body


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
