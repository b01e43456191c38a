import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Any

import pytest
from metering import record_api
from metering.http import strict_json
from metering.http.caller import TokenRules
from metering.http.operations import RECORD_USAGES
from metering.model.organizations import SUBSCRIPTION_STATUSES, Organization
from metering.model.plans import Entitlement, Plan
from metering.outbox.events import new_fact
from metering.storage.organization_items import organization_key

from tests.testing.breaches import BREACHES
from tests.testing.contention import answer_with, cancelled, failed
from tests.testing.payloads import batch_request, example, payload, record_request
from tests.testing.problems import assert_problem
from tests.testing.service import NOW, Context, RecordFunction, Reply, StatusUnexpected
from tests.testing.table import counted, put_on_plan, put_organization, records


def test_an_unexpected_status_fails_the_test(function: RecordFunction) -> None:
    with pytest.raises(StatusUnexpected, match="expected 200, got 422"):
        function(record_request(example(idempotencyKey="another case")))
    with pytest.raises(StatusUnexpected, match="expected 422, got 200"):
        function(record_request(example()), 422)


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
    assert (item["pk"], item["sk"]) == ({"S": "usage#demo-org#0b"}, {"S": "nightly-2026-11-23"})
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
    assert item["counter"]["M"]["day"] == {"N": "23"}
    assert int(item["expiresAt"]["N"]) == int(NOW.timestamp()) + 400 * 86_400 + 20 * 60


def test_the_fingerprint_is_of_the_members_sent_without_the_key(function: RecordFunction) -> None:
    function(record_request(example(idempotencyKey="in-the-body")))
    function(record_request(example(idempotencyKey=...), headers={"idempotency-key": "in-the-header"}))
    prints = {item["fingerprint"]["S"] for item in records(function.client, "usage", "demo-org")}
    assert prints == {strict_json.fingerprint({"feature": "api_calls", "quantity": 1})}


def test_features_and_organizations_are_counted_apart(function: RecordFunction) -> None:
    function(record_request(example()))
    function(record_request(example(feature="api_calls2", idempotencyKey="2", quantity=5)))
    function(record_request(example(feature="API_calls", idempotencyKey="another-case", quantity=11)))
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


# --- replays ---------------------------------------------------------------------------------------------------------


def test_the_same_usage_again_counts_once_and_is_marked_as_a_replay(function: RecordFunction) -> None:
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
def test_the_same_key_with_other_content_is_a_conflict(function: RecordFunction, other: dict[str, Any]) -> None:
    function(record_request(example()))
    assert_problem(function(record_request(example(**other)), 422), 422, "IDEMPOTENCY_KEY_REUSED", "conflict")
    assert counted(function.client, "usage", "demo-org") == (1, 1)


@pytest.mark.parametrize(("first", "second"), [("true", "1"), ("1", "true"), ("false", "0"), ("null", "false")])
def test_metadata_that_is_equal_only_in_python_is_other_content(
    function: RecordFunction, first: str, second: str
) -> None:
    sent = json.dumps(example(metadata={"beta": "?"}))
    function(record_request(raw=sent.replace('"?"', first)))
    reply = function(record_request(raw=sent.replace('"?"', second)), 422)
    assert_problem(reply, 422, "IDEMPOTENCY_KEY_REUSED", "conflict")


@pytest.mark.parametrize("microsecond", [999_500, 999_600, 999_999])
@pytest.mark.parametrize("send", [record_request, lambda body: batch_request([body])], ids=["alone", "in a batch"])
def test_the_last_moment_of_a_month_is_in_it(function: RecordFunction, send: Any, microsecond: int) -> None:
    function.clock.at = datetime(2026, 11, 30, 23, 59, 59, microsecond, UTC)
    function(send(example()))
    (record,) = records(function.client, "usage", "demo-org")
    assert record["billingPeriod"] == {"S": "2026-11"}
    assert record["recordedAt"] == {"S": "2026-11-30T23:59:59.999Z"}
    assert record["counter"]["M"]["pk"] == {"S": "counter#demo-org#2026-11"}
    assert (
        int(record["expiresAt"]["N"])
        == int(datetime(2026, 11, 30, 23, 59, 59, 0, UTC).timestamp()) + 400 * 86_400 + 20 * 60
    )
    published = new_fact({"eventName": "INSERT", "dynamodb": {"NewImage": record}})
    assert published is not None
    assert published.payload["recordedAt"] == "2026-11-30T23:59:59.999Z"


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
    function(record_request(example(quantity=2)), 422)
    function.clock.pass_by(seconds=1)
    again = function(record_request(example(quantity=2)))
    assert again.body["currentUsage"] == 2
    assert "Idempotent-Replayed" not in again.headers
    (second,) = records(function.client, "usage", "demo-org")
    assert second["eventId"] != first["eventId"]
    assert counted(function.client, "usage", "demo-org") == (3, 2)


