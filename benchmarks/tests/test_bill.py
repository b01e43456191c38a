import ast
from dataclasses import fields, replace

import pytest

from benchmarks.bill import ACCESS_LINE, INVOCATION_LINES, Bill, Durations, Prices, bill
from benchmarks.counting import Call
from benchmarks.workloads import Counted, Work
from infra.environments import PROD
from tools.setup import ROOT

pytestmark = pytest.mark.verify

NO_TIME = Durations(**{each.name: 0.0 for each in fields(Durations)} | {"full_core_mib": 1769, "published_at_once": 1})
NOTHING = Work(10)


def counted(recording: Work, publishing: Work = NOTHING, watching: Work = NOTHING, http_requests: int = 0) -> Counted:
    return Counted(http_requests, recording, publishing, watching)


def test_each_component_has_its_price() -> None:
    prices = Prices(
        write_units=2,
        read_units=3,
        table_gb_month=0,
        backup_gb_month=0,
        lambda_requests=5,
        lambda_gb_s=0.01,
        http_requests=7,
        events=11,
        log_gb=13,
    )
    whole = Bill(http_requests=1, invocations=2, gb_s=300, write_units=4, read_units=6, events=1, log_gb=0.5)
    assert whole.dollars(prices) == {
        "API Gateway": 7,
        "Lambda": 2 * 5 + 300 * 0.01,
        "DynamoDB writes": 8,
        "DynamoDB reads": 18,
        "EventBridge": 11,
        "logs": 6.5,
    }


def test_a_bill_adds_up_the_cost_per_record_of_every_function() -> None:
    recording = Work(10, 10, [Call("TransactWriteItems", write_units=40), Call("Query", read_units=10)])
    publishing = Work(100, 1, [Call("PutEvents", events=10)] * 10)
    watching = Work(200, 2, [Call("GetItem", read_units=1)] * 2)
    found = bill(counted(recording, publishing, watching, http_requests=5), NO_TIME)
    assert (found.http_requests, found.invocations) == (0.5, 1 + 0.01 + 0.01)
    assert (found.write_units, found.read_units) == (4, 1 + 0.01)
    assert (found.dynamodb_requests, found.put_events, found.events) == (0.2 + 0.01, 0.1, 1)


def test_an_invocation_is_billed_for_its_calls_and_its_own_time_rounded_up() -> None:
    durations = replace(
        NO_TIME,
        get_item_ms=1.0,
        query_ms=2.0,
        put_item_ms=3.0,
        update_item_ms=4.0,
        transaction_ms=5.0,
        transactional_read_ms=7.0,
        further_item_ms=0.5,
        put_events_ms=6.0,
        record_cpu_ms=0.5,
        further_record_cpu_ms=0.25,
        full_core_mib=2 * PROD.record_memory_mib,
    )
    operations = ["GetItem", "Query", "PutItem", "UpdateItem", "PutEvents", "TransactGetItems"]
    calls = [*(Call(operation) for operation in operations), Call("TransactWriteItems", written_items=12)]
    # Two records in one invocation: (1 + 2 + 3 + 4 + 6 + 7) + (5 + 10 * 0.5) + (0.5 + 0.25) / half a core = 34.5.
    found = bill(counted(Work(2, 1, calls)), durations)
    assert found.gb_s == pytest.approx(PROD.record_memory_mib / 1024 * 0.035 / 2 * 1_000_000)


def test_the_publishers_calls_are_billed_in_parallel() -> None:
    durations = replace(NO_TIME, put_events_ms=10.0, published_at_once=4)
    publishing = Work(1, 1, [Call("PutEvents")] * 9)
    found = bill(counted(NOTHING, publishing), durations)
    assert found.gb_s == pytest.approx(PROD.publisher_memory_mib / 1024 * 0.030 * 1_000_000)


def test_no_more_than_a_whole_core_is_used() -> None:
    durations = replace(NO_TIME, record_cpu_ms=3.0, full_core_mib=1)
    found = bill(counted(Work(1, 1)), durations)
    assert found.gb_s == pytest.approx(PROD.record_memory_mib / 1024 * 0.003 * 1_000_000)


def test_a_call_without_a_known_duration_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="BatchGetItem"):
        bill(counted(Work(1, 1, [Call("BatchGetItem")])), NO_TIME)


def test_logs_include_the_functions_lines_lambdas_lines_and_the_access_log() -> None:
    quiet = bill(counted(Work(1, 1)), NO_TIME).log_gb
    assert quiet * 1000 == pytest.approx(len(INVOCATION_LINES))
    assert bill(counted(Work(1, 1, log_bytes=500)), NO_TIME).log_gb == pytest.approx(quiet + 0.5)
    assert bill(counted(Work(1, 1), http_requests=1), NO_TIME).log_gb > quiet + 0.3


def test_the_access_log_has_the_members_that_are_asked_for() -> None:
    # The module is parsed, because importing the CDK would start Node.
    tree = ast.parse((ROOT / "infra" / "http_api.py").read_text())
    (asked,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_ACCESS_LOG"
    )
    assert list(ACCESS_LINE) == list(asked)
