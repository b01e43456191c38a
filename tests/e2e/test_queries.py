"""Queries over HTTP on the deployed stack return usage, features and subscriptions as they were recorded."""

from datetime import UTC, datetime
from typing import Any

import pytest
from metering.http.operations import FEATURE_CHECK, SUBSCRIPTION_GET, USAGE_GET, USAGE_LIST, USAGE_SUMMARY, Operation
from metering.model.plans import Entitlement

from tests.e2e.steps import assert_problem, metering
from tests.testing.local_stack import LocalStack
from tests.testing.payloads import example
from tests.testing.table import items, records

QUERIES: list[tuple[Operation, dict[str, str]]] = [
    (USAGE_SUMMARY, {}),
    (FEATURE_CHECK, {"feature": "api_calls"}),
    (SUBSCRIPTION_GET, {}),
    (USAGE_GET, {"idempotencyKey": "abc-123"}),
    (USAGE_LIST, {}),
]
each_query = pytest.mark.parametrize(("operation", "parameters"), QUERIES, ids=[each.key for each, _ in QUERIES])


def _summary(stack: LocalStack, organization: str, **parameters: str) -> dict[str, Any]:
    answer = stack.ask(organization, USAGE_SUMMARY, **parameters)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_the_summary_and_the_check_agree_with_what_recording_answers(stack: LocalStack) -> None:
    organization = stack.new_organization()
    stack.subscribe(
        organization,
        api_calls=Entitlement(limit=5, unit="calls"),
        seats=Entitlement(limit=4, hard=True),
        exports=Entitlement(),
    )
    for number, (feature, quantity) in enumerate(
        [("api_calls", 3), ("seats", 4), ("exports", 9), ("api_calls", 2), ("seats", 1), ("api_calls", 4)]
    ):
        recorded = stack.record(organization, example(feature=feature, quantity=quantity, idempotencyKey=f"k{number}"))
        recorded = recorded.json()
        (used,) = (each for each in _summary(stack, organization)["usage"] if each["feature"] == feature)
        assert (used["used"], used.get("limit")) == (recorded["currentUsage"], recorded.get("limit"))
        checked = stack.ask(organization, FEATURE_CHECK, feature=feature).json()
        assert checked["hasAccess"] is not recorded["limitReached"]
        assert (checked["reason"] == "limit_reached") is recorded["limitReached"]
        quantity_that_fits = str(max(1, checked.get("remaining", 1)))
        again = stack.ask(organization, FEATURE_CHECK, feature=feature, quantity=quantity_that_fits).json()
        assert again["hasAccess"] is checked["hasAccess"]
    present = datetime.now(UTC).strftime("%Y-%m")
    summary = _summary(stack, organization, billingPeriod=present)
    assert summary.pop("periodStart") == f"{present}-01T00:00:00.000Z"
    assert summary.pop("periodEnd") == checked["resetsAt"]
    by_day = _summary(stack, organization, billingPeriod=present, by="day")["usage"]
    # The days of a run over midnight are two.
    assert [sum(day["used"] for day in each.pop("days")) for each in by_day] == [9, 9, 4]
    assert by_day == summary["usage"]
    assert summary == {
        "billingPeriod": present,
        "usage": [
            {"feature": "api_calls", "used": 9, "limit": 5, "percentage": 180.0, "unit": "calls"},
            {"feature": "exports", "used": 9},
            {"feature": "seats", "used": 4, "limit": 4, "percentage": 100.0},
        ],
    }
    assert _summary(stack, organization, period="current") == _summary(stack, organization)
    unknown = stack.ask(organization, FEATURE_CHECK, feature="unheard_of").json()
    assert unknown == {"hasAccess": False, "reason": "not_in_plan"}