# --- organizations ---------------------------------------------------------------------------------------------------


def test_an_unknown_organization_is_not_found_and_works_as_soon_as_it_exists(function: RecordFunction) -> None:
    event = record_request(example(), claims={"org_id": "newcomer"})
    assert_problem(function(event, 404), 404, "NOT_FOUND", "not_found")
    put_organization(function.client, "usage", "newcomer", "active")
    function(event)


def test_an_inactive_organization_records_nothing_new_within_a_minute(function: RecordFunction) -> None:
    function(record_request(example()))
    put_organization(function.client, "usage", "demo-org", "inactive")
    function.clock.pass_by(seconds=59)
    function(record_request(example(idempotencyKey="in-time")))
    function.clock.pass_by(seconds=2)
    assert_problem(function(record_request(example(idempotencyKey="late")), 403), 403, "FORBIDDEN", "auth")
    assert counted(function.client, "usage", "demo-org") == (2, 2)


def test_a_malformed_record_does_not_count_as_absent(function: RecordFunction) -> None:
    function(record_request(example()))
    (stored,) = records(function.client, "usage", "demo-org")
    function.client.put_item(TableName="usage", Item={**stored, "quantity": {"S": "1"}})
    put_organization(function.client, "usage", "demo-org", "inactive")
    cold = RecordFunction(function.client, function.clock)
    # The answer is 500 and not 403, because the unreadable record may be counted already.
    assert_problem(cold(record_request(example()), 500), 500, "INTERNAL_ERROR", "internal")


@pytest.mark.parametrize("status", SUBSCRIPTION_STATUSES)
def test_usage_counts_in_every_subscription_status(function: RecordFunction, status: str) -> None:
    put_on_plan(function.client, "usage", Organization("demo-org", subscription_status=status), None)
    assert function(record_request(example())).body["recorded"] is True
    assert counted(function.client, "usage", "demo-org") == (1, 1)


def test_counted_usage_of_an_inactive_organization_is_acknowledged(function: RecordFunction) -> None:
    function(record_request(example()))
    put_organization(function.client, "usage", "demo-org", "inactive")
    cold = RecordFunction(function.client, function.clock)
    reads = answer_with(function.client, "GetItem", [])
    replay = cold(record_request(example()))
    assert (replay.body["currentUsage"], replay.headers["Idempotent-Replayed"]) == (1, "true")
    assert_problem(cold(record_request(example(quantity=2)), 422), 422, "IDEMPOTENCY_KEY_REUSED", "conflict")
    # This is the read of the organization. A transaction reads the record, and transactions are always consistent.
    assert [read["ConsistentRead"] for read in reads] == [True]


def test_an_expired_record_is_no_acknowledgement(function: RecordFunction) -> None:
    function(record_request(example()))
    put_organization(function.client, "usage", "demo-org", "inactive")
    function.clock.pass_by(days=400)
    assert_problem(function(record_request(example()), 403), 403, "FORBIDDEN", "auth")


# --- invalid requests ------------------------------------------------------------------------------------------------


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
def test_an_invalid_request_gets_the_contracts_problem_and_writes_nothing(
    function: RecordFunction, event: Any, status: int, code: str, category: str
) -> None:
    event["requestContext"]["requestId"] = "AbC1dEfGoAMEJrg="
    assert_problem(function(event, status), status, code, category)
    assert counted(function.client, "usage", "demo-org") == (0, 0)
    assert records(function.client, "usage", "demo-org") == []


