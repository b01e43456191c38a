"""Contention and failures of the store in the record function: retries, deadline, and commits without an answer."""

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from metering.http.endpoint import RESERVE_S, TIMEOUTS

from tests.testing.contention import answer_with, cancelled, failed, lose_answers, parsed, show_late
from tests.testing.payloads import batch_request, example, record_request
from tests.testing.problems import assert_problem
from tests.testing.service import Longest, RecordFunction
from tests.testing.table import counted, records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def test_a_conflict_on_the_counter_is_retried_on_another_shard(function: RecordFunction) -> None:
    function(record_request(example(idempotencyKey="before")))
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])])
    assert function(record_request(example())).body["currentUsage"] == 2
    (item,) = (item for item in records(function.client, "usage", "demo-org") if item["sk"]["S"] == "abc-123")
    assert item["counter"]["M"]["sk"] == {"S": "api_calls#1"}


def test_waits_grow_while_there_are_no_more_shards_to_choose_among(dynamodb: "DynamoDBClient") -> None:
    function = RecordFunction(dynamodb, random=Longest(1))
    function(record_request(example(idempotencyKey="before")))
    answer_with(dynamodb, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])] * 5)
    function(record_request(example()))
    assert function.clock.slept == [0.02, 0.02, 0.02, 0.04, 0.08]


def test_a_counter_that_is_not_begun_does_not_spread(function: RecordFunction) -> None:
    # The request that starts the counter may do so under a hard limit, which relies on the first shard alone.
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])])
    function(record_request(example()))
    (item,) = records(function.client, "usage", "demo-org")
    assert item["counter"]["M"]["sk"] == {"S": "api_calls#0"}


def test_whether_a_counter_may_spread_is_read_once(function: RecordFunction, dynamodb: "DynamoDBClient") -> None:
    function(record_request(example(idempotencyKey="before")))
    newcomer = RecordFunction(dynamodb)
    newcomer(record_request(example(idempotencyKey="elsewhere", feature="storage_gb")))
    reads = answer_with(dynamodb, "Query", [])
    for key in ("1", "2"):
        answer_with(dynamodb, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])])
        newcomer(record_request(example(idempotencyKey=key)))
    # One read finds the shard, and one the total of each request.
    assert len(reads) == 1 + 2


@pytest.mark.parametrize("codes", [["TransactionConflict", "None"], ["TransactionConflict", "TransactionConflict"]])
def test_a_conflict_on_the_record_never_changes_the_shard(function: RecordFunction, codes: list[str]) -> None:
    # The counter started without a hard limit, so it may spread.
    function(record_request(example(idempotencyKey="before")))
    answer_with(function.client, "TransactWriteItems", [cancelled(codes)])
    function(record_request(example()))
    shards = [item["counter"]["M"]["sk"] for item in records(function.client, "usage", "demo-org")]
    assert shards == [{"S": "api_calls#0"}] * 2


def test_a_record_that_is_there_outranks_a_conflict_on_the_counter(function: RecordFunction) -> None:
    function(record_request(example()))
    (stored,) = records(function.client, "usage", "demo-org")
    reasons = [{"Code": "ConditionalCheckFailed", "Item": stored}, {"Code": "TransactionConflict"}]
    sent = answer_with(
        function.client, "TransactWriteItems", [failed("TransactionCanceledException", CancellationReasons=reasons)]
    )
    assert function(record_request(example())).headers["Idempotent-Replayed"] == "true"
    assert len(sent) == 1


CONFLICTS = [["TransactionConflict", "None"], ["None", "TransactionConflict"]]


@pytest.mark.parametrize("codes", CONFLICTS)
def test_a_rival_that_took_the_key_during_a_conflict_is_found_by_the_next_try(
    function: RecordFunction, codes: list[str]
) -> None:
    function(record_request(example()))
    answer_with(function.client, "TransactWriteItems", [cancelled(codes)])
    replay = function(record_request(example()))
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert counted(function.client, "usage", "demo-org") == (1, 1)


@pytest.mark.parametrize("codes", CONFLICTS)
def test_a_rival_with_other_content_under_the_key_is_found_by_the_next_try(
    function: RecordFunction, codes: list[str]
) -> None:
    function(record_request(example()))
    answer_with(function.client, "TransactWriteItems", [cancelled(codes)])
    assert_problem(function(record_request(example(quantity=2)), 422), 422, "IDEMPOTENCY_KEY_REUSED", "conflict")
    assert counted(function.client, "usage", "demo-org") == (1, 1)


def test_the_total_is_the_sum_of_all_shards(function: RecordFunction) -> None:
    function(record_request(example(quantity=3)))
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])])
    assert function(record_request(example(idempotencyKey="another-shard", quantity=4))).body["currentUsage"] == 7


