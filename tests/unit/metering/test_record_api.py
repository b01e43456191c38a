import json
from datetime import timedelta
from random import SystemRandom
from typing import TYPE_CHECKING, Any

import pytest
from metering import json_text, record_api
from metering.plans import SUBSCRIPTION_STATUSES, Organization

from tests.contention import answer_with, cancelled, failed
from tests.payloads import example, payload, record_request
from tests.problems import assert_problem
from tests.service import NOW, RecordFunction, Reply
from tests.table import counted, put_on_plan, put_organization, records

if TYPE_CHECKING:
    pass

# --- recording -------------------------------------------------------------------------------------------------------


def test_the_contracts_example_is_recorded(function: RecordFunction) -> None:
    reply = function(payload("http-record.json"))
    assert reply == Reply(
        200, {"Content-Type": "application/json"}, {"recorded": True, "currentUsage": 1, "limitReached": False}
    )
    for number in range(99):
        reply = function(record_request(example(idempotencyKey=f"more-{number}")))
    assert reply.body["currentUsage"] == 100


def test_a_request_with_every_member_is_stored_with_every_member(function: RecordFunction) -> None:
    assert function(payload("http-record-all-members.json")).body["currentUsage"] == 250
    (item,) = records(function.client, "usage", "demo-org")
    assert item["pk"] == {"S": "usage#demo-org#nightly-2026-11-23"}
    assert {name: item[name]["S"] for name in ("feature", "billingPeriod", "recordedAt", "sourceId", "sourceType")} == {
        "feature": "storage_gb",
        "billingPeriod": "2026-11",
        "recordedAt": "2026-11-23T00:20:04.123Z",
        "sourceId": "req-7f3a",
        "sourceType": "request",
    }
    assert item["quantity"] == {"N": "250"}
    assert item["traceId"] == {"S": "AbC2dEfGoAMEJrg="}
    assert json.loads(item["metadata"]["S"])["size"] == {"files": 12}
    assert item["counter"]["M"]["sk"] == {"S": "storage_gb#0"}
    assert int(item["expiresAt"]["N"]) == int(NOW.timestamp()) + 400 * 86_400


def test_the_fingerprint_is_of_the_members_sent_without_the_key(function: RecordFunction) -> None:
    function(record_request(example(idempotencyKey="in-the-body")))
    function(record_request(example(idempotencyKey=...), headers={"idempotency-key": "in-the-header"}))
    prints = {item["fingerprint"]["S"] for item in records(function.client, "usage", "demo-org")}
    assert prints == {json_text.fingerprint({"feature": "api_calls", "quantity": 1})}


def test_features_and_organizations_are_counted_apart(function: RecordFunction) -> None:
    function(record_request(example()))
    function(record_request(example(feature="api_calls2", idempotencyKey="2", quantity=5)))
    function(record_request(example(feature="API_calls", idempotencyKey="another case", quantity=11)))
    reply = function(record_request(example(quantity=7), claims={"org_id": "acme"}))
    assert reply.body["currentUsage"] == 7
    assert function(record_request(example(idempotencyKey="3"))).body["currentUsage"] == 2
    assert len(records(function.client, "usage", "acme")) == 1


def test_a_warm_and_calm_request_makes_two_calls(function: RecordFunction) -> None:
    function(record_request(example()))
    calls: list[str] = []
    function.client.meta.events.register("before-send.dynamodb", lambda event_name, **_: calls.append(event_name))
    queries = answer_with(function.client, "Query", [])
    function(record_request(example(idempotencyKey="second")))
    assert [call.rsplit(".", 1)[1] for call in calls] == ["TransactWriteItems", "Query"]
    assert [query["ConsistentRead"] for query in queries] == [True]


# --- once ------------------------------------------------------------------------------------------------------------


def test_the_same_again_counts_once_and_says_so(function: RecordFunction) -> None:
    function(record_request(example()))
    function(record_request(example(idempotencyKey="other", quantity=4)))
    replay = function(record_request(example()))
    assert replay.body == {"recorded": True, "currentUsage": 5, "limitReached": False}
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert counted(function.client, "usage", "demo-org") == (5, 2)