def test_a_problem_names_its_operation_and_its_issues(function: RecordFunction) -> None:
    body = function(record_request(example(quantity="1", organizationId="acme")), 422).body
    assert body["operation"] == {"key": "saas.billing.usage.record", "version": "1.0.0", "kind": "command"}
    assert [issue["path"] for issue in body["issues"]] == ["quantity", "organizationId"]
    assert all(issue.keys() == {"path", "code", "message"} for issue in body["issues"])
    unknown = function(payload("http-unknown-route.json"), 404).body
    assert not unknown.keys() & {"operation", "issues"}


@pytest.mark.parametrize(
    ("event", "status", "path", "code"),
    [
        (record_request(raw=""), 400, "", "empty"),
        (record_request(raw="{"), 400, "", "not_json"),
        (record_request(raw="[]"), 400, "", "not_an_object"),
        (record_request(raw='{"a":1,"a":1}'), 400, "", "duplicate_member"),
        (record_request(raw='{"a":NaN}'), 400, "", "not_finite"),
        (record_request(raw='{"a":"\ufffd"}'), 400, "", "not_utf8"),
        (record_request(raw="!") | {"isBase64Encoded": True}, 400, "", "not_base64"),
        (record_request(example(), headers={"content-type": "text/json"}), 415, "", "media_type_unsupported"),
        (record_request(raw=" " * 16385), 413, "", "too_large"),
        (record_request(example(idempotencyKey=...)), 400, "idempotencyKey", "missing"),
        (record_request(example(), headers={"idempotency-key": "other"}), 400, "idempotencyKey", "keys_differ"),
        (record_request(example(), headers={"idempotency-key": '"abc'}), 400, "idempotencyKey", "header_malformed"),
    ],
)
def test_a_bad_request_names_its_cause(function: RecordFunction, event: Any, status: int, path: str, code: str) -> None:
    body = function(event, status).body
    assert body["issues"] == [{"path": path, "code": code, "message": body["detail"]}]


def test_a_wrong_method_is_answered_with_the_allow_header(function: RecordFunction) -> None:
    event = record_request() | {"routeKey": "$default"}
    event["requestContext"]["http"]["method"] = "GET"
    reply = function(event, 405)
    assert_problem(reply, 405, "METHOD_NOT_ALLOWED")
    assert reply.headers["Allow"] == "POST"


@pytest.mark.parametrize("event", [None, {}, [], {"version": "1.0", "httpMethod": "POST", "path": "/"}])
def test_any_event_gets_a_documented_answer(function: RecordFunction, event: Any) -> None:
    assert function(event, 404).body["code"] == "NOT_FOUND"


# --- batches ---------------------------------------------------------------------------------------------------------


def results(reply: Reply) -> list[dict[str, Any]]:
    """The results of a batch: one for each record, in order, with totals that match."""
    assert reply.headers == {"Content-Type": "application/json"}
    assert reply.body.keys() == {"results", "totals"}
    found: list[dict[str, Any]] = reply.body["results"]
    assert [result["index"] for result in found] == list(range(len(found)))
    assert Counter(result["status"] for result in found) == Counter(reply.body["totals"])
    return found


def statuses(reply: Reply) -> list[str]:
    return [result["status"] for result in results(reply)]


def test_a_batch_is_answered_record_by_record(function: RecordFunction) -> None:
    assert results(function(payload("http-record-batch.json"))) == [
        {"index": 0, "status": "recorded", "currentUsage": 1, "limitReached": False},
        {"index": 1, "status": "recorded", "currentUsage": 20, "limitReached": False},
    ]
    assert counted(function.client, "usage", "demo-org") == (21, 2)


def test_a_record_of_a_batch_is_stored_as_a_single_one_is(function: RecordFunction) -> None:
    body = example(metadata={"a": 1, "b": [None]}, sourceId="s", sourceType="t", quantity=7)
    function(record_request(body))
    function(batch_request([body | {"idempotencyKey": "in-a-batch"}]))
    single, batched = records(function.client, "usage", "demo-org")
    assert single.keys() == batched.keys()
    assert {name for name in single if single[name] != batched[name]} == {"pk", "sk", "eventId"}