def test_a_recorded_usage_is_found_by_its_key(stack: LocalStack) -> None:
    organization = stack.new_organization()
    body = example(idempotencyKey="a+b&c#d%/\u007e", quantity=7, sourceId="s", sourceType="t", metadata={"a": [1, "ü"]})
    assert stack.ask(organization, USAGE_GET, idempotencyKey=body["idempotencyKey"]).status_code == 404
    stack.record(organization, body).raise_for_status().raise_for_status()
    (stored,) = records(stack.dynamodb, stack.table, organization)
    usage = {**body, "billingPeriod": stored["billingPeriod"]["S"], "recordedAt": stored["recordedAt"]["S"]}
    shown = stack.ask(organization, USAGE_GET, idempotencyKey=body["idempotencyKey"]).json()
    assert shown == {**usage, "eventId": stored["eventId"]["S"]}
    (event,) = stack.events(organization, at_least=1)
    assert event["detail"]["payload"] == {**usage, "organizationId": organization}


def test_the_records_are_listed_page_by_page_and_exported_by_command(stack: LocalStack) -> None:
    organization = stack.new_organization()
    for number in range(7):
        stack.record(organization, example(idempotencyKey=f"k{number}", quantity=2)).raise_for_status()
    parameters = {"feature": "api_calls", "pageSize": "3"}
    pages: list[Any] = []
    while not pages or "nextCursor" in pages[-1]:
        answer = stack.ask(organization, USAGE_LIST, **parameters)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        parameters["cursor"] = pages[-1].get("nextCursor", "")
    listed = [record for page in pages for record in page["records"]]
    assert sorted(record["idempotencyKey"] for record in listed) == [f"k{number}" for number in range(7)]
    assert stack.ask(organization, USAGE_GET, idempotencyKey=listed[0]["idempotencyKey"]).json() == listed[0]
    refused = stack.ask(stack.new_organization(), USAGE_LIST, feature="api_calls", cursor=pages[0]["nextCursor"])
    assert_problem(refused, 400, "BAD_REQUEST")
    period = datetime.now(UTC).strftime("%Y-%m")
    exported = metering(stack.local_json, "usage", "export", "--organization", organization, "--period", period)
    assert (exported.returncode, len(exported.stdout.splitlines())) == (0, 8)
    assert "api_calls 14. The sums equal the counters." in exported.stderr
    shown = metering(stack.local_json, "usage", "show", "--organization", organization)
    assert shown.stdout.splitlines()[2] == "api_calls  14"


def test_a_subscription_is_returned_once_it_is_known(stack: LocalStack) -> None:
    organization = stack.new_organization()
    assert_problem(stack.ask(organization, SUBSCRIPTION_GET), 404, "NOT_FOUND")
    stack.subscribe(organization)
    found = stack.ask(organization, SUBSCRIPTION_GET).json()
    assert found["organizationId"] == organization
    assert (found["planName"], found["status"], found["cancelAtPeriodEnd"]) == ("Professional", "ACTIVE", False)
    assert found["currentPeriodStart"].endswith("-01T00:00:00.000Z")


# --- other organizations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["X-Organization-Id", "X-Org-Id", "org_id", "Organization", "X-Tenant-Id", "x-amzn-org_id"]
)
def test_no_header_shows_another_organizations_usage(stack: LocalStack, header: str) -> None:
    theirs, mine = _theirs_and_mine(stack)
    assert _seen_by(mine, stack, {header: theirs}) == _seen_by(mine, stack, {})


@each_query
@pytest.mark.parametrize("name", ["organizationId", "organization", "org_id", "tenant"])
def test_no_parameter_shows_another_organizations_usage(
    stack: LocalStack, operation: Operation, parameters: dict[str, str], name: str
) -> None:
    theirs, mine = _theirs_and_mine(stack)
    answer = stack.ask(mine, operation, None, **parameters, **{name: theirs})
    problem = assert_problem(answer, 422, "VALIDATION_FAILED")
    assert [issue["path"] for issue in problem["issues"]] == [name]


