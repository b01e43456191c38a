"""No promise breaks when a function is killed at any of its calls."""

import pytest

from tests.faults import crash_points
from tests.faults.crash_points import EVERY_BATCH, EVERY_LIMIT, EVERY_PAGE, Outcome
from tests.faults.driver import Stage
from tests.faults.workload import Workload

_CALLS = {"GetItem", "TransactWriteItems", "Query", "PutEvents", "PutObject"}


def _broken(outcomes: list[Outcome]) -> list[str]:
    return [f"{outcome.point}: {outcome.wrong}" for outcome in outcomes if outcome.wrong]


def test_killed_before_or_after_any_call_nothing_is_lost_or_counted_twice(on: Stage) -> None:
    points = crash_points.kill_points(crash_points.calls(on))
    assert {point.call.operation for point in points} >= _CALLS
    assert len(points) >= 60
    assert _broken(list(crash_points.outcomes(points, on))) == []


@pytest.mark.verify
@pytest.mark.parametrize(
    ("invocation", "operations"),
    [
        # The watcher notices thresholds, the publisher publishes them, and two functions change the settings.
        ("watch", {"GetItem", "TransactGetItems", "Query", "PutItem"}),
        ("publish", {"PutEvents"}),
        ("consume", {"GetItem", "UpdateItem", "SendMessage"}),
        ("operate", {"GetItem", "UpdateItem", "TransactWriteItems"}),
        # Refused in the transaction, refused before it, and recorded where the hard limit does not apply.
        ("record 5", {"TransactWriteItems", "TransactGetItems"}),
        ("record 6", {"Query", "TransactGetItems"}),
        ("record 8", {"Query", "TransactWriteItems"}),
    ],
)
def test_killed_before_or_after_any_call_limits_hold_and_are_noticed_once(
    invocation: str, operations: set[str], on: Stage
) -> None:
    calls = crash_points.calls(on, EVERY_LIMIT)
    theirs = [call for call in calls if call.invocation.startswith((f"{invocation} ", f"{invocation}."))]
    # A kill before a call equals a kill after the previous call. The soak tries both.
    points = [
        point for point in crash_points.kill_points(theirs) if point.fault == "killed after" or point.call.number == 0
    ]
    assert {point.call.operation for point in points} == operations
    assert _broken(list(crash_points.outcomes(points, on, EVERY_LIMIT))) == []


@pytest.mark.verify
@pytest.mark.parametrize(
    ("workload", "invocation", "operations"),
    [
        # Batches with duplicates, and reads that find out whether a refused record was stored before.
        (EVERY_BATCH, "record 1", {"GetItem", "TransactWriteItems", "TransactGetItems", "Query"}),
        (EVERY_BATCH, "record 2", {"GetItem", "TransactWriteItems", "TransactGetItems", "Query"}),
        (EVERY_BATCH, "record 4", {"TransactGetItems", "Query"}),
        # A request that announces pages, and requests that read them.
        (EVERY_PAGE, "record 1", {"GetItem", "TransactGetItems", "TransactWriteItems", "UpdateItem", "Query"}),
        (EVERY_PAGE, "record 11", {"TransactGetItems", "TransactWriteItems", "Query"}),
        (EVERY_PAGE, "watch", {"GetItem", "TransactGetItems", "Query", "PutItem"}),
    ],
)
def test_killed_before_or_after_any_call_batches_and_pages_are_counted_once(
    workload: Workload, invocation: str, operations: set[str], on: Stage
) -> None:
    calls = crash_points.calls(on, workload)
    theirs = [call for call in calls if call.invocation.startswith((f"{invocation} ", f"{invocation}."))]
    points = [
        point for point in crash_points.kill_points(theirs) if point.fault == "killed after" or point.call.number == 0
    ]
    assert {point.call.operation for point in points} == operations
    assert _broken(list(crash_points.outcomes(points, on, workload))) == []


@pytest.mark.verify
def test_no_record_is_denied_while_another_transaction_holds_it(on: Stage) -> None:
    found = [call for call in crash_points.calls(on, EVERY_BATCH) if call.operation == "TransactGetItems"]
    points = [point for point in crash_points.all_points(found) if point.fault.startswith("conflict on ")]
    assert len(points) > 5
    outcomes = list(crash_points.outcomes(points, on, EVERY_BATCH))
    assert _broken(outcomes) == []


@pytest.mark.verify
@pytest.mark.parametrize(
    ("operation", "fault", "then"),
    [
        ("TransactWriteItems", "conflict on 1", "TransactWriteItems"),
        ("TransactWriteItems", "answer lost", "TransactWriteItems"),
        ("Query", "throttled", "Query"),
        ("PutEvents", "some refused", "PutEvents"),
        ("PutObject", "failed", "PutObject"),
    ],
)
def test_killed_at_a_call_that_only_follows_a_fault_nothing_is_lost(
    operation: str, fault: str, then: str, on: Stage
) -> None:
    found = crash_points.calls(on)
    first = next(
        point for point in crash_points.all_points(found) if (point.call.operation, point.fault) == (operation, fault)
    )
    led = list(crash_points.outcomes([first], on))
    further = crash_points.further_points(led, found)
    assert then in {point.call.operation for point in further}
    assert _broken([*led, *crash_points.outcomes(further, on)]) == []


@pytest.mark.verify
def test_a_new_call_in_a_function_becomes_a_crash_point_by_itself(on: Stage) -> None:
    variation = "tests.faults.variations:one_more_call"
    before = crash_points.kill_points(crash_points.calls(on))
    after = crash_points.kill_points(crash_points.calls(on, record=variation))
    added = len(after) - len(before)
    # Each added call has two points, and the record function reads organizations nine times.
    assert added >= 2 * 9
    in_first_request = [point for point in after if point.call.invocation == "record 0.0"]
    operations = [point.call.operation for point in in_first_request]
    assert operations[::2] == ["GetItem", "GetItem", "TransactWriteItems", "Query"]
    assert _broken(list(crash_points.outcomes(in_first_request, on, record=variation))) == []


@pytest.mark.verify
def test_a_new_call_that_only_follows_a_fault_becomes_a_crash_point_by_itself(on: Stage) -> None:
    variation = "tests.faults.variations:one_more_call_after_a_conflict"
    found = crash_points.calls(on, record=variation)
    conflict = next(point for point in crash_points.all_points(found) if point.fault == "conflict on 0")
    led = list(crash_points.outcomes([conflict], on, record=variation))
    further = crash_points.further_points(led, found)
    assert "DescribeTable" in {point.call.operation for point in further}
    assert _broken(list(crash_points.outcomes(further, on, record=variation))) == []