def test_a_single_record_in_a_batch_is_a_replay(function: RecordFunction) -> None:
    function(record_request(example(idempotencyKey="in-the-body")))
    function(record_request(example(idempotencyKey=...), headers={"idempotency-key": '"in-the-header"'}))
    again = function(
        batch_request([example(idempotencyKey="in-the-header"), example(idempotencyKey="in-the-body"), example()])
    )
    assert statuses(again) == ["replayed", "replayed", "recorded"]
    assert counted(function.client, "usage", "demo-org") == (3, 3)


@pytest.mark.parametrize(
    "alone",
    [
        record_request(example()),
        record_request(example(idempotencyKey=...), headers={"idempotency-key": "abc-123"}),
        record_request(dict(reversed(example().items()))),
    ],
    ids=["body", "header", "order"],
)
def test_a_record_of_a_batch_sent_alone_is_a_replay(function: RecordFunction, alone: Any) -> None:
    function(batch_request([example(idempotencyKey="other"), example()]))
    replay = function(alone)
    assert replay.body["currentUsage"] == 2
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert counted(function.client, "usage", "demo-org") == (2, 2)


def test_other_content_under_a_used_key_is_a_conflict_both_ways(function: RecordFunction) -> None:
    function(record_request(example(idempotencyKey="alone")))
    conflict, _ = results(function(batch_request([example(idempotencyKey="alone", quantity=2), example()])))
    assert (conflict["status"], conflict["problem"]["code"]) == ("conflict", "IDEMPOTENCY_KEY_REUSED")
    assert_problem(function(record_request(example(quantity=2)), 422), 422, "IDEMPOTENCY_KEY_REUSED", "conflict")
    assert counted(function.client, "usage", "demo-org") == (2, 2)


def test_a_whole_batch_again_is_all_replays(function: RecordFunction) -> None:
    batch = [example(idempotencyKey=f"k-{number}", quantity=number + 1) for number in range(100)]
    assert statuses(function(batch_request(batch))) == ["recorded"] * 100
    assert statuses(function(batch_request(batch))) == ["replayed"] * 100
    assert counted(function.client, "usage", "demo-org") == (5050, 100)


@pytest.mark.parametrize(("members", "path", "code"), BREACHES)
def test_an_invalid_record_says_why_and_harms_no_neighbour(
    function: RecordFunction, members: dict[str, Any], path: str, code: str
) -> None:
    batch = [example(idempotencyKey="before"), example(**members), example(idempotencyKey="after")]
    reply = function(batch_request(batch))
    assert statuses(reply) == ["recorded", "invalid", "recorded"]
    problem = results(reply)[1]["problem"]
    assert (problem["status"], problem["code"], problem["retryable"]) == (422, "VALIDATION_FAILED", False)
    # The path starts in the record and not in the batch, as if the record had been sent alone.
    assert [(issue["path"], issue["code"]) for issue in problem["issues"]] == [(path, code)]
    assert problem["operation"]["key"] == "saas.billing.usage.record-batch"
    assert len(records(function.client, "usage", "demo-org")) == 2


@pytest.mark.parametrize("record", [None, 7, "text", [], [example()], True])
def test_a_record_that_is_no_object_is_invalid(function: RecordFunction, record: Any) -> None:
    _, invalid = results(function(batch_request([example(), record])))
    assert [(issue["path"], issue["code"]) for issue in invalid["problem"]["issues"]] == [("", "dict_type")]


def test_a_batch_of_nothing_valid_is_answered_and_writes_nothing(function: RecordFunction) -> None:
    assert statuses(function(batch_request([7, example(idempotencyKey=...)]))) == ["invalid", "invalid"]
    assert records(function.client, "usage", "demo-org") == []


def test_a_batch_of_the_largest_records_is_recorded(function: RecordFunction) -> None:
    largest = {
        "feature": "f" * 64,
        "quantity": 10**9,
        "sourceId": "\U0001f600" * 255,
        "sourceType": "\U0001f600" * 255,
        "metadata": {"a": "x" * (4096 - len('{"a":""}'))},
    }
    batch = [largest | {"idempotencyKey": f"{number:~>255}"} for number in range(100)]
    event = batch_request(raw=strict_json.compact({"records": batch}))
    assert len(event["body"].encode()) > 600_000
    assert statuses(function(event)) == ["recorded"] * 100
    assert counted(function.client, "usage", "demo-org") == (100 * 10**9, 100)