def test_no_key_feature_or_period_shows_another_organizations_usage(stack: LocalStack) -> None:
    theirs, mine = _theirs_and_mine(stack)
    for key in ("abc-123", f"{theirs}#abc-123", f"#{theirs}#abc-123", f"usage#{theirs}#abc-123", "../abc-123"):
        assert stack.ask(mine, USAGE_GET, idempotencyKey=key).status_code == 404
    present = datetime.now(UTC).strftime("%Y-%m")
    for period in (f"{present}#{theirs}", f"{theirs}#{present}", f"../{theirs}"):
        assert_problem(stack.ask(mine, USAGE_SUMMARY, billingPeriod=period), 422, "VALIDATION_FAILED")
    for feature in (f"{theirs}#api_calls", "api_calls#0", f"#{theirs}"):
        assert_problem(stack.ask(mine, FEATURE_CHECK, feature=feature), 422, "VALIDATION_FAILED")
    assert stack.ask(mine, FEATURE_CHECK, feature="api_calls").json() == {"hasAccess": False, "reason": "not_in_plan"}


def _theirs_and_mine(stack: LocalStack) -> tuple[str, str]:
    """An organization with usage, a plan and a subscription, and one with nothing."""
    theirs, mine = stack.new_organization(), stack.new_organization()
    stack.subscribe(theirs, api_calls=Entitlement(limit=1000))
    stack.record(theirs, example(quantity=3)).raise_for_status()
    return theirs, mine


def _seen_by(organization: str, stack: LocalStack, headers: dict[str, str]) -> list[Any]:
    answers = [stack.ask(organization, operation, headers, **parameters) for operation, parameters in QUERIES]
    return [(answer.status_code, {**answer.json(), "traceId": ""}) for answer in answers]


# --- requests --------------------------------------------------------------------------------------------------------


@each_query
def test_a_query_needs_its_scope_and_a_known_organization_and_writes_nothing(
    stack: LocalStack, operation: Operation, parameters: dict[str, str]
) -> None:
    to_write = {"Authorization": f"Bearer {stack.token(stack.new_organization(), scopes=['usage:write'])}"}
    problem = assert_problem(stack.http.get(operation.path, params=parameters, headers=to_write), 403, "FORBIDDEN")
    assert problem["operation"] == {"key": operation.key, "version": "1.0.0", "kind": "query"}
    assert_problem(stack.ask("nobody-knows-me", operation, **parameters), 404, "NOT_FOUND")
    assert items(stack.dynamodb, stack.table, "organization#nobody-knows-me") == []
    assert stack.http.get(operation.path, params=parameters).status_code == 401


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("feature=a&feature=b", 400, "duplicate_parameter"),
        ("feature=a&feature=a", 400, "duplicate_parameter"),
        ("feature=a&%66eature=a", 400, "duplicate_parameter"),
        ("feature=%", 400, "malformed"),
        ("feature=a+b", 400, "malformed"),
        ("feature=%ff", 400, "not_utf8"),
        ("feature=", 422, "string_pattern_mismatch"),
        ("feature=a,b", 422, "string_pattern_mismatch"),
        ("", 422, "missing"),
    ],
)
def test_a_query_string_is_read_as_strictly_as_a_body(stack: LocalStack, query: str, status: int, code: str) -> None:
    authorization = {"Authorization": f"Bearer {stack.token(stack.new_organization(), scopes=['usage:read'])}"}
    answer = stack.http.get(f"{FEATURE_CHECK.path}?{query}", headers=authorization)
    problem = assert_problem(answer, status, "BAD_REQUEST" if status == 400 else "VALIDATION_FAILED")
    assert [issue["code"] for issue in problem["issues"]] == [code]


@each_query
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_wrong_method_is_answered_with_the_allowed_one(
    stack: LocalStack, operation: Operation, parameters: dict[str, str], method: str
) -> None:
    authorization = {"Authorization": f"Bearer {stack.token(stack.new_organization(), scopes=['usage:read'])}"}
    answer = stack.http.request(method, operation.path, params=parameters, headers=authorization)
    assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "GET"
