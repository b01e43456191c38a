"""Makes a history that breaks a promise as small as can be, and keeps it breaking it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.faults.history import History

T = TypeVar("T")


def shrunken(history: History, breaks: Callable[[History], bool], within_s: float) -> History:
    """A part of `history`, with as few operations and then as few faults as `within_s` lets us find, that `breaks`.

    `history` has the faults that it met; with them it need not break again, if it was a matter of luck: then it is
    returned as it is.
    """
    deadline_s = time.monotonic() + within_s
    # One client after the other is easiest to follow, and the same in every run.
    for alone in (replace(history, clients=1), history):
        if breaks(alone):
            history = alone
            break
    else:
        return history
    ids = [operation.id for operation in history.operations]
    kept = _fewest(ids, lambda some: breaks(history.keeping(set(some))), deadline_s)
    history = history.keeping(set(kept))
    faults = history.faults or {}
    labels = _fewest(list(faults), lambda some: breaks(_with_faults(history, some)), deadline_s)
    return _with_faults(history, labels)


def _with_faults(history: History, labels: Sequence[str]) -> History:
    faults = history.faults or {}
    return replace(history, faults={label: faults[label] for label in labels})


def _fewest(things: list[T], breaks: Callable[[list[T]], bool], deadline_s: float) -> list[T]:
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
