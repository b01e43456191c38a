"""Each record of a batch gets the answer that it would get alone, after those before it. The cost is tested, too."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from metering.http.endpoint import RESERVE_S
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.model.usage import CounterId
from metering.storage.counter_items import counter_key, counter_partition
from metering.storage.ledger import Cancellation, Recorded
from metering.storage.retry import RetryBudget
from metering.storage.usage_records import StoredUsage, usage_key
from metering.usage.batch import Batch, Entry, OverLimit, Terms, apply_cancellation, apply_terms
from metering.usage.counters import Counters
from metering.usage.organization_cache import OrganizationCache
from metering.usage.recorder import RecordDeps, RecordUsage, record_usages, usage_of

from tests.testing.aws import SESSION
from tests.testing.contention import answer_with, cancelled, failed, hold_counters, lose_answers, parsed, show_late
from tests.testing.payloads import batch_request, example, record_request
from tests.testing.problems import assert_problem
from tests.testing.service import Clock, Longest, RecordFunction, Reply
from tests.testing.table import counted, items, put_on_plan, put_organization, records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

HARD = Entitlement(limit=10, hard=True)


@pytest.fixture
def function(dynamodb: "DynamoDBClient") -> RecordFunction:
    return RecordFunction(dynamodb, Clock())


def send(function: RecordFunction, *batch: Any, status: int = 200) -> Reply:
    return function(batch_request(list(batch)), status)


def statuses(reply: Reply) -> list[str]:
    results = reply.body["results"]
    assert [result["index"] for result in results] == list(range(len(results)))
    found = [result["status"] for result in results]
    assert Counter(found) == Counter({status: number for status, number in reply.body["totals"].items() if number})
    return found


def of(key: str, quantity: int = 1, feature: str = "api_calls", **members: Any) -> dict[str, Any]:
    return example(idempotencyKey=key, quantity=quantity, feature=feature, **members)


def limit(function: RecordFunction, feature: Entitlement) -> None:
    """Put this limit for `api_calls` on `demo-org`, and let the cached one expire."""
    plan = Plan("pro", "Pro", {"api_calls": feature})
    put_on_plan(function.client, function.table, Organization("demo-org"), plan)
    function.clock.pass_by(seconds=61)


def counter_key_of(feature: str) -> Any:
    return {"pk": {"S": counter_partition("demo-org", "2026-11")}, "sk": {"S": f"{feature}#0"}}


def shards(function: RecordFunction) -> dict[str, tuple[str, str]]:
    found = items(function.client, "usage", "counter#demo-org#")
    return {item["sk"]["S"]: (item["total"]["N"], item["count"]["N"]) for item in found}


# --- results ----------------------------------------------------------------------------------------------------


def test_each_record_is_answered_for_itself_and_in_order(function: RecordFunction) -> None:
    function(record_request(of("before", 5)))
    reply = send(
        function,
        of("before", 5),
        of("a", 2),
        of("b", 3, "storage_gb"),
        of("before", 6),
        of("c", 0),
        of("a", 2),
        of("a", 9),
    )
    assert statuses(reply) == ["replayed", "recorded", "recorded", "conflict", "invalid", "replayed", "conflict"]
    results = reply.body["results"]
    assert [result.get("currentUsage") for result in results] == [7, 7, 3, None, None, 7, None]
    assert [result.get("limitReached") for result in results] == [False, False, False, None, None, False, None]
    codes = [result.get("problem", {}).get("code") for result in results]
    assert codes == [None, None, None, "IDEMPOTENCY_KEY_REUSED", "VALIDATION_FAILED", None, "IDEMPOTENCY_KEY_REUSED"]
    assert counted(function.client, "usage", "demo-org") == (10, 3)


def test_a_batch_sent_again_changes_nothing(function: RecordFunction) -> None:
    batch = [of(f"k{number}", number + 1) for number in range(100)]
    assert statuses(send(function, *batch)) == ["recorded"] * 100
    before = items(function.client, "usage", "")
    for _ in range(3):
        assert statuses(send(function, *batch)) == ["replayed"] * 100
    assert items(function.client, "usage", "") == before
    assert counted(function.client, "usage", "demo-org") == (5050, 100)


def test_a_record_is_stored_as_if_it_had_been_sent_alone(function: RecordFunction) -> None:
    everything: Any = {"sourceId": "req-1", "sourceType": "request", "metadata": {"b": 1, "a": [2]}}
    function(record_request(of("alone", 3, **everything)))
    send(function, of("together", 3, **everything), of("another"))
    alone, together = (
        next(item for item in records(function.client, "usage", "demo-org") if item["sk"]["S"] == key)
        for key in ("alone", "together")
    )
    differing = {name for name in alone if alone[name] != together[name]}
    assert alone.keys() == together.keys()
    assert differing == {"pk", "sk", "eventId"}


def test_every_record_has_an_event_id_of_its_own(function: RecordFunction) -> None:
    send(function, *[of(f"k{number}") for number in range(50)])
    assert len({item["eventId"]["S"] for item in records(function.client, "usage", "demo-org")}) == 50


def test_the_total_is_that_after_the_whole_batch(function: RecordFunction) -> None:
    reply = send(function, of("a", 1), of("b", 2), of("c", 4))
    assert [result["currentUsage"] for result in reply.body["results"]] == [7, 7, 7]


def test_a_replay_tells_the_total_of_its_own_period(function: RecordFunction) -> None:
    send(function, of("november", 5))
    function.clock.pass_by(days=30)
    reply = send(function, of("november", 5), of("december", 2))
    assert statuses(reply) == ["replayed", "recorded"]
    assert [result["currentUsage"] for result in reply.body["results"]] == [5, 2]


def test_an_expired_record_is_new_again(function: RecordFunction) -> None:
    send(function, of("a", 5))
    function.clock.pass_by(days=400)
    assert statuses(send(function, of("a", 6))) == ["recorded"]


def test_another_organization_may_use_the_same_keys(function: RecordFunction) -> None:
    put_organization(function.client, "usage", "another", "active")
    send(function, of("a", 5))
    reply = function(batch_request([of("a", 6)], claims={"org_id": "another"}))
    assert statuses(reply) == ["recorded"]
    assert reply.body["results"][0]["currentUsage"] == 6


# --- cost -------------------------------------------------------------------------------------------------------


def _updates(transaction: Any) -> int:
    return sum("Update" in action for action in transaction["TransactItems"])


def test_a_hundred_records_of_one_feature_are_two_transactions_and_one_read(function: RecordFunction) -> None:
    put_organization(function.client, "usage", "demo-org", "active")
    sent = answer_with(function.client, "TransactWriteItems", [])
    asked = answer_with(function.client, "Query", [])
    send(function, *[of(f"k{number}") for number in range(100)])
    assert [len(transaction["TransactItems"]) for transaction in sent] == [100, 2]
    assert [_updates(transaction) for transaction in sent] == [1, 1]
    assert len(asked) == 1


def test_each_feature_is_updated_once_in_a_transaction(function: RecordFunction) -> None:
    sent = answer_with(function.client, "TransactWriteItems", [])
    send(function, *[of(f"k{number}", 1, f"feature_{number % 10}") for number in range(90)])
    assert [(len(transaction["TransactItems"]), _updates(transaction)) for transaction in sent] == [(100, 10)]
    assert set(shards(function).values()) == {("9", "9")}


def test_a_hundred_features_take_two_transactions(function: RecordFunction) -> None:
    sent = answer_with(function.client, "TransactWriteItems", [])
    assert (
        statuses(send(function, *[of("k", 1, "f"), *[of(f"k{n}", 1, f"f{n}") for n in range(99)]]))
        == ["recorded"] * 100
    )
    assert [len(transaction["TransactItems"]) for transaction in sent] == [100, 100]


@pytest.mark.parametrize("sizes", [[4] * 25, [49, 49, 2], [9] * 10 + [10], [98, 2], [97, 1, 2], [99, 1], [100]])
def test_no_transaction_has_more_than_a_hundred_items(function: RecordFunction, sizes: list[int]) -> None:
    sent = answer_with(function.client, "TransactWriteItems", [])
    batch = [of(f"{at}-{number}", 1, f"f{at}") for at, size in enumerate(sizes) for number in range(size)]
    assert statuses(send(function, *batch)) == ["recorded"] * len(batch)
    assert max(len(transaction["TransactItems"]) for transaction in sent) <= 100
    assert len(sent) == 2
    assert counted(function.client, "usage", "demo-org") == (len(batch), len(batch))


def test_recorded_keys_are_left_out_after_one_try(function: RecordFunction) -> None:
    send(function, *[of(f"k{number}") for number in range(0, 60, 3)])
    sent = answer_with(function.client, "TransactWriteItems", [])
    send(function, *[of(f"k{number}") for number in range(60)])
    assert [len(transaction["TransactItems"]) for transaction in sent] == [61, 41]
    assert counted(function.client, "usage", "demo-org") == (60, 60)


# --- conflicts, lost answers and deadlines ------------------------------------------------------------------------


def test_a_commit_whose_answer_was_lost_is_answered_as_recorded(function: RecordFunction) -> None:
    lost = lose_answers(function.client, "TransactWriteItems", times=2)
    assert statuses(send(function, *[of(f"k{number}") for number in range(100)])) == ["recorded"] * 100
    assert lost() == 2
    assert counted(function.client, "usage", "demo-org") == (100, 100)


def test_a_record_in_conflict_is_set_aside_and_its_neighbours_are_not(function: RecordFunction) -> None:
    sent = answer_with(
        function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict", "None", "None"])]
    )
    assert statuses(send(function, of("a"), of("b"), of("c"))) == ["recorded"] * 3
    keys = [[action["Put"]["Item"]["sk"]["S"] for action in each["TransactItems"] if "Put" in action] for each in sent]
    assert keys == [["a", "b", "c"], ["a", "c"], ["b"]]


def test_a_permanently_held_record_costs_its_neighbours_nothing(function: RecordFunction) -> None:
    answer = cancelled(["TransactionConflict", "None"])
    first = cancelled(["None", "TransactionConflict", "None", "None"])
    answer_with(function.client, "TransactWriteItems", [first, None, *[answer] * 1000])
    reply = send(function, of("a"), of("b"), of("c"))
    assert statuses(reply) == ["recorded", "unavailable", "recorded"]
    problem = reply.body["results"][1]["problem"]
    assert (problem["status"], problem["code"], problem["retryable"]) == (503, "SERVICE_UNAVAILABLE", True)
    assert problem["retryAfter"] == 1


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_busy_counter_is_added_to_in_another_shard(function: RecordFunction, code: str) -> None:
    send(function, of("before"))
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "None", code])])
    assert statuses(send(function, of("a", 2), of("b", 3))) == ["recorded"] * 2
    assert shards(function) == {"api_calls#0": ("1", "1"), "api_calls#1": ("5", "2")}


def test_a_batch_waits_longer_only_while_there_are_no_more_shards(dynamodb: "DynamoDBClient") -> None:
    function = RecordFunction(dynamodb, Clock(), random=Longest(1))
    send(function, of("before"))
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])] * 5)
    assert statuses(send(function, of("a"))) == ["recorded"]
    assert function.clock.slept == [0.02, 0.02, 0.02, 0.04, 0.08]


def test_a_rival_for_a_record_never_spreads_a_counter(function: RecordFunction) -> None:
    send(function, of("before"))
    answer_with(function.client, "TransactWriteItems", [cancelled(["TransactionConflict", "TransactionConflict"])] * 5)
    for number in range(20):
        assert statuses(send(function, of(f"k{number}"))) == ["recorded"]
    assert set(shards(function)) == {"api_calls#0"}


@pytest.mark.parametrize("feature", [HARD, Entitlement(limit=10)])
def test_a_counter_that_stays_busy_delays_no_other(function: RecordFunction, feature: Entitlement) -> None:
    limit(function, feature)
    sent = hold_counters(function.client, lambda feature: feature == "api_calls")
    batch = [of("a"), *[of(f"k{number}", 1, f"f{number}") for number in range(9)]]
    assert statuses(send(function, *batch)) == ["unavailable"] + ["recorded"] * 9
    # The counters are halved once. The half without the busy counter commits, and the rest of the other half one try
    # later.
    assert [len(features) for features in sent[:3]] == [10, 5, 5]
    assert sent[-1] == {"api_calls"}


def test_counters_that_are_each_a_little_busy_are_tried_fewer_together(function: RecordFunction) -> None:
    # Among 40 counters, nearly always one is held.
    dice = Random(1)
    sent = hold_counters(function.client, lambda _: dice.random() < 1 / 7)
    batch = [of(f"k{number}", 1, f"f{number}") for number in range(40)]
    assert statuses(send(function, *batch)) == ["recorded"] * 40
    assert counted(function.client, "usage", "demo-org") == (40, 40)
    assert len(sent) < 60


@pytest.mark.parametrize(
    ("codes", "announced"),
    [
        (["None", "None", "None", "TransactionConflict"], [False, False, True]),
        # A conflict on the record says nothing about the counter.
        (["TransactionConflict", "None", "None", "None"], [False, True, True]),
    ],
)
def test_a_free_shard_of_a_cancelled_transaction_counts_against_more_pages(
    dynamodb: "DynamoDBClient", codes: list[str], announced: list[bool]
) -> None:
    clock = Clock()
    budget = RetryBudget(clock.monotonic() + 1000, clock.monotonic, clock.sleep, Random(1))
    counters = Counters(dynamodb, "usage", clock.clocks)
    deps = RecordDeps(
        dynamodb, "usage", OrganizationCache(dynamodb, "usage", clock.clocks), counters, timedelta(days=400)
    )

    def record(key: str, *features: str) -> None:
        names = {feature: f"{key}-{feature}" for feature in features}
        commands = [RecordUsage("demo-org", feature, 1, names[feature], key, trace_id=key) for feature in features]
        record_usages(commands, deps, budget, clock.now())

    def has_pages() -> bool:
        counters.shard_busy(CounterId("demo-org", "2026-11", "api_calls"), 0, budget, throttled=False)
        return any(item["sk"]["S"] == "api_calls#pages" for item in items(dynamodb, "usage", "counter#"))

    record("before", "api_calls")
    # After three busy tries the counter uses its whole page. The second try after these 39 would announce more pages.
    assert not any(has_pages() for _ in range(3 + 36))
    answer_with(dynamodb, "TransactWriteItems", [cancelled(codes), None, None] * 2)
    record("first", "api_calls", "storage_gb")
    record("second", "api_calls", "storage_gb")
    assert [has_pages() for _ in announced] == announced


def test_groups_of_counters_grow_again_after_a_commit(function: RecordFunction) -> None:
    # `f0` is held in the first transaction, and `f1` in the second.
    held = {"f0": [True], "f1": [False, True]}
    sent = hold_counters(function.client, lambda feature: bool(held.get(feature)) and held[feature].pop(0))
    send(function, *[of(f"k{number}", 1, f"f{number}") for number in range(16)])
    assert [len(features) for features in sent] == [16, 8, 4, 8, 4]


def test_a_batch_whose_counters_all_have_to_spread_does_not_outlast_its_invocation(function: RecordFunction) -> None:
    batch = [of(f"k{number}", 1, f"f{number}") for number in range(50)]
    send(function, *batch)
    held = cancelled(["None", "TransactionConflict"] * 50)
    answer_with(function.client, "TransactWriteItems", [held] * 1000)
    events: Any = function.client.meta.events
    events.register("before-call.dynamodb", lambda **_: function.clock.pass_by(seconds=1))
    began_s = function.clock.monotonic()
    again = RecordFunction(function.client, function.clock)
    send(again, *[{**record, "idempotencyKey": f"{record['idempotencyKey']}-again"} for record in batch])
    assert function.clock.monotonic() - began_s < 15


def test_only_the_counter_that_is_busy_moves(function: RecordFunction) -> None:
    send(function, of("before"), of("too", 1, "storage_gb"))
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict", "None", "None"])])
    send(function, of("a"), of("b", 1, "storage_gb"))
    assert set(shards(function)) == {"api_calls#0", "api_calls#1", "storage_gb#0"}


THROTTLED = failed("ThrottlingException")
BUSY = [THROTTLED, failed("InternalServerError", status=500)]


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        *[(operation, answer) for operation in ("TransactWriteItems", "Query") for answer in BUSY],
        ("TransactWriteItems", cancelled(["ThrottlingError", "None"])),
    ],
)
def test_a_busy_store_is_asked_again(function: RecordFunction, operation: str, answer: Any) -> None:
    answer_with(function.client, operation, [answer] * 5)
    reply = send(function, of("a"))
    assert statuses(reply) == ["recorded"]
    assert reply.body["results"][0]["currentUsage"] == 1


@pytest.mark.parametrize("answer", BUSY)
def test_a_busy_store_is_asked_again_for_the_plan(function: RecordFunction, answer: Any) -> None:
    limit(function, HARD)
    # The first read is the organization, and the next one its plan.
    answer_with(function.client, "GetItem", [None, *[answer] * 5])
    reply = send(function, of("a"))
    assert statuses(reply) == ["recorded"]
    assert reply.body["results"][0]["limit"] == 10


@pytest.mark.parametrize("answer", BUSY)
def test_a_busy_store_is_asked_again_for_a_hard_limited_counter(function: RecordFunction, answer: Any) -> None:
    limit(function, HARD)
    answer_with(function.client, "Query", [answer] * 5)
    assert statuses(send(function, of("a", 6), of("b", 5))) == ["recorded", "refused"]


@pytest.mark.parametrize("answer", BUSY)
def test_a_busy_store_is_asked_again_for_earlier_records(function: RecordFunction, answer: Any) -> None:
    send(function, of("a"))
    put_organization(function.client, "usage", "demo-org", "inactive")
    function.clock.pass_by(seconds=61)
    answer_with(function.client, "TransactGetItems", [answer] * 5)
    assert statuses(send(function, of("a"), of("new"))) == ["replayed", "invalid"]


def test_waits_are_short_again_after_a_commit(dynamodb: "DynamoDBClient") -> None:
    function = RecordFunction(dynamodb, Clock(), random=Longest(1))
    answer_with(dynamodb, "TransactWriteItems", [*[THROTTLED] * 3, None, THROTTLED])
    assert statuses(send(function, *[of(f"k{number}") for number in range(100)])) == ["recorded"] * 100
    assert function.clock.slept == [0.02, 0.04, 0.08, 0.02]


def test_a_record_beyond_the_deadline_is_unavailable_and_recorded_when_sent_again(function: RecordFunction) -> None:
    # Every call before the deadline is throttled, and none after it, so that the same batch then succeeds.
    throttled = itertools.takewhile(lambda _: function.clock.monotonic() < began_s + 7.5, itertools.repeat(THROTTLED))
    answer_with(function.client, "TransactWriteItems", itertools.chain([None], throttled))
    batch = [of(f"k{number}") for number in range(100)]
    began_s = function.clock.monotonic()
    assert statuses(send(function, *batch)) == ["recorded"] * 99 + ["unavailable"]
    function.clock.pass_by(seconds=10)
    assert statuses(send(function, *batch)) == ["replayed"] * 99 + ["recorded"]


def test_a_batch_does_not_outlast_its_deadline(function: RecordFunction) -> None:
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])] * 1000)
    began = function.clock.monotonic()
    assert statuses(send(function, of("a"))) == ["unavailable"]
    assert function.clock.monotonic() - began <= 15.0 - RESERVE_S


class Impatient(Random):
    """A random source that makes every wait zero, so that no deadline comes."""

    def uniform(self, a: float, b: float) -> float:
        return min(a, b)


def test_a_batch_ends_after_a_bounded_number_of_tries(dynamodb: "DynamoDBClient") -> None:
    function = RecordFunction(dynamodb, Clock(), random=Impatient(1))
    sent = answer_with(dynamodb, "TransactWriteItems", itertools.repeat(cancelled(["TransactionConflict", "None"])))
    assert statuses(send(function, of("a"))) == ["unavailable"]
    assert 10 < len(sent) <= 100


def test_totals_that_cannot_be_read_in_time_are_left_out(function: RecordFunction) -> None:
    answer_with(function.client, "Query", [failed("ThrottlingException")] * 1000)
    reply = send(function, of("a"))
    assert reply.body["results"] == [{"index": 0, "status": "recorded"}]


def test_without_its_organization_nothing_is_tried(function: RecordFunction) -> None:
    answer_with(function.client, "GetItem", [failed("ThrottlingException")] * 1000)
    assert_problem(send(function, of("a"), status=503), 503, "SERVICE_UNAVAILABLE", "dependency")


# --- permission and unknown features ------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "code", "status"), [("inactive", "FORBIDDEN", 403), (None, "NOT_FOUND", 404)])
def test_without_permission_only_recorded_usage_is_acknowledged(
    function: RecordFunction, state: str | None, code: str, status: int
) -> None:
    send(function, of("a", 5))
    if state is None:
        key: Any = {"pk": {"S": "organization#demo-org"}, "sk": {"S": "organization"}}
        function.client.delete_item(TableName="usage", Key=key)
    else:
        put_organization(function.client, "usage", "demo-org", state)
    function.clock.pass_by(seconds=61)
    reply = send(function, of("a", 5), of("a", 6), of("b"), of("b"))
    assert statuses(reply) == ["replayed", "conflict", "invalid", "invalid"]
    assert reply.body["results"][2]["problem"]["code"] == code
    assert_problem(
        send(function, of("b"), of("c"), status=status), status, code, {403: "auth", 404: "not_found"}[status]
    )
    assert counted(function.client, "usage", "demo-org") == (5, 1)


def test_an_expired_record_of_an_inactive_organization_is_not_acknowledged(function: RecordFunction) -> None:
    send(function, of("a", 5))
    put_organization(function.client, "usage", "demo-org", "inactive")
    function.clock.pass_by(days=400)
    assert_problem(send(function, of("a", 5), of("b"), status=403), 403, "FORBIDDEN", "auth")


def test_an_unknown_feature_is_invalid_and_its_neighbours_are_recorded(
    dynamodb: "DynamoDBClient",
) -> None:
    function = RecordFunction(dynamodb, Clock())
    send(function, of("before", 1, "unknown"))
    limit(function, Entitlement(limit=None))
    function = RecordFunction(dynamodb, function.clock, reject_unknown_features=True)
    reply = send(
        function, of("a"), of("b", 1, "unknown"), of("before", 1, "unknown"), of("b", 2), of("a", 1, "unknown")
    )
    # The second `b` is the first valid record with its key.
    assert statuses(reply) == ["recorded", "invalid", "replayed", "recorded", "conflict"]
    assert reply.body["results"][1]["problem"]["issues"][0]["code"] == "feature_unknown"


def test_a_forbidden_batch_waits_for_a_record_that_another_transaction_holds(function: RecordFunction) -> None:
    put_organization(function.client, "usage", "demo-org", "inactive")
    asked = answer_with(function.client, "TransactGetItems", [cancelled(["TransactionConflict"])] * 3)
    assert_problem(send(function, of("a"), status=403), 403, "FORBIDDEN", "auth")
    assert (len(asked), len(function.clock.slept)) == (4, 3)


def test_counted_usage_is_not_refused_while_its_record_is_not_visible(function: RecordFunction) -> None:
    limit(function, HARD)
    full = {**counter_key_of("api_calls"), "total": {"N": "10"}, "count": {"N": "1"}, "hard": {"BOOL": True}}
    # The first try commits, but its answer is lost. The next try fails on the counter, which has the addition already.
    reasons = [{"Code": "TransactionConflict"}, {"Code": "ConditionalCheckFailed", "Item": full}]
    lose_answers(function.client, "TransactWriteItems", times=1)
    answer = failed("TransactionCanceledException", CancellationReasons=reasons)
    answer_with(function.client, "TransactWriteItems", [None, answer])
    show_late(function.client, "BatchGetItem", conflicts=3)
    reply = send(function, of("a", 10))
    assert statuses(reply) == ["recorded"]
    assert reply.body["results"][0]["currentUsage"] == 10
    assert statuses(send(function, of("b"))) == ["refused"]


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_record_that_stays_held_is_unavailable_and_its_neighbours_are_refused(
    function: RecordFunction, code: str
) -> None:
    limit(function, HARD)
    held = {"pk": usage_key("demo-org", "held")["pk"]}

    def hold(params: Any, **_: Any) -> tuple[Any, Any] | None:
        keys = [get["Get"]["Key"] for get in json.loads(params["body"])["TransactItems"]]
        codes = [code if key["pk"] == held["pk"] else "None" for key in keys]
        answer = cancelled(codes)
        return (answer, parsed(answer)) if code in codes else None

    events: Any = function.client.meta.events
    events.register("before-call.dynamodb.TransactGetItems", hold)
    reply = send(function, of("a", 11), of("held", 11), of("b", 11))
    assert statuses(reply) == ["refused", "unavailable", "refused"]


def test_a_forbidden_batch_reads_no_counters(function: RecordFunction) -> None:
    features = {f"f{number}": HARD for number in range(20)}
    put_on_plan(function.client, "usage", Organization("demo-org", active=False), Plan("pro", "Pro", features))
    asked = answer_with(function.client, "Query", [])
    reply = send(function, *[of(f, 11, f) for f in features], status=403)
    assert_problem(reply, 403, "FORBIDDEN", "auth")
    assert asked == []


def test_only_the_first_unknown_features_get_a_suggestion(dynamodb: "DynamoDBClient") -> None:
    # Each suggestion takes milliseconds, and a batch may need a hundred.
    function = RecordFunction(dynamodb, Clock(), reject_unknown_features=True)
    limit(function, Entitlement(limit=None))
    results = send(function, *[of(f"k{number}", 1, f"api_call_{number}") for number in range(100)]).body["results"]
    messages = [result["problem"]["issues"][0]["message"] for result in results]
    assert [message.endswith("did you mean api_calls?") for message in messages] == [True] * 5 + [False] * 95


@pytest.mark.parametrize("may_record", [True, False])
def test_a_malformed_stored_record_affects_no_other(
    function: RecordFunction, caplog: pytest.LogCaptureFixture, may_record: bool
) -> None:
    send(function, of("broken"), of("whole"))
    broken = next(item for item in records(function.client, "usage", "demo-org") if item["sk"]["S"] == "broken")
    function.client.put_item(TableName="usage", Item={**broken, "quantity": {"S": "1"}})
    if not may_record:
        put_organization(function.client, "usage", "demo-org", "inactive")
        function.clock.pass_by(seconds=61)
    reply = send(function, of("new"), of("broken"), of("whole"), of("broken"))
    new = "recorded" if may_record else "invalid"
    assert statuses(reply) == [new, "unavailable", "replayed", "unavailable"]
    assert reply.body["results"][1]["problem"]["code"] == "INTERNAL_ERROR"
    assert [record.getMessage() for record in caplog.records].count("an item is malformed") == 1


def put_counter(function: RecordFunction, name: str, **attributes: Any) -> None:
    key = {"pk": {"S": "counter#demo-org#2026-11"}, "sk": {"S": name}}
    function.client.put_item(TableName="usage", Item={**key, **attributes})


def test_a_malformed_total_affects_only_its_own_records(function: RecordFunction) -> None:
    send(function, of("before", 1, "broken"))
    put_counter(function, "broken#pages", pages={"N": "0"}, total={"N": "0"})
    results = send(function, of("a", 1, "broken"), of("b", 2)).body["results"]
    assert [result["status"] for result in results] == ["unavailable", "recorded"]
    assert results[0]["problem"]["code"] == "INTERNAL_ERROR"
    # The record counts, as if it had been sent alone.
    assert counted(function.client, "usage", "demo-org") == (4, 3)


def test_a_malformed_announcement_of_a_spreading_counter_affects_no_other(
    function: RecordFunction,
) -> None:
    put_counter(function, "broken#pages", pages={"N": "0"}, total={"N": "0"})
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict", "None", "None"])])
    assert statuses(send(function, of("a", 1, "broken"), of("b"))) == ["unavailable", "recorded"]
    assert counted(function.client, "usage", "demo-org") == (1, 1)


@pytest.mark.parametrize("quantity", [3, 11])
def test_a_malformed_hard_limited_counter_affects_no_other(function: RecordFunction, quantity: int) -> None:
    limit(function, HARD)
    # A batch that may not fit reads the counter first. Otherwise the cancelled transaction returns the counter.
    put_counter(function, "api_calls#0", count={"N": "1"}, hard={"BOOL": True}, total={"N": "-1"})
    condition = failed(
        "TransactionCanceledException",
        CancellationReasons=[
            {"Code": "None"},
            {"Code": "ConditionalCheckFailed", "Item": {"hard": {"BOOL": True}, "total": {"N": "-1"}}},
            {"Code": "None"},
            {"Code": "None"},
        ],
    )
    answer_with(function.client, "TransactWriteItems", [condition] if quantity == 3 else [])
    asked = answer_with(function.client, "Query", [])
    more = [] if quantity == 3 else [of("c", quantity), of("d", 1)]
    reply = send(function, of("a", quantity), of("b", 2, "storage_gb"), *more)
    assert statuses(reply) == ["unavailable", "recorded", *["unavailable" for _ in more]]
    # One read serves all records of the counter, and one the total of the other feature.
    assert len(asked) == 1 + (quantity != 3)
    assert function(record_request(of("alone", 2, "storage_gb"))).body["currentUsage"] == 4


def test_a_counter_that_fails_validation_affects_no_other(function: RecordFunction) -> None:
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "ValidationError", "None", "None"])])
    reply = send(function, of("a"), of("b", 2, "storage_gb"))
    assert statuses(reply) == ["unavailable", "recorded"]
    assert reply.body["results"][0]["problem"]["code"] == "INTERNAL_ERROR"
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "ValidationError"])])
    assert_problem(function(record_request(of("alone")), 500), 500, "INTERNAL_ERROR", "internal")


# --- hard limits ------------------------------------------------------------------------------------------------


def test_a_hard_limit_admits_greedily_in_input_order_and_each_record_whole(function: RecordFunction) -> None:
    limit(function, HARD)
    reply = send(function, of("a", 4), of("b", 7), of("c", 5), of("d", 2), of("e", 1), of("f", 1))
    assert statuses(reply) == ["recorded", "refused", "recorded", "refused", "recorded", "refused"]
    assert [result["currentUsage"] for result in reply.body["results"]] == [10] * 6
    assert all(result["limitReached"] and result["limit"] == 10 for result in reply.body["results"])
    assert "problem" not in reply.body["results"][1]
    assert counted(function.client, "usage", "demo-org") == (10, 3)


def test_earlier_usage_takes_room_under_a_hard_limit(function: RecordFunction) -> None:
    limit(function, HARD)
    send(function, of("before", 5))
    assert statuses(send(RecordFunction(function.client, function.clock), of("a", 6), of("b", 5), of("c", 1))) == [
        "refused",
        "recorded",
        "refused",
    ]


def test_a_hard_limit_costs_no_extra_read_when_every_record_fits(function: RecordFunction) -> None:
    limit(function, HARD)
    asked = answer_with(function.client, "Query", [])
    send(function, of("a", 4), of("b", 6))
    assert len(asked) == 1  # for the total


def test_a_hard_limited_counter_is_read_once_for_all_tries_of_a_batch(
    function: RecordFunction,
) -> None:
    limit(function, HARD)
    asked = answer_with(function.client, "Query", [])
    answer_with(function.client, "TransactWriteItems", [THROTTLED] * 3)
    assert statuses(send(function, of("a", 6), of("b", 5))) == ["recorded", "refused"]
    assert len(asked) == 1 + 1  # for the total


def test_a_refusal_is_answered_with_the_total_that_decided_it(function: RecordFunction) -> None:
    limit(function, HARD)
    send(function, of("before", 10))
    asked = answer_with(function.client, "Query", [])
    reply = send(function, of("a"), of("b", 11))
    assert [(result["status"], result["currentUsage"]) for result in reply.body["results"]] == [("refused", 10)] * 2
    assert len(asked) == 1


def test_replays_take_no_room(function: RecordFunction) -> None:
    limit(function, HARD)
    send(function, of("a", 6))
    reply = send(function, of("a", 6), of("b", 4), of("a", 6), of("c", 1))
    assert statuses(reply) == ["replayed", "recorded", "replayed", "refused"]


def test_recorded_usage_is_a_replay_under_any_smaller_limit(function: RecordFunction) -> None:
    send(function, of("a", 60))
    limit(function, HARD)
    reply = send(function, of("a", 60), of("a", 61))
    assert statuses(reply) == ["replayed", "conflict"]


def test_after_a_refused_record_its_key_is_free(function: RecordFunction) -> None:
    limit(function, HARD)
    reply = send(function, of("a", 11), of("a", 11), of("a", 3), of("b", 8), of("a", 3), of("a", 11), of("b", 7))
    assert statuses(reply) == ["refused", "refused", "recorded", "refused", "replayed", "conflict", "recorded"]
    assert counted(function.client, "usage", "demo-org") == (10, 2)


def test_a_lost_answer_does_not_turn_a_freed_key_into_a_conflict(function: RecordFunction) -> None:
    limit(function, HARD)
    lost = lose_answers(function.client, "TransactWriteItems", times=1)
    assert statuses(send(function, of("a", 11), of("a", 3), of("a", 3))) == ["refused", "recorded", "replayed"]
    assert lost() == 1


def test_concurrent_usage_counts_against_the_hard_limit(function: RecordFunction) -> None:
    limit(function, HARD)
    rival = RecordFunction(function.client, function.clock)

    def usurp(**_: Any) -> None:
        if not done:
            done.append(1)
            rival(record_request(of("rival", 5)))

    done: list[int] = []
    events: Any = function.client.meta.events
    events.register_first("before-call.dynamodb.TransactWriteItems", usurp)
    assert statuses(send(function, of("a", 4), of("b", 2), of("c", 1))) == ["recorded", "refused", "recorded"]
    assert counted(function.client, "usage", "demo-org") == (10, 3)


def test_later_records_do_not_overtake_a_held_record_under_its_hard_limit(function: RecordFunction) -> None:
    limit(function, HARD)
    answer_with(
        function.client,
        "TransactWriteItems",
        [cancelled(["TransactionConflict", "None", "None", "None", "None"])],
    )
    reply = send(function, of("a", 6), of("b", 4), of("free", 1, "storage_gb"))
    assert statuses(reply) == ["recorded"] * 3
    sent = answer_with(function.client, "TransactWriteItems", [cancelled(["TransactionConflict", *["None"] * 3])])
    limit(function, replace(HARD, limit=16))
    assert statuses(send(function, of("c", 5), of("d", 1), of("e", 1))) == ["recorded", "recorded", "refused"]
    puts = [[each["Put"]["Item"]["sk"]["S"] for each in t["TransactItems"] if "Put" in each] for t in sent]
    assert puts[-1] == ["c", "d"]


def test_later_records_do_not_overtake_a_held_record_under_an_unknown_hard_limit(function: RecordFunction) -> None:
    send(function, of("remembers-no-limit", 1, "storage_gb"))
    put_on_plan(function.client, "usage", Organization("demo-org"), Plan("pro", "Pro", {"api_calls": HARD}))
    RecordFunction(function.client, function.clock)(record_request(of("before", 6)))
    hard = {**counter_key_of("api_calls"), "total": {"N": "6"}, "count": {"N": "1"}, "hard": {"BOOL": True}}
    reasons = [{"Code": "TransactionConflict"}, {"Code": "None"}, {"Code": "ConditionalCheckFailed", "Item": hard}]
    answer = failed("TransactionCanceledException", CancellationReasons=reasons)
    answer_with(function.client, "TransactWriteItems", [answer])
    assert statuses(send(function, of("a", 4), of("b", 1))) == ["recorded", "refused"]


def test_later_records_do_not_overtake_other_content_whose_key_may_become_free(function: RecordFunction) -> None:
    limits = {"first": replace(HARD, limit=5), "second": replace(HARD, limit=102)}
    put_on_plan(function.client, "usage", Organization("demo-org"), Plan("pro", "Pro", limits))
    function.clock.pass_by(seconds=61)
    send(function, of("before", 3, "first"))
    # The key's first content will not fit, so its second content does. It takes the room that the last record needs.
    batch = [of(f"k{number}", 1, "second") for number in range(97)]
    batch += [of("twice", 5, "first"), of("twice", 5, "second"), of("last", 5, "second")]
    assert statuses(send(function, *batch))[-3:] == ["refused", "recorded", "refused"]


@pytest.mark.parametrize("others", [0, 97])
def test_a_record_that_fits_only_after_all_has_kept_its_key(function: RecordFunction, others: int) -> None:
    limit(function, HARD)
    send(function, of("a", 3))
    # The second transaction shows that. The first one is full, or its counter was busy once and comes last.
    held = iter([others == 0])
    hold_counters(function.client, lambda feature: feature == "api_calls" and next(held, False))
    batch = [of(f"k{number}", 1, "storage_gb") for number in range(others)]
    batch += [of("a", 6), of("twice", 5), of("twice", 1, "storage_gb")]
    assert statuses(send(function, *batch))[others:] == ["conflict", "recorded", "conflict"]


def test_a_refusals_total_never_lacks_a_replay_of_its_batch(function: RecordFunction) -> None:
    limit(function, HARD)
    rival = RecordFunction(SESSION.client("dynamodb"), function.clock)
    tries = itertools.count()

    def race(**_: Any) -> None:
        if next(tries) == 0:
            rival(record_request(of("a", 3)))

    # The counter is read, then a rival records "a", and then no read is answered.
    events: Any = function.client.meta.events
    events.register("before-call.dynamodb.TransactWriteItems", race)
    answer_with(function.client, "Query", [None, *[THROTTLED] * 1000])
    reply = send(function, of("a", 3), of("b", 11))
    assert statuses(reply) == ["replayed", "refused"]
    assert "currentUsage" not in reply.body["results"][1]


def test_all_records_of_a_batch_have_the_limits_of_one_plan(function: RecordFunction) -> None:
    limit(function, Entitlement())
    send(function, of("b", feature="storage_gb"))  # this reads the plan, which has no limit
    put_on_plan(function.client, "usage", Organization("demo-org"), Plan("pro", "Pro", {"api_calls": HARD}))
    RecordFunction(function.client, function.clock)(record_request(of("a", 2)))
    reply = send(function, of("a", 2), of("c", 3))
    assert statuses(reply) == ["replayed", "recorded"]
    assert [result["limit"] for result in reply.body["results"]] == [10, 10]


def test_a_refused_record_keeps_the_limit_that_refused_it(function: RecordFunction) -> None:
    """A later record of the batch then used its key, and the commit of that record was found."""
    now = function.clock.now()
    refused, recorded = (
        usage_of(RecordUsage("demo-org", feature, 20, "k1", feature, trace_id="t"), timedelta(days=400), now)
        for feature in ("api_calls", "storage_gb")
    )
    batch = Batch([Entry(refused, refused.counter, Terms(None, 10, True)), Entry(recorded, recorded.counter, Terms())])
    found = StoredUsage(recorded, counter_key(recorded.counter, 0))
    apply_cancellation(batch, [], Cancellation(stored=[found], hard=[recorded.counter]))
    apply_terms(batch, {"api_calls": Terms(None, 30, True), "storage_gb": Terms(None, 40, True)})
    assert [(type(entry.outcome), entry.terms.limit) for entry in batch.entries] == [(OverLimit, 10), (Recorded, 40)]


def test_a_refusals_total_is_read_again_after_a_wait(function: RecordFunction) -> None:
    limit(function, HARD)
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])])
    queries = answer_with(function.client, "Query", [])
    assert statuses(send(function, of("large", 11), of("busy", 1, "storage_gb"))) == ["refused", "recorded"]
    features = [query["ExpressionAttributeValues"][":feature"]["S"] for query in queries]
    assert features.count("api_calls#") == 2


def test_a_refusal_without_a_wait_names_the_total_that_refused_it(function: RecordFunction) -> None:
    limit(function, HARD)
    send(function, of("a", 8))
    queries = answer_with(function.client, "Query", [])
    assert [result["currentUsage"] for result in send(function, of("b", 3), of("c", 11)).body["results"]] == [8, 8]
    assert len(queries) == 1


def test_a_busy_record_is_left_out_while_a_shard_is_busy(function: RecordFunction) -> None:
    """A transaction with a busy record is cancelled and billed, so other records go first."""
    sent: list[set[str]] = []
    tries = iter(range(1000))

    def respond(params: Any, **_: Any) -> Any:
        actions = json.loads(params["body"])["TransactItems"]
        keys = {each["Put"]["Item"]["sk"]["S"] for each in actions if "Put" in each}
        sent.append(keys)
        number = next(tries)
        codes = [
            "TransactionConflict"
            if ("Put" in each and "held" in each["Put"]["Item"]["sk"]["S"] and number < 8)
            or ("Update" in each and number < 5)
            else "None"
            for each in actions
        ]
        if "TransactionConflict" not in codes:
            return None
        answer = cancelled(codes)
        return answer, parsed(answer)

    events: Any = function.client.meta.events
    events.register("before-call.dynamodb.TransactWriteItems", respond)
    assert statuses(send(function, of("held"), of("free"))) == ["recorded", "recorded"]
    assert sent[0] == {"held", "free"}
    assert [keys for keys in sent[1:] if "free" in keys] == [{"free"}] * 5


def test_a_refusals_total_never_lacks_what_its_own_batch_recorded(function: RecordFunction) -> None:
    limit(function, HARD)
    lose_answers(function.client, "TransactWriteItems", times=1)
    # The counter is read before the commit whose answer is lost, and not after it.
    answer_with(function.client, "Query", [None, *[THROTTLED] * 1000])
    reply = send(function, of("a", 3), of("b", 11))
    assert statuses(reply) == ["recorded", "refused"]
    assert "currentUsage" not in reply.body["results"][1]


def test_only_likely_refusals_wait_for_a_throttled_hard_limited_counter(
    function: RecordFunction,
) -> None:
    limit(function, HARD)
    answer_with(function.client, "Query", [THROTTLED] * 1000)
    assert statuses(send(function, of("large", 11), of("c", 2, "storage_gb"))) == ["unavailable", "recorded"]
    # A commit under the limit or a cancellation because of it shows the counter, too.
    assert statuses(send(function, of("a", 6), of("b", 5))) == ["recorded", "refused"]
    assert statuses(send(function, of("d", 5), of("e", 7))) == ["refused", "refused"]


def test_a_throttled_hard_limited_counter_is_read_again_after_a_wait(function: RecordFunction) -> None:
    limit(function, HARD)
    answer_with(function.client, "Query", [THROTTLED] * 3)
    slept = len(function.clock.slept)
    assert statuses(send(function, *[of(f"k{number}", 11) for number in range(9)])) == ["refused"] * 9
    assert len(function.clock.slept) == slept + 3


def test_no_counter_is_looked_at_after_the_deadline(function: RecordFunction) -> None:
    limit(function, HARD)
    asked = answer_with(function.client, "Query", [])

    def last(params: Any, **_: Any) -> None:
        if "plan#" in str(params["body"]):
            function.clock.pass_by(seconds=60)

    events: Any = function.client.meta.events
    events.register("before-call.dynamodb.*", last)
    assert statuses(send(function, of("a", 6), of("b", 5))) == ["unavailable"] * 2
    assert asked == []


def test_a_key_is_not_reused_before_it_is_known_whether_a_limit_holds(function: RecordFunction) -> None:
    # The counter has no hard limit in this period, but this environment does not know that.
    RecordFunction(function.client, function.clock)(record_request(of("before")))
    limit(function, HARD)
    answer_with(function.client, "Query", [THROTTLED])
    assert statuses(send(function, of("twice", 11), of("twice", 1, "storage_gb"))) == ["recorded", "conflict"]


def test_a_throttled_hard_limited_counter_is_read_again_while_another_is_busy(
    function: RecordFunction,
) -> None:
    send(function, of("before"))
    limit(function, HARD)
    answer_with(function.client, "Query", [THROTTLED])
    hold_counters(function.client, lambda feature: feature == "storage_gb")
    assert statuses(send(function, of("a", 11), of("b", 1, "storage_gb"))) == ["recorded", "unavailable"]


def test_a_settled_batch_ends_without_a_wait(function: RecordFunction) -> None:
    limit(function, HARD)
    send(function, of("a", 6), of("b", 4))
    # The counter's total is unknown, but each record that needs it has its result already.
    answer_with(function.client, "Query", [THROTTLED])
    slept = len(function.clock.slept)
    assert statuses(send(function, of("a", 6), of("b", 4), of("a", 6))) == ["replayed"] * 3
    assert len(function.clock.slept) == slept


def test_soft_turned_hard_admits_all_in_a_soft_period(function: RecordFunction) -> None:
    send(function, of("before", 1))
    limit(function, HARD)
    for batch in ([of("a", 1), of("b", 2)], [of("c", 100), of("d", 7)]):
        assert statuses(send(function, *batch)) == ["recorded"] * 2


def test_more_than_a_hard_limit_is_never_the_first_usage(function: RecordFunction) -> None:
    # The update's condition holds for any addition to a counter that does not exist.
    limit(function, HARD)
    sent = answer_with(function.client, "TransactWriteItems", [])
    assert statuses(send(function, of("a", 11), of("b", 12))) == ["refused"] * 2
    assert sent == []


def test_a_hard_limited_counter_stays_in_its_first_shard(function: RecordFunction) -> None:
    limit(function, HARD)
    send(function, of("before", 1))
    answer_with(function.client, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])] * 5)
    send(function, of("a", 1))
    assert set(shards(function)) == {"api_calls#0"}


def test_limits_of_several_features_hold_side_by_side(function: RecordFunction) -> None:
    plan = Plan("pro", "Pro", {"api_calls": HARD, "exports": replace(HARD, limit=3), "seats": Entitlement(limit=1)})
    put_on_plan(function.client, function.table, Organization("demo-org"), plan)
    function.clock.pass_by(seconds=61)
    batch = [
        of("a", 8),
        of("b", 2, "exports"),
        of("c", 5, "seats"),
        of("d", 3),
        of("e", 2, "exports"),
        of("f", 2),
        of("g", 1, "exports"),
    ]
    reply = send(function, *batch)
    assert statuses(reply) == ["recorded", "recorded", "recorded", "refused", "refused", "recorded", "recorded"]
    assert [result["currentUsage"] for result in reply.body["results"]] == [10, 3, 5, 10, 3, 10, 3]
