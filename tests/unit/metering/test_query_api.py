import json
from collections.abc import Mapping
from typing import Any

import pytest
from metering import query_api
from metering.http.caller import TokenRules
from metering.http.endpoint import RESERVE_S, TIMEOUTS
from metering.http.operations import (
    FEATURE_CHECK,
    OPERATIONS,
    RECORD_USAGE,
    SUBSCRIPTION_GET,
    USAGE_GET,
    USAGE_LIST,
    USAGE_SUMMARY,
    Operation,
)
from metering.model.plans import Entitlement, Plan

from tests.testing.contention import answer_with, failed
from tests.testing.payloads import example, payload, query_request, record_request
from tests.testing.problems import assert_problem
from tests.testing.service import QueryFunction, RecordFunction
from tests.testing.subscribed import SUBSCRIBED
from tests.testing.table import items, put_on_plan

QUERIES: Mapping[Operation, dict[str, str]] = {
    USAGE_SUMMARY: {},
    FEATURE_CHECK: {"feature": "api_calls"},
    SUBSCRIPTION_GET: {},
    USAGE_GET: {"idempotencyKey": "abc-123"},
    USAGE_LIST: {},
}
WRONG_PAGE_SIZES = {
    "0": "greater_than_equal",
    "1001": "less_than_equal",
    "9999999999": "less_than_equal",
    "9" * 100: "less_than_equal",
    **dict.fromkeys(["", "-1", "01", "1.0", "1e2", "%201", "%2B1", "1_0", "%D9%A1", "ten", "9" * 101], "int_type"),
}
# Text that another reader can take for a number, but that is not a whole number in plain digits.
NO_NUMBERS = ["", "1.0", "1e3", "-1", "%2B1", "01", "1_000", "%201", "1%0A", "0x1", "true", "null", "%D9%A1", "NaN"]
each_query = pytest.mark.parametrize(
    ("operation", "parameters"), QUERIES.items(), ids=[operation.key for operation in QUERIES]
)


@pytest.fixture(autouse=True)
def subscribed(function: RecordFunction) -> None:
    """Give `demo-org` usage, a plan and a subscription."""
    put_on_plan(function.client, function.table, SUBSCRIBED, Plan("pro", "Pro", {"api_calls": Entitlement(limit=10)}))
    function(record_request(example()))


@each_query
def test_a_query_is_answered_with_its_bare_output(
    ask: QueryFunction, operation: Operation, parameters: dict[str, str]
) -> None:
    reply = ask(query_request(operation, parameters))
    assert reply.headers == {"Content-Type": "application/json"}


@each_query
def test_a_query_changes_nothing(ask: QueryFunction, operation: Operation, parameters: dict[str, str]) -> None:
    before = items(ask.client, "usage", "")
    ask(query_request(operation, parameters))
    assert items(ask.client, "usage", "") == before


def test_the_payload_that_api_gateway_sends_is_understood(ask: QueryFunction) -> None:
    answer = ask(payload("http-feature-check.json")).body
    assert (answer["hasAccess"], answer["reason"]) == (True, "limit_available")


# --- invalid requests ------------------------------------------------------------------------------------------------


@each_query
@pytest.mark.parametrize(
    "claims", [{"scope": "usage:write"}, {"scope": None}, {"org_id": None}, {"org_id": "no org"}, {"org_id": "a#b"}]
)
def test_a_caller_without_permission_learns_nothing(
    ask: QueryFunction, operation: Operation, parameters: dict[str, str], claims: dict[str, Any]
) -> None:
    calls = answer_with(ask.client, "GetItem", [])
    reply = ask(query_request(operation, parameters, claims=claims, raw="%"), 403)
    assert_problem(reply, 403, "FORBIDDEN", "auth")
    assert reply.body["operation"] == {"key": operation.key, "version": "1.0.0", "kind": "query"}
    assert calls == []


@each_query
@pytest.mark.parametrize("scope", ["usage:read", "[usage:read]", "usage:write usage:read"])
def test_the_scope_to_read_is_enough(
    ask: QueryFunction, operation: Operation, parameters: dict[str, str], scope: str
) -> None:
    ask(query_request(operation, parameters, claims={"scope": scope}))


@each_query
@pytest.mark.parametrize("name", ["organizationId", "org_id", "organization", "Feature", "", "quantities", "closed"])
def test_an_unknown_parameter_is_named(
    ask: QueryFunction, operation: Operation, parameters: dict[str, str], name: str
) -> None:
    reply = ask(query_request(operation, {**parameters, name or "x.y": "acme"}), 422)
    assert_problem(reply, 422, "VALIDATION_FAILED")
    (issue,) = reply.body["issues"]
    assert (issue["path"], issue["code"]) == (name or "x.y", "extra_forbidden")


