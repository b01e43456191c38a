"""The functions broken off at every call that they make."""

from tests.faults import crash_points
from tests.faults.driver import Stage

_CALLS = {"GetItem", "TransactWriteItems", "Query", "PutEvents", "PutObject"}


def test_killed_before_or_after_any_call_nothing_is_lost_or_counted_twice(on: Stage) -> None:
    calls = crash_points.calls(on)
    points = crash_points.kill_points(calls)
    assert {point.call.operation for point in points} == _CALLS
    assert len(points) >= 60
    broken = [f"{point}: {wrong}" for point, _, wrong in crash_points.broken_promises(points, on) if wrong]
    assert broken == []


def test_a_call_that_is_added_to_a_function_is_a_crash_point_without_anybody_saying_so(on: Stage) -> None:
    variation = "tests.faults.variations:one_more_call"
    before = crash_points.kill_points(crash_points.calls(on))
    after = crash_points.kill_points(crash_points.calls(on, record=variation))
    added = len(after) - len(before)
    # Twice for every request that asks for its organization, and ours ask nine times.
    assert added >= 2 * 9
    in_first_request = [point for point in after if point.call.invocation == "record 0.0"]
    operations = [point.call.operation for point in in_first_request]
    assert operations[::2] == ["GetItem", "GetItem", "TransactWriteItems", "Query"]
    broken = crash_points.broken_promises(in_first_request, on, record=variation)
    assert [f"{point}: {wrong}" for point, _, wrong in broken if wrong] == []
