"""Shrinking makes a workload smaller and keeps its failure."""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.shrinking import shrunken
from tests.faults.workload import Batch, Operation, Phase, Workload, generate, load, save

pytestmark = pytest.mark.verify


def _workload() -> Workload:
    return replace(generate(7, operations=60), faults={f"record {number}.0/1": "killed after" for number in range(60)})


def _needs(ids: set[int], labels: set[str]) -> Callable[[Workload], Collection[str] | None]:
    """Return a `breaks` that is true for workloads with these operations and faults.

    It reports the faults of the workload's operations as injected.
    """

    def breaks(workload: Workload) -> Collection[str] | None:
        there = {operation.id for operation in workload.operations}
        faults = (workload.faults or {}).keys()
        met = {label for label in faults if int(label.split(".")[0].removeprefix("record ")) in there}
        return met if ids <= there and labels <= faults else None

    return breaks


def test_only_the_operations_and_faults_that_are_needed_are_left() -> None:
    smallest = shrunken(_workload(), _needs({3, 41, 42}, {"record 41.0/1"}), within_s=60)
    assert [operation.id for operation in smallest.operations] == [3, 41, 42]
    assert smallest.faults == {"record 41.0/1": "killed after"}
    assert (smallest.clients, smallest.restless) == (1, False)


def test_only_the_records_of_a_batch_that_are_needed_are_left() -> None:
    batch = next(one for one in _workload().operations if isinstance(one, Batch) and len(one.items) > 3)
    needed = replace(batch.items[2], key="needed")
    items = (*batch.items[:2], needed, *batch.items[3:])
    phase = Phase(0, lasts_s=1, operations=(Operation(0, "acme", "k"), replace(batch, id=1, items=items)))

    def breaks(workload: Workload) -> Collection[str] | None:
        return [] if any(isinstance(one, Batch) and needed in one.items for one in workload.operations) else None

    (smallest,) = shrunken(replace(_workload(), phases=(phase,)), breaks, within_s=60).operations
    assert smallest == replace(batch, id=1, items=(needed,))


def test_faults_that_were_not_injected_are_removed_first() -> None:
    tried: list[int] = []
    needs = _needs({3}, {"record 3.0/1"})

    def breaks(workload: Workload) -> Collection[str] | None:
        tried.append(len(workload.faults or {}))
        return needs(workload)

    assert shrunken(_workload(), breaks, within_s=60).faults == {"record 3.0/1": "killed after"}
    # All sixty faults until one operation is left, then only its own fault.
    assert set(tried) <= {60, 1, 0}


def test_a_failure_that_needs_several_clients_keeps_them() -> None:
    needs = _needs({5}, set())
    smallest = shrunken(_workload(), lambda workload: needs(workload) if workload.clients > 1 else None, within_s=60)
    assert smallest.clients == _workload().clients
    assert [operation.id for operation in smallest.operations] == [5]


def test_a_failure_that_does_not_recur_leaves_the_history_unchanged() -> None:
    assert shrunken(_workload(), lambda _: None, within_s=60) == _workload()


def test_without_time_the_history_stays_large_and_still_fails() -> None:
    assert len(shrunken(_workload(), _needs({3}, set()), within_s=-1).operations) == 60


def test_a_saved_workload_loads_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "some" / "workload.json"
    save(_workload(), file)
    assert load(file) == _workload()


def test_a_seed_always_generates_the_same_workload() -> None:
    assert generate(7, 200) == generate(7, 200)
    assert generate(7, 200) != generate(8, 200)