THROTTLES = [
    failed("ThrottlingException"),
    failed("ProvisionedThroughputExceededException"),
    failed("RequestLimitExceeded"),
    failed("InternalServerError", status=500),
    failed("ServiceUnavailable", status=503),
    failed("TransactionInProgressException"),
]
BUSY_ITEMS = [cancelled(["None", "ThrottlingError"]), cancelled(["ProvisionedThroughputExceeded", "None"])]


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        *[(operation, answer) for operation in ("TransactWriteItems", "Query", "GetItem") for answer in THROTTLES],
        *[("TransactWriteItems", answer) for answer in BUSY_ITEMS],
    ],
)
def test_a_busy_store_is_asked_again(function: RecordFunction, operation: str, answer: Any) -> None:
    sent = answer_with(function.client, operation, [answer] * 7)
    assert function(record_request(example())).body["currentUsage"] == 1
    assert len(sent) == 8
    assert counted(function.client, "usage", "demo-org") == (1, 1)


def test_a_commit_whose_answer_was_lost_is_answered_as_recorded(function: RecordFunction) -> None:
    lost = lose_answers(function.client, "TransactWriteItems", times=2)
    reply = function(record_request(example()))
    assert lost() == 2
    assert reply.body["currentUsage"] == 1
    assert "Idempotent-Replayed" not in reply.headers
    assert counted(function.client, "usage", "demo-org") == (1, 1)


# --- a transaction that becomes visible item by item ----------------------------------------------------------------


def _answered(function: RecordFunction, *, in_a_batch: bool) -> tuple[str, int | None]:
    """The status of the example's usage, alone or in a batch, and the total in its answer."""
    if in_a_batch:
        (result,) = function(batch_request([example(quantity=3)])).body["results"]
        return result["status"], result.get("currentUsage")
    reply = function(record_request(example(quantity=3)))
    return "replayed" if "Idempotent-Replayed" in reply.headers else "recorded", reply.body["currentUsage"]


@pytest.mark.parametrize("in_a_batch", [False, True])
def test_an_own_commit_that_is_found_is_in_its_total(function: RecordFunction, in_a_batch: bool) -> None:
    lose_answers(function.client, "TransactWriteItems", times=1)
    all_visible = show_late(function.client, "Query", conflicts=2)
    assert _answered(function, in_a_batch=in_a_batch) == ("recorded", 3)
    assert all_visible()
    # One wait comes after the lost answer, and two because of the counter.
    assert len(function.clock.slept) == 3


@pytest.mark.parametrize("in_a_batch", [False, True])
def test_a_commit_of_another_that_is_found_is_in_the_total(function: RecordFunction, in_a_batch: bool) -> None:
    function(record_request(example(quantity=3)))
    show_late(function.client, "Query", conflicts=2)
    assert _answered(function, in_a_batch=in_a_batch) == ("replayed", 3)


@pytest.mark.parametrize("in_a_batch", [False, True])
def test_a_record_is_not_acknowledged_while_its_counter_lacks_it(function: RecordFunction, in_a_batch: bool) -> None:
    function(record_request(example(quantity=3)))
    show_late(function.client, "Query", conflicts=1000)
    if in_a_batch:
        assert _answered(function, in_a_batch=True) == ("unavailable", None)
    else:
        reply = function(record_request(example(quantity=3)), 503)
        assert_problem(reply, 503, "SERVICE_UNAVAILABLE", "dependency")


def test_a_counter_that_stays_held_keeps_no_other_total_waiting(function: RecordFunction) -> None:
    batch = [example(feature=feature, idempotencyKey=feature) for feature in ("a", "b", "c")]
    function(batch_request(batch))

    def hold(params: Any, **_: Any) -> tuple[Any, Any] | None:
        keys = [get["Get"]["Key"] for get in json.loads(params["body"])["TransactItems"]]
        codes = ["TransactionConflict" if key["sk"]["S"] == "b#0" else "None" for key in keys]
        answer = cancelled(codes)
        return (answer, parsed(answer)) if "TransactionConflict" in codes else None

    events: Any = function.client.meta.events
    events.register("before-call.dynamodb.TransactGetItems", hold)
    results = function(batch_request(batch)).body["results"]
    assert [(result["status"], result.get("currentUsage")) for result in results] == [
        ("replayed", 1),
        ("unavailable", None),
        ("replayed", 1),
    ]


def test_a_hundred_replays_of_as_many_counters_are_confirmed_fifty_at_a_time(function: RecordFunction) -> None:
    batch = [example(feature=f"f{number}", idempotencyKey=f"k{number}") for number in range(100)]
    function(batch_request(batch))
    asked = answer_with(function.client, "TransactGetItems", [])
    assert function(batch_request(batch)).body["totals"]["replayed"] == 100
    assert [len(each["TransactItems"]) for each in asked] == [100, 100]