@pytest.mark.parametrize(
    ("operation", "raw", "path", "code"),
    [
        (FEATURE_CHECK, "", "feature", "missing"),
        (FEATURE_CHECK, "feature=", "feature", "string_pattern_mismatch"),
        (FEATURE_CHECK, "feature", "feature", "string_pattern_mismatch"),
        (FEATURE_CHECK, "feature=1st", "feature", "string_pattern_mismatch"),
        (FEATURE_CHECK, "feature=a%23b", "feature", "string_pattern_mismatch"),
        (FEATURE_CHECK, "feature=a%0A", "feature", "string_pattern_mismatch"),
        (FEATURE_CHECK, "feature=" + "a" * 65, "feature", "string_pattern_mismatch"),
        (FEATURE_CHECK, "feature=a%2Cb", "feature", "string_pattern_mismatch"),
        *((FEATURE_CHECK, f"feature=a&quantity={text}", "quantity", "int_type") for text in NO_NUMBERS),
        (FEATURE_CHECK, "feature=a&quantity=0", "quantity", "greater_than_equal"),
        (FEATURE_CHECK, "feature=a&quantity=1000000001", "quantity", "less_than_equal"),
        (FEATURE_CHECK, "feature=a&quantity=" + "9" * 100, "quantity", "less_than_equal"),
        (FEATURE_CHECK, "feature=a&quantity=" + "9" * 5000, "quantity", "int_type"),
        (USAGE_GET, "", "idempotencyKey", "missing"),
        (USAGE_GET, "idempotencyKey=", "idempotencyKey", "string_pattern_mismatch"),
        (USAGE_GET, "idempotencyKey=a%20b", "idempotencyKey", "string_pattern_mismatch"),
        (USAGE_GET, "idempotencyKey=%C3%BC", "idempotencyKey", "string_pattern_mismatch"),
        (USAGE_GET, "idempotencyKey=" + "a" * 256, "idempotencyKey", "string_pattern_mismatch"),
        *((USAGE_LIST, f"pageSize={sent}", "pageSize", code) for sent, code in WRONG_PAGE_SIZES.items()),
        (USAGE_LIST, "billingPeriod=current", "billingPeriod", "string_pattern_mismatch"),
        (USAGE_LIST, "billingPeriod=", "billingPeriod", "string_pattern_mismatch"),
        (USAGE_LIST, "billingPeriod=2026-12", "billingPeriod", "period_in_future"),
        (USAGE_LIST, "feature=a%23b", "feature", "string_pattern_mismatch"),
        (USAGE_SUMMARY, "billingPeriod=", "billingPeriod", "string_pattern_mismatch"),
        (USAGE_SUMMARY, "billingPeriod=2026-13", "billingPeriod", "string_pattern_mismatch"),
        (USAGE_SUMMARY, "billingPeriod=2026-1", "billingPeriod", "string_pattern_mismatch"),
        (USAGE_SUMMARY, "billingPeriod=0000-01", "billingPeriod", "string_pattern_mismatch"),
        (USAGE_SUMMARY, "by=", "by", "literal_error"),
        (USAGE_SUMMARY, "by=Day", "by", "literal_error"),
        (USAGE_SUMMARY, "by=month", "by", "literal_error"),
        (USAGE_SUMMARY, "by=day%20", "by", "literal_error"),
        (USAGE_SUMMARY, "period=CURRENT", "period", "string_pattern_mismatch"),
        (USAGE_SUMMARY, "period=2026-11-23", "period", "string_pattern_mismatch"),
    ],
)
def test_a_parameter_that_breaks_the_model_is_named(
    ask: QueryFunction, operation: Operation, raw: str, path: str, code: str
) -> None:
    reply = ask(query_request(operation, raw=raw), 422)
    assert_problem(reply, 422, "VALIDATION_FAILED")
    assert [(issue["path"], issue["code"]) for issue in reply.body["issues"]] == [(path, code)]


def test_the_values_that_a_parameter_can_have_are_named(ask: QueryFunction) -> None:
    reply = ask(query_request(USAGE_SUMMARY, by="week"), 422)
    assert [issue["message"] for issue in reply.body["issues"]] == ["by has an unknown value. Send 'day'."]


@each_query
def test_a_query_with_a_body_is_a_bad_request(
    ask: QueryFunction, operation: Operation, parameters: dict[str, str]
) -> None:
    reply = ask(query_request(operation, parameters, body='{"feature":"api_calls"}'), 400)
    assert_problem(reply, 400, "BAD_REQUEST")
    assert [issue["code"] for issue in reply.body["issues"]] == ["body_unexpected"]
    ask(query_request(operation, parameters, body=""))


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.key)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_both_functions_know_the_method_of_every_route(
    function: RecordFunction, ask: QueryFunction, operation: Operation, method: str
) -> None:
    event = record_request() | {"routeKey": "$default", "rawPath": operation.path}
    event["requestContext"]["http"]["method"] = method
    for reply in (function.reply(event), ask.reply(event)):
        if method != operation.method:
            assert_problem(reply, 405, "METHOD_NOT_ALLOWED")
            assert reply.headers["Allow"] == operation.method