def test_the_order_of_members_does_not_matter(function: RecordFunction) -> None:
    body = example(metadata={"a": 1, "b": {"c": 2, "d": 3}}, sourceId="s")
    function(record_request(body))
    turned = {name: body[name] for name in reversed(body)} | {"metadata": {"b": {"d": 3, "c": 2}, "a": 1}}
    assert function(record_request(turned)).headers["Idempotent-Replayed"] == "true"


def test_the_key_may_move_between_body_and_header(function: RecordFunction) -> None:
    function(record_request(example()))
    replay = function(record_request(example(idempotencyKey=...), headers={"idempotency-key": '"abc-123"'}))
    assert replay.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    "other",
    [{"quantity": 2}, {"feature": "storage_gb"}, {"sourceId": "s"}, {"sourceType": "t"}, {"metadata": {}}],
)
def test_the_same_key_with_other_content_is_refused(function: RecordFunction, other: dict[str, Any]) -> None:
    function(record_request(example()))
    assert_problem(function(record_request(example(**other))), 422, "IDEMPOTENCY_KEY_REUSED", "conflict")
    assert counted(function.client, "usage", "demo-org") == (1, 1)


def test_a_retry_after_the_months_end_counts_nothing_and_answers_the_first_months_total(
    function: RecordFunction,
) -> None:
    function(record_request(example()))
    function.clock.pass_by(days=8)
    december = function(record_request(example(idempotencyKey="december", quantity=9)))
    assert december.body["currentUsage"] == 9
    replay = function(record_request(example()))
    assert replay.body["currentUsage"] == 1
    stored = {item["billingPeriod"]["S"] for item in records(function.client, "usage", "demo-org")}
    assert stored == {"2026-11", "2026-12"}
    assert counted(function.client, "usage", "demo-org") == (10, 2)


def test_a_key_is_free_again_at_the_second_of_its_expiry(function: RecordFunction) -> None:
    function(record_request(example()))
    (first,) = records(function.client, "usage", "demo-org")
    function.clock.at = NOW.replace(microsecond=0)
    function.clock.pass_by(days=400, seconds=-1)
    assert function(record_request(example(quantity=2))).status == 422
    function.clock.pass_by(seconds=1)
    again = function(record_request(example(quantity=2)))
    assert (again.status, again.body["currentUsage"]) == (200, 2)
    assert "Idempotent-Replayed" not in again.headers
    (second,) = records(function.client, "usage", "demo-org")
    assert second["eventId"] != first["eventId"]
    assert counted(function.client, "usage", "demo-org") == (3, 2)


# --- organizations ---------------------------------------------------------------------------------------------------


def test_an_unknown_organization_is_not_found_and_works_as_soon_as_it_exists(function: RecordFunction) -> None:
    event = record_request(example(), claims={"org_id": "newcomer"})
    assert_problem(function(event), 404, "NOT_FOUND", "not_found")
    put_organization(function.client, "usage", "newcomer", "active")
    assert function(event).status == 200


def test_an_inactive_organization_records_nothing_new_within_a_minute(function: RecordFunction) -> None:
    function(record_request(example()))
    put_organization(function.client, "usage", "demo-org", "inactive")
    function.clock.pass_by(seconds=59)
    assert function(record_request(example(idempotencyKey="in-time"))).status == 200
    function.clock.pass_by(seconds=2)
    assert_problem(function(record_request(example(idempotencyKey="late"))), 403, "FORBIDDEN", "auth")
    assert counted(function.client, "usage", "demo-org") == (2, 2)


@pytest.mark.parametrize("status", SUBSCRIPTION_STATUSES)
def test_usage_counts_whatever_became_of_the_subscription(function: RecordFunction, status: str) -> None:
    put_on_plan(function.client, "usage", Organization("demo-org", subscription_status=status), None)
    assert function(record_request(example())).body["recorded"] is True
    assert counted(function.client, "usage", "demo-org") == (1, 1)