def test_the_longest_answer_is_one_that_lambda_can_give(function: RecordFunction) -> None:
    # The request has the most issues that a result can have, and the most bytes. A control character takes most bytes
    # in JSON.
    per_record = RECORD_USAGES.max_body_bytes // 100 - 10
    names = [f"{number:02}" + "\x01" * ((per_record // 50 - 6 - 2) // 6) for number in range(50)]
    event = batch_request([dict.fromkeys(names, 1)] * 100)
    assert RECORD_USAGES.max_body_bytes * 0.9 < len(event["body"]) <= RECORD_USAGES.max_body_bytes
    context: Any = Context(function.clock)
    answer = function.answer(event, context)
    assert len(json.loads(answer["body"])["results"][99]["problem"]["issues"]) == 50
    # Source: Lambda quotas. The invocation payload of a response is 6 MB, counted in its JSON.
    assert len(json.dumps(answer)) < 6_000_000


def test_each_result_has_the_total_after_the_batch_and_the_limit(function: RecordFunction) -> None:
    features = {"seats": Entitlement(limit=3, hard=True), "api_calls": Entitlement(limit=2)}
    put_on_plan(function.client, "usage", Organization("demo-org"), Plan("pro", "Pro", features))
    batch = [
        example(feature="seats", idempotencyKey="1", quantity=2),
        example(feature="seats", idempotencyKey="2", quantity=2),
        example(idempotencyKey="3"),
        example(feature="seats", idempotencyKey="4"),
        example(idempotencyKey="5"),
        example(feature="other", idempotencyKey="6"),
    ]
    seats = {"currentUsage": 3, "limit": 3, "limitReached": True}
    api_calls = {"currentUsage": 2, "limit": 2, "limitReached": True}
    assert results(function(batch_request(batch))) == [
        {"index": 0, "status": "recorded", **seats},
        {"index": 1, "status": "refused", **seats},
        {"index": 2, "status": "recorded", **api_calls},
        {"index": 3, "status": "recorded", **seats},
        {"index": 4, "status": "recorded", **api_calls},
        {"index": 5, "status": "recorded", "currentUsage": 1, "limitReached": False},
    ]


def test_a_refused_record_reports_a_reached_limit_even_below_it(function: RecordFunction) -> None:
    plan = Plan("pro", "Pro", {"api_calls": Entitlement(limit=3, hard=True)})
    put_on_plan(function.client, "usage", Organization("demo-org"), plan)
    recorded, refused = results(function(batch_request([example(), example(idempotencyKey="more", quantity=3)])))
    assert recorded["limitReached"] is False
    assert (refused["status"], refused["currentUsage"], refused["limitReached"]) == ("refused", 1, True)


def test_a_refused_record_reports_a_reached_limit_even_without_a_total(
    function: RecordFunction,
) -> None:
    plan = Plan("pro", "Pro", {"api_calls": Entitlement(limit=3, hard=True)})
    put_on_plan(function.client, "usage", Organization("demo-org"), plan)
    answer_with(function.client, "Query", [failed("ThrottlingException")] * 1000)
    _, refused = results(function(batch_request([example(quantity=2), example(idempotencyKey="more", quantity=2)])))
    assert refused == {"index": 1, "status": "refused", "limit": 3, "limitReached": True}


def test_an_unknown_feature_is_invalid_where_the_environment_rejects_them(function: RecordFunction) -> None:
    strict = RecordFunction(function.client, function.clock, reject_unknown_features=True)
    put_on_plan(function.client, "usage", Organization("demo-org"), Plan("pro", "Pro", {"api_calls": Entitlement()}))
    reply = strict(batch_request([example(feature="api_cals", idempotencyKey="typo"), example()]))
    assert statuses(reply) == ["invalid", "recorded"]
    (issue,) = results(reply)[0]["problem"]["issues"]
    assert (issue["path"], issue["code"]) == ("feature", "feature_unknown")
    assert "api_calls" in issue["message"]


@pytest.mark.parametrize(
    ("status", "refusal"), [("inactive", (403, "FORBIDDEN", "auth")), (None, (404, "NOT_FOUND", "not_found"))]
)
def test_earlier_records_are_acknowledged_and_the_rest_is_invalid(
    function: RecordFunction, status: str | None, refusal: tuple[int, str, str]
) -> None:
    function(batch_request([example(idempotencyKey="k-1"), example(idempotencyKey="k-2")]))
    if status is None:
        function.client.delete_item(TableName="usage", Key=organization_key("demo-org"))
    else:
        put_organization(function.client, "usage", "demo-org", status)
    cold = RecordFunction(function.client, function.clock)
    batch = [
        example(idempotencyKey="k-1"),
        example(idempotencyKey="new"),
        example(idempotencyKey="k-2", quantity=2),
        7,
    ]
    reply = cold(batch_request(batch))
    assert statuses(reply) == ["replayed", "invalid", "conflict", "invalid"]
    assert results(reply)[0]["currentUsage"] == 2
    problem = results(reply)[1]["problem"]
    assert (problem["status"], problem["code"], problem["category"]) == refusal
    # Without an earlier record, the whole batch gets this answer.
    assert_problem(cold(batch_request([example(idempotencyKey="new"), 7]), refusal[0]), *refusal)
    assert counted(function.client, "usage", "demo-org") == (2, 2)


def test_records_that_outlast_the_deadline_are_unavailable(function: RecordFunction) -> None:
    answer_with(function.client, "TransactWriteItems", [failed("ThrottlingException")] * 1000)
    reply = function(batch_request([example(), example(quantity="1")]))
    assert statuses(reply) == ["unavailable", "invalid"]
    problem = results(reply)[0]["problem"]
    assert (problem["status"], problem["code"], problem["retryable"]) == (503, "SERVICE_UNAVAILABLE", True)
    assert problem["retryAfter"] >= 1
    assert records(function.client, "usage", "demo-org") == []


def test_a_batch_of_which_nothing_could_be_tried_is_unavailable(function: RecordFunction) -> None:
    answer_with(function.client, "GetItem", [failed("ThrottlingException")] * 1000)
    reply = function(batch_request(), 503)
    assert_problem(reply, 503, "SERVICE_UNAVAILABLE", "dependency")
    assert reply.headers["Retry-After"] == str(reply.body["retryAfter"])


def test_a_total_that_cannot_be_read_in_time_is_left_out(function: RecordFunction) -> None:
    answer_with(function.client, "Query", [failed("ThrottlingException")] * 1000)
    assert results(function(batch_request([example()]))) == [{"index": 0, "status": "recorded"}]


def test_a_calm_batch_makes_one_write_and_one_read_for_each_feature(function: RecordFunction) -> None:
    function(record_request(example()))
    calls: list[str] = []
    function.client.meta.events.register("before-send.dynamodb", lambda event_name, **_: calls.append(event_name))
    names = ["api_calls", "storage_gb", "exports"]
    function(batch_request([example(feature=names[at % 3], idempotencyKey=f"k-{at}") for at in range(60)]))
    assert [call.rsplit(".", 1)[1] for call in calls] == ["TransactWriteItems"] + ["Query"] * 3


@pytest.mark.parametrize(
    ("event", "status", "path", "code"),
    [
        (batch_request([]), 422, "records", "too_short"),
        (batch_request([example()] * 101), 422, "records", "too_long"),
        (batch_request(raw='{"records":{}}'), 422, "records", "list_type"),
        (batch_request(raw="{}"), 422, "records", "missing"),
        (batch_request(raw=json.dumps(example())), 422, None, None),
        (batch_request(raw='{"records":[],"organizationId":"acme"}'), 422, None, None),
        (batch_request(raw=json.dumps([example()])), 400, "", "not_an_object"),
        (batch_request(raw=""), 400, "", "empty"),
        (batch_request(raw='{"records":['), 400, "", "not_json"),
        (batch_request(raw='{"records":[],"records":[]}'), 400, "", "duplicate_member"),
        (batch_request(raw='{"records":[{"quantity":1,"quantity":1}]}'), 400, "", "duplicate_member"),
        (batch_request(raw='{"records":[{"quantity":NaN}]}'), 400, "", "not_finite"),
        (batch_request(headers={"idempotency-key": "abc-123"}), 400, "", "header_unexpected"),
        (batch_request(headers={"Idempotency-Key": '"abc-123"'}), 400, "", "header_unexpected"),
        (batch_request(raw=batch_request()["body"].ljust(1024 * 1024 + 1)), 413, "", "too_large"),
        (batch_request(headers={"content-type": "text/plain"}), 415, "", "media_type_unsupported"),
    ],
)
def test_a_malformed_batch_is_invalid_as_a_whole(
    function: RecordFunction, event: Any, status: int, path: str | None, code: str | None
) -> None:
    reply = function(event, status)
    assert_problem(reply, status, "VALIDATION_FAILED" if status == 422 else "BAD_REQUEST")
    if code is not None:
        assert [(issue["path"], issue["code"]) for issue in reply.body["issues"]] == [(path, code)]
    assert reply.body["operation"]["key"] == "saas.billing.usage.record-batch"
    assert records(function.client, "usage", "demo-org") == []


@pytest.mark.parametrize(
    "claims", [{"scope": "usage:read"}, {"scope": None}, {"org_id": None}, {"org_id": "no org"}], ids=str
)
def test_a_caller_without_permission_may_not_record_batches(function: RecordFunction, claims: dict[str, Any]) -> None:
    # The answer says nothing about the input.
    for event in (batch_request(claims=claims), batch_request(raw="{", claims=claims)):
        assert_problem(function(event, 403), 403, "FORBIDDEN", "auth")
    assert records(function.client, "usage", "demo-org") == []


def test_a_body_of_1_mib_is_accepted(function: RecordFunction) -> None:
    event = batch_request(raw=batch_request()["body"].ljust(1024 * 1024))
    assert statuses(function(event)) == ["recorded", "recorded"]


# --- logs and metrics ------------------------------------------------------------------------------------------------


def line_and_metrics(
    function: RecordFunction, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one log line since the last call, and the one line of metrics."""
    (line,) = function.log.getvalue().splitlines()
    function.log.seek(0)
    function.log.truncate()
    (metrics,) = capsys.readouterr().out.splitlines()
    return json.loads(line), json.loads(metrics)


def test_each_outcome_is_one_line_and_one_metric(function: RecordFunction, capsys: pytest.CaptureFixture[str]) -> None:
    secret = example(metadata={"card": "4111"}, sourceId="s3cret")
    outcomes = [
        (record_request(secret), 200, "usage recorded", "UsageRecorded"),
        (record_request(secret), 200, "usage replayed", "UsageReplayed"),
        (record_request(example(quantity=2)), 422, "invalid request", "KeyReused"),
        (record_request(example(quantity="s3cret")), 422, "invalid request", "RequestInvalid"),
    ]
    for event, status, message, metric in outcomes:
        function(event, status)
        line, metrics = line_and_metrics(function, capsys)
        assert line["message"] == message
        assert line["correlation_id"] == "AbC1dEfGoAMEJrg="
        assert metrics[metric] == [1.0]
        assert metrics["Retries"] == metrics["TransactionConflicts"] == [0.0]
        assert not any(word in json.dumps([line, metrics]) for word in ("4111", "s3cret", "abc-123", "eyJ"))


def test_a_batch_is_one_line_and_counts_its_records_as_single_ones(
    function: RecordFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan("pro", "Pro", {"seats": Entitlement(limit=0, hard=True)})
    put_on_plan(function.client, "usage", Organization("demo-org"), plan)
    secret = example(metadata={"card": "4111"}, sourceId="s3cret")
    batch = [secret, secret, example(quantity=2), example(idempotencyKey="2", quantity="s3cret"), "s3cret"]
    function(batch_request([*batch, example(idempotencyKey="3", feature="seats")]))
    line, metrics = line_and_metrics(function, capsys)
    totals = {"recorded": 1, "replayed": 1, "refused": 1, "conflict": 1, "invalid": 2, "unavailable": 0}
    assert (line["level"], line["message"]) == ("INFO", "batch answered")
    assert (line["organization"], line["correlation_id"]) == ("demo-org", "AbC1dEfGoAMEJrg=")
    assert {name: line[name] for name in totals} == totals
    assert (line["conflicts"], line["retries"]) == (0, 0)
    counts = {"UsageRecorded": 1, "UsageReplayed": 1, "UsageRefused": 1, "KeyReused": 1, "RequestInvalid": 2}
    assert {name: metrics[name] for name in counts} == {name: [float(count)] for name, count in counts.items()}
    assert "RequestUnavailable" not in metrics
    assert metrics["Retries"] == metrics["TransactionConflicts"] == [0.0]
    assert not any(word in json.dumps([line, metrics]) for word in ("4111", "s3cret", "abc-123", "eyJ"))


def test_a_batch_that_is_invalid_as_a_whole_counts_as_one_invalid_request(
    function: RecordFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    function(batch_request([example(sourceId="s3cret")] * 101), 422)
    line, metrics = line_and_metrics(function, capsys)
    assert (line["level"], line["message"], line["status"]) == ("INFO", "invalid request", 422)
    assert metrics["RequestInvalid"] == [1.0]
    assert "s3cret" not in json.dumps(line)


def test_unavailable_records_of_a_batch_are_counted(
    function: RecordFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "None", "TransactionConflict"])] * 1000)
    function(batch_request([example(idempotencyKey="1"), example(idempotencyKey="2")]))
    line, metrics = line_and_metrics(function, capsys)
    assert (line["unavailable"], metrics["RequestUnavailable"]) == (2, [2.0])
    assert line["conflicts"] == metrics["TransactionConflicts"][0] > 0
    assert line["retries"] == metrics["Retries"][0] > 0


def test_conflicts_and_retries_are_counted(function: RecordFunction, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [
        cancelled(["None", "TransactionConflict"]),
        cancelled(["TransactionConflict", "None"]),
        failed("ThrottlingException"),
    ]
    answer_with(function.client, "TransactWriteItems", answers)
    function(record_request(example()))
    _, metrics = line_and_metrics(function, capsys)
    assert metrics["TransactionConflicts"] == [2.0]
    assert metrics["Retries"][0] >= 2


@pytest.mark.parametrize(
    "codes", [["TransactionConflict", "ThrottlingError"], ["ThrottlingError", "TransactionConflict"]]
)
def test_a_conflict_is_counted_whatever_else_was_throttled(
    function: RecordFunction, capsys: pytest.CaptureFixture[str], codes: list[str]
) -> None:
    answer_with(function.client, "TransactWriteItems", [cancelled(codes)])
    function(record_request(example()))
    _, metrics = line_and_metrics(function, capsys)
    assert metrics["TransactionConflicts"] == [1.0]


def test_an_unforeseen_failure_is_logged_with_its_cause(
    function: RecordFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(function.client, "TransactWriteItems", [failed("AccessDeniedException")])
    function(record_request(example()), 500)
    line, metrics = line_and_metrics(function, capsys)
    assert (line["level"], line["message"], line["status"]) == ("ERROR", "request failed", 500)
    assert "AccessDeniedException" in line["exception"]
    assert metrics["RequestFailed"] == [1.0]


# --- settings -------------------------------------------------------------------------------------------------


def test_the_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "TABLE_NAME": "another",
        "RETENTION_DAYS": "123",
        "ORGANIZATION_CLAIM": "custom:org",
        "SCOPE_PREFIX": "m/",
        "ROLES_AS_SCOPES": "yes",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    service = record_api.service_from_environment()
    assert (service.deps.table, service.rules) == ("another", TokenRules("custom:org", "m/", roles_as_scopes=True))
    assert service.deps.retention == timedelta(days=123)
    assert isinstance(service.random, SystemRandom)


def test_the_client_has_its_explicit_timeouts() -> None:
    config: Any = record_api.service_from_environment().deps.client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (1.0, 2.0)
    assert config.retries["total_max_attempts"] == 2