def test_a_route_that_leads_to_the_wrong_function_can_be_retried(function: RecordFunction, ask: QueryFunction) -> None:
    astray: list[tuple[QueryFunction | RecordFunction, Any, Operation]]
    astray = [(ask, record_request(example(idempotencyKey="another")), RECORD_USAGE)]
    astray += [(function, query_request(operation, sent), operation) for operation, sent in QUERIES.items()]
    for entry, event, operation in astray:
        reply = entry(event, 503)
        assert_problem(reply, 503, "SERVICE_UNAVAILABLE", "dependency")
        assert reply.body["operation"]["key"] == operation.key
    assert len(items(ask.client, "usage", "usage#demo-org#")) == 1


@pytest.mark.parametrize("event", [None, {}, [], {"version": "1.0", "httpMethod": "GET", "path": "/"}])
def test_any_event_gets_a_documented_answer(ask: QueryFunction, event: Any) -> None:
    assert ask(event, 404).body["code"] == "NOT_FOUND"


# --- failures --------------------------------------------------------------------------------------------------------


@each_query
@pytest.mark.parametrize("answer", [failed("ThrottlingException"), failed("InternalServerError", 500)])
def test_a_busy_store_is_asked_again(
    ask: QueryFunction, operation: Operation, parameters: dict[str, str], answer: Any
) -> None:
    for call in ("GetItem", "Query"):
        answer_with(ask.client, call, [answer] * 2)
    ask(query_request(operation, parameters))


@each_query
def test_a_store_that_stays_busy_is_unavailable_before_the_deadline(
    ask: QueryFunction, operation: Operation, parameters: dict[str, str]
) -> None:
    began = ask.clock.monotonic()
    answer_with(ask.client, "GetItem", [failed("ThrottlingException")] * 10_000)
    reply = ask(query_request(operation, parameters), 503)
    assert_problem(reply, 503, "SERVICE_UNAVAILABLE", "dependency")
    assert reply.headers["Retry-After"] == str(reply.body["retryAfter"])
    assert "Recording" not in reply.body["detail"]
    assert ask.clock.monotonic() - began <= ask.timeout_s - RESERVE_S


def test_the_pages_of_a_summary_share_one_deadline(ask: QueryFunction) -> None:
    for number in range(20):
        key = {"pk": {"S": "counter#demo-org#2026-11"}, "sk": {"S": f"f{number:02}#0"}}
        ask.client.put_item(TableName="usage", Item={**key, "total": {"N": "1"}})

    def slowly_in_pages_of_one(params: Any, **_: Any) -> None:
        ask.clock.pass_by(seconds=1)
        params["Limit"] = 1

    events: Any = ask.client.meta.events
    events.register("provide-client-params.dynamodb.Query", slowly_in_pages_of_one)
    assert_problem(ask(query_request(USAGE_SUMMARY), 503), 503, "SERVICE_UNAVAILABLE", "dependency")


@each_query
def test_an_unforeseen_failure_leaks_nothing(
    ask: QueryFunction, operation: Operation, parameters: dict[str, str]
) -> None:
    answer_with(ask.client, "GetItem", [failed("AccessDeniedException")])
    reply = ask(query_request(operation, parameters), 500)
    assert_problem(reply, 500, "INTERNAL_ERROR", "internal")
    assert "AccessDenied" not in str(reply.body)


# --- logs and metrics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "status", "message", "metric"),
    [
        (query_request(USAGE_GET, idempotencyKey="abc-123"), 200, "query answered", "QueryAnswered"),
        (query_request(USAGE_GET, idempotencyKey="s3cret"), 404, "invalid request", "RequestInvalid"),
        (query_request(FEATURE_CHECK, raw="feature=s3cret!"), 422, "invalid request", "RequestInvalid"),
    ],
)
def test_each_outcome_is_one_line_and_one_metric(
    ask: QueryFunction, capsys: pytest.CaptureFixture[str], event: Any, status: int, message: str, metric: str
) -> None:
    capsys.readouterr()
    ask(event, status)
    (line,) = map(json.loads, ask.log.getvalue().splitlines())
    (metrics,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["message"], line["correlation_id"]) == (message, "AbC1dEfGoAMEJrg=")
    assert metrics[metric] == [1.0]
    assert not any(word in json.dumps([line, metrics]) for word in ("s3cret", "abc-123", "eyJ"))


# --- settings --------------------------------------------------------------------------------------------------------


def test_the_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TABLE_NAME": "another",
        "ORGANIZATION_CLAIM": "custom:org",
        "SCOPE_PREFIX": "m/",
        "ROLES_AS_SCOPES": "yes",
    }.items():
        monkeypatch.setenv(name, value)
    service = query_api.service_from_environment()
    assert (service.deps.table, service.deps.organizations.table) == ("another", "another")
    assert service.rules == TokenRules("custom:org", "m/", roles_as_scopes=True)
    # botocore sets these attributes without declaring them.
    config: Any = service.deps.client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (TIMEOUTS.connect_s, TIMEOUTS.read_s)
