"""Shrinks a workload that breaks a promise, so that the smaller workload still breaks one."""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TypeVar

from tests.faults.workload import Workload

T = TypeVar("T")


def shrunken(workload: Workload, breaks: Callable[[Workload], Collection[str] | None], within_s: float) -> Workload:
    """Shrink `workload` to as few operations, records, actions and faults as possible within `within_s` seconds.

    `breaks` runs a workload. It returns the labels of the injected faults if the run broke a promise, else None.
    `workload` holds the faults of its first run.

    Returns: the smallest workload found for which `breaks` is not None; `workload` itself if it does not break again.
    """
    deadline_s = time.monotonic() + within_s
    # One client and a stream that delivers once are easiest to follow, and the same in every run.
    for simpler in (
        replace(workload, clients=1, restless=False),
        replace(workload, clients=1),
        replace(workload, restless=False),
        workload,
    ):
        if (met := breaks(simpler)) is not None:
            workload = _with_faults(simpler, met)
            break
    else:
        return workload

    every_operation = {operation.id for operation in workload.operations}

    def breaks_with_actions(some: list[int]) -> bool:
        return breaks(workload.keeping(every_operation, set(some))) is not None

    actions = set(fewest([action.id for action in workload.actions], breaks_with_actions, deadline_s))

    def breaks_with_operations(some: list[int]) -> bool:
        return breaks(workload.keeping(set(some), actions)) is not None

    operations = set(fewest(sorted(every_operation), breaks_with_operations, deadline_s))
    workload = workload.keeping(operations, actions)

    def breaks_with_items(some: list[tuple[int, int]]) -> bool:
        return breaks(workload.keeping_items(set(some))) is not None

    workload = workload.keeping_items(set(fewest(workload.items, breaks_with_items, deadline_s)))
    # Most faults belonged to operations that were removed.
    if (met := breaks(workload)) is not None:
        workload = _with_faults(workload, met)

    def breaks_with(labels: list[str]) -> bool:
        return breaks(_with_faults(workload, labels)) is not None

    return _with_faults(workload, fewest(list(workload.faults or {}), breaks_with, deadline_s))


def _with_faults(workload: Workload, labels: Iterable[str]) -> Workload:
    faults = workload.faults or {}
    return replace(workload, faults={label: faults[label] for label in labels if label in faults})


def fewest(things: list[T], breaks: Callable[[list[T]], bool], deadline_s: float) -> list[T]:
    """Shrink `things` to a part for which `breaks` is true and that needs each of its members.

    After `deadline_s` on the monotonic clock, the part found so far is the result.

    Source: A. Zeller, R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002 (ddmin).
    """
    size = len(things)
    while size >= 1:
        start = 0
        while start < len(things):
            if time.monotonic() > deadline_s:
                return things
            without = things[:start] + things[start + size :]
            if breaks(without):
                things = without
            else:
                start += size
        size = min(size // 2, len(things))
    return things