def test_what_was_counted_is_acknowledged_whatever_became_of_the_organization(function: RecordFunction) -> None:
    function(record_request(example()))
    put_organization(function.client, "usage", "demo-org", "inactive")
    cold = RecordFunction(function.client, function.clock)
    reads = answer_with(function.client, "GetItem", [])
    replay = cold(record_request(example()))
    assert (replay.status, replay.body["currentUsage"], replay.headers["Idempotent-Replayed"]) == (200, 1, "true")
    assert_problem(cold(record_request(example(quantity=2))), 422, "IDEMPOTENCY_KEY_REUSED", "conflict")
    assert [read["ConsistentRead"] for read in reads] == [True, True, True]


def test_an_expired_record_is_no_acknowledgement(function: RecordFunction) -> None:
    function(record_request(example()))
    put_organization(function.client, "usage", "demo-org", "inactive")
    function.clock.pass_by(days=400)
    assert_problem(function(record_request(example())), 403, "FORBIDDEN", "auth")


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "status", "code", "category"),
    [
        (record_request(claims={"org_id": None}), 403, "FORBIDDEN", "auth"),
        (record_request(claims={"org_id": "no org"}), 403, "FORBIDDEN", "auth"),
        (record_request(claims={"scope": "usage:read"}), 403, "FORBIDDEN", "auth"),
        (payload("http-unknown-route.json"), 404, "NOT_FOUND", "not_found"),
        (record_request(raw="{"), 400, "BAD_REQUEST", "validation"),
        (record_request(raw="[]"), 400, "BAD_REQUEST", "validation"),
        (record_request(raw='{"quantity":1,"quantity":1}'), 400, "BAD_REQUEST", "validation"),
        (record_request(raw='{"feature":"a","quantity":NaN,"idempotencyKey":"k"}'), 400, "BAD_REQUEST", "validation"),
        (record_request(example(idempotencyKey=...)), 400, "BAD_REQUEST", "validation"),
        (record_request(example(), headers={"idempotency-key": "other"}), 400, "BAD_REQUEST", "validation"),
        (record_request(example(sourceId="x" * 17_000)), 413, "BAD_REQUEST", "validation"),
        (record_request(example(), headers={"content-type": "text/json"}), 415, "BAD_REQUEST", "validation"),
        (record_request(example(quantity=1.0)), 422, "VALIDATION_FAILED", "validation"),
        (record_request(example(organizationId="acme")), 422, "VALIDATION_FAILED", "validation"),
    ],
)
def test_a_refusal_is_the_contracts_problem_and_writes_nothing(
    function: RecordFunction, event: Any, status: int, code: str, category: str
) -> None:
    event["requestContext"]["requestId"] = "AbC1dEfGoAMEJrg="
    assert_problem(function(event), status, code, category)
    assert counted(function.client, "usage", "demo-org") == (0, 0)
    assert records(function.client, "usage", "demo-org") == []


def test_a_problem_names_its_operation_and_its_issues(function: RecordFunction) -> None:
    body = function(record_request(example(quantity="1", organizationId="acme"))).body
    assert body["operation"] == {"key": "saas.billing.usage.record", "version": "1.0.0", "kind": "command"}
    assert [issue["path"] for issue in body["issues"]] == ["quantity", "organizationId"]
    assert all(issue.keys() == {"path", "code", "message"} for issue in body["issues"])
    unknown = function(payload("http-unknown-route.json")).body
    assert not unknown.keys() & {"operation", "issues"}


@pytest.mark.parametrize(
    ("event", "path", "code"),
    [
        (record_request(raw=""), "", "empty"),
        (record_request(raw="{"), "", "not_json"),
        (record_request(raw="[]"), "", "not_an_object"),
        (record_request(raw='{"a":1,"a":1}'), "", "duplicate_member"),
        (record_request(raw='{"a":NaN}'), "", "not_finite"),
        (record_request(raw='{"a":"\ufffd"}'), "", "not_utf8"),
        (record_request(raw="!") | {"isBase64Encoded": True}, "", "not_base64"),
        (record_request(example(), headers={"content-type": "text/json"}), "", "media_type_unsupported"),
        (record_request(raw=" " * 16385), "", "too_large"),
        (record_request(example(idempotencyKey=...)), "idempotencyKey", "missing"),
        (record_request(example(), headers={"idempotency-key": "other"}), "idempotencyKey", "keys_differ"),
        (record_request(example(), headers={"idempotency-key": '"abc'}), "idempotencyKey", "header_malformed"),
    ],
)
def test_a_request_that_cannot_be_understood_says_why(
    function: RecordFunction, event: Any, path: str, code: str
) -> None:
    body = function(event).body
    assert body["issues"] == [{"path": path, "code": code, "message": body["detail"]}]