def test_no_confirmation_begins_after_the_deadline(function: RecordFunction) -> None:
    batch = [example(feature=f"f{number}", idempotencyKey=f"k{number}") for number in range(100)]
    function(batch_request(batch))
    began_s, began_at = function.clock.monotonic(), list[float]()

    def take_long(**_: Any) -> None:
        began_at.append(function.clock.monotonic() - began_s)
        function.clock.pass_by(seconds=8)

    events: Any = function.client.meta.events
    events.register("before-call.dynamodb.TransactGetItems", take_long)
    totals = function(batch_request(batch)).body["totals"]
    assert totals["unavailable"] == 100
    assert began_at == [0]


def test_a_confirmed_record_is_acknowledged_without_an_unreadable_total(function: RecordFunction) -> None:
    function(record_request(example(quantity=3)))
    answer_with(function.client, "Query", [failed("ThrottlingException")] * 1000)
    assert _answered(function, in_a_batch=True) == ("replayed", None)


def test_a_record_and_its_shard_are_read_in_one_transaction(function: RecordFunction) -> None:
    function(record_request(example(idempotencyKey="before")))
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])])
    function(record_request(example()))
    (item,) = (item for item in records(function.client, "usage", "demo-org") if item["sk"]["S"] == "abc-123")
    assert item["counter"]["M"]["sk"] == {"S": "api_calls#1"}
    asked = answer_with(function.client, "TransactGetItems", [])
    function(record_request(example()))
    keys = [get["Get"]["Key"] for get in asked[0]["TransactItems"]]
    assert keys == [{"pk": item["pk"], "sk": item["sk"]}, {name: item["counter"]["M"][name] for name in ("pk", "sk")}]


def test_a_recorded_and_answered_request_needs_two_calls(function: RecordFunction) -> None:
    function(record_request(example(idempotencyKey="before")))
    calls: list[str] = []
    events: Any = function.client.meta.events
    events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
    function(record_request(example()))
    assert calls == ["TransactWriteItems", "Query"]


@pytest.mark.parametrize("timeout_s", [RESERVE_S + 1, 15.0, 30.0])
def test_a_request_that_outlasts_the_deadline_is_unavailable_and_may_be_sent_again(
    function: RecordFunction, timeout_s: float
) -> None:
    function.timeout_s = timeout_s
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])] * 10_000)
    began = function.clock.monotonic()
    reply = function(record_request(example()), 503)
    assert_problem(reply, 503, "SERVICE_UNAVAILABLE", "dependency")
    assert (reply.headers["Retry-After"], reply.body["retryAfter"]) == ("1", 1)
    # The function uses nearly all the time of its invocation, and no more.
    assert timeout_s - RESERVE_S - 1 <= function.clock.monotonic() - began <= timeout_s - RESERVE_S


def test_a_lost_answer_at_the_deadline_is_a_replay_when_sent_again(dynamodb: "DynamoDBClient") -> None:
    hurried = RecordFunction(dynamodb, timeout_s=RESERVE_S + 0.001)
    lose_answers(dynamodb, "TransactWriteItems", times=1)
    assert_problem(hurried(record_request(example()), 503), 503, "SERVICE_UNAVAILABLE", "dependency")
    again = RecordFunction(dynamodb, hurried.clock)(record_request(example()))
    assert again.body["currentUsage"] == 1
    assert counted(dynamodb, "usage", "demo-org") == (1, 1)


def test_a_total_that_cannot_be_read_does_not_lose_the_usage(function: RecordFunction) -> None:
    answer_with(function.client, "Query", [failed("ThrottlingException")] * 10_000)
    assert_problem(function(record_request(example()), 503), 503, "SERVICE_UNAVAILABLE", "dependency")
    assert counted(function.client, "usage", "demo-org") == (1, 1)


def test_the_slowest_call_ends_before_the_invocation_does() -> None:
    assert TIMEOUTS.slowest_s + 1.0 < RESERVE_S < 15


@pytest.mark.parametrize(
    "answer",
    [
        failed("AccessDeniedException"),
        failed("ResourceNotFoundException"),
        cancelled(["None", "ValidationError"]),
    ],
)
def test_an_unforeseen_failure_leaks_nothing(function: RecordFunction, answer: Any) -> None:
    answer_with(function.client, "TransactWriteItems", [answer] * 10)
    reply = function(record_request(example()), 500)
    assert_problem(reply, 500, "INTERNAL_ERROR", "internal")
    assert not any(
        word in json.dumps(reply.body) for word in ("usage-metering-table", "Exception", "botocore", "Traceback")
    )


def test_a_store_out_of_reach_is_unavailable(function: RecordFunction) -> None:
    def unreachable(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://dynamodb")

    function.client.meta.events.register("before-send.dynamodb.TransactWriteItems", unreachable)
    assert_problem(function(record_request(example()), 503), 503, "SERVICE_UNAVAILABLE", "dependency")
