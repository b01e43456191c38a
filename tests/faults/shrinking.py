"""Makes a history that breaks a promise as small as can be, and keeps it breaking it."""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TypeVar

from tests.faults.history import History

T = TypeVar("T")


def shrunken(history: History, breaks: Callable[[History], Collection[str] | None], within_s: float) -> History:
    """A part of `history`, with as few operations, records, deeds and faults as `within_s` lets us find, that `breaks`.

    `breaks` returns the labels of the faults that were met if a promise was broken, else None. `history` has the faults
    that it met; with them it need not break again, if it was a matter of luck: then it is returned as it is.
    """
    deadline_s = time.monotonic() + within_s
    # One client after the other, and a stream that delivers once, are easiest to follow and the same in every run.
    for simpler in (
        replace(history, clients=1, restless=False),
        replace(history, clients=1),
        replace(history, restless=False),
        history,
    ):
        if (met := breaks(simpler)) is not None:
            history = _with_faults(simpler, met)
            break
    else:
        return history

    every_operation = {operation.id for operation in history.operations}

    def breaks_with_deeds(some: list[int]) -> bool:
        return breaks(history.keeping(every_operation, set(some))) is not None

    deeds = set(fewest([deed.id for deed in history.deeds], breaks_with_deeds, deadline_s))

    def breaks_with_operations(some: list[int]) -> bool:
        return breaks(history.keeping(set(some), deeds)) is not None

    operations = set(fewest(sorted(every_operation), breaks_with_operations, deadline_s))
    history = history.keeping(operations, deeds)

    def breaks_with_items(some: list[tuple[int, int]]) -> bool:
        return breaks(history.keeping_items(set(some))) is not None

    history = history.keeping_items(set(fewest(history.items, breaks_with_items, deadline_s)))
    # Most faults were of operations that are gone.
    if (met := breaks(history)) is not None:
        history = _with_faults(history, met)

    def breaks_with(labels: list[str]) -> bool:
        return breaks(_with_faults(history, labels)) is not None

    return _with_faults(history, fewest(list(history.faults or {}), breaks_with, deadline_s))


def _with_faults(history: History, labels: Iterable[str]) -> History:
    faults = history.faults or {}
    return replace(history, faults={label: faults[label] for label in labels if label in faults})


def fewest(things: list[T], breaks: Callable[[list[T]], bool], deadline_s: float) -> list[T]:
    """A part of `things` that breaks, and none of whose chunks can be left out, down to single things.

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