def test_another_method_is_told_what_is_allowed(function: RecordFunction) -> None:
    event = record_request() | {"routeKey": "$default"}
    event["requestContext"]["http"]["method"] = "GET"
    reply = function(event)
    assert_problem(reply, 405, "METHOD_NOT_ALLOWED")
    assert reply.headers["Allow"] == "POST"


@pytest.mark.parametrize("event", [None, {}, [], {"version": "1.0", "httpMethod": "POST", "path": "/"}])
def test_any_event_gets_a_documented_answer(function: RecordFunction, event: Any) -> None:
    assert function(event).body["code"] == "NOT_FOUND"


# --- what operators see ----------------------------------------------------------------------------------------------


def told(function: RecordFunction, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one log line since the last call, and the one line of metrics."""
    (line,) = function.log.getvalue().splitlines()
    function.log.seek(0)
    function.log.truncate()
    (metrics,) = capsys.readouterr().out.splitlines()
    return json.loads(line), json.loads(metrics)


def test_each_outcome_is_one_line_and_one_metric(function: RecordFunction, capsys: pytest.CaptureFixture[str]) -> None:
    secret = example(metadata={"card": "4111"}, sourceId="s3cret")
    outcomes = [
        (record_request(secret), "usage recorded", "UsageRecorded"),
        (record_request(secret), "usage replayed", "UsageReplayed"),
        (record_request(example(quantity=2)), "request refused", "KeyReused"),
        (record_request(example(quantity="s3cret")), "request refused", "RequestRefused"),
    ]
    for event, message, metric in outcomes:
        function(event)
        line, metrics = told(function, capsys)
        assert line["message"] == message
        assert line["correlation_id"] == "AbC1dEfGoAMEJrg="
        assert metrics[metric] == [1.0]
        assert metrics["Retries"] == metrics["TransactionConflicts"] == [0.0]
        assert not any(word in json.dumps([line, metrics]) for word in ("4111", "s3cret", "abc-123", "eyJ"))


def test_conflicts_and_retries_are_counted(function: RecordFunction, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [
        cancelled(["None", "TransactionConflict"]),
        cancelled(["TransactionConflict", "None"]),
        failed("ThrottlingException"),
    ]
    answer_with(function.client, "TransactWriteItems", answers)
    function(record_request(example()))
    _, metrics = told(function, capsys)
    assert metrics["TransactionConflicts"] == [2.0]
    assert metrics["Retries"][0] >= 2


def test_an_unforeseen_failure_is_logged_with_its_cause(
    function: RecordFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(function.client, "TransactWriteItems", [failed("AccessDeniedException")])
    function(record_request(example()))
    line, metrics = told(function, capsys)
    assert (line["level"], line["message"], line["status"]) == ("ERROR", "request failed", 500)
    assert "AccessDeniedException" in line["exception"]
    assert metrics["RequestFailed"] == [1.0]


# --- what the environment sets --------------------------------------------------------------------------------


def test_the_settings_are_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"TABLE_NAME": "another", "RETENTION_DAYS": "123", "ORGANIZATION_CLAIM": "custom:org"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    service = record_api.service_from_environment()
    assert (service.books.table, service.organization_claim) == ("another", "custom:org")
    assert service.books.retention == timedelta(days=123)
    assert isinstance(service.random, SystemRandom)


def test_the_client_has_its_explicit_timeouts() -> None:
    config: Any = record_api.service_from_environment().books.client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (1.0, 2.0)
    assert config.retries["total_max_attempts"] == 2
