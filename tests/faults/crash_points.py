"""Every point at which a function can be broken off, found by watching the calls that it makes.

A history that takes every way through both functions is run without a fault; each call that was seen is a point, and
the history is run again for each of them, with the fault right there. A call that is added to a function later is seen
as well.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tests.faults.checker import violations
from tests.faults.driver import Stage, run
from tests.faults.environment import RECORD
from tests.faults.faults import ANSWER, KILLS, Call, kinds
from tests.faults.history import RETENTION_S, UNKNOWN_ORGANIZATION, History, Operation, Phase

_BEGIN_S = 1_793_491_195.0  # 2026-10-31T23:59:55Z
_DAY_S = 86_400.0

EVERY_WAY = History(
    # A seed that lets the bus refuse one event alone and another with its whole call.
    seed=48,
    clients=1,
    phases=(
        Phase(
            _BEGIN_S,
            lasts_s=10,
            damaged=(0,),
            operations=(
                Operation(0, "a", "k"),
                # A replay, and a reuse.
                Operation(1, "a", "k"),
                Operation(2, "a", "k", variant=1),
                # The same key of others.
                Operation(3, "b", "k"),
                Operation(4, "leaving", "k"),
                Operation(5, "a", "k2"),
            ),
        ),
        Phase(
            _BEGIN_S + _DAY_S,
            lasts_s=10,
            inactive=("leaving",),
            operations=(
                # Counted before, new, and of nobody.
                Operation(6, "leaving", "k"),
                Operation(7, "leaving", "k2"),
                Operation(8, UNKNOWN_ORGANIZATION, "k"),
            ),
        ),
        # The key is free again.
        Phase(_BEGIN_S + RETENTION_S + 60, lasts_s=10, operations=(Operation(9, "a", "k"), Operation(10, "b", "k"))),
    ),
    faults={},
    spoilt_in=3,
    restless=False,
)


@dataclass(frozen=True)
class Point:
    """One fault at one call."""

    call: Call
    fault: str

    def __str__(self) -> str:
        return f"{self.fault} at {self.call.operation} ({self.call.label})"


def calls(on: Stage, history: History = EVERY_WAY, record: str = RECORD) -> list[Call]:
    """The calls that are made when nothing goes wrong, in order of their labels; not those that only ask for totals.

    Raises:
        RuntimeError: something went wrong all the same.
    """
    ran = run(history, on, record=record)
    if wrong := violations(ran.evidence):
        raise RuntimeError(f"without any fault: {wrong}")
    return sorted((call for call in ran.faults.calls if not call.last_try), key=lambda call: call.label)


def kill_points(found: Iterable[Call]) -> list[Point]:
    """The process killed before and after each call."""
    return [Point(call, kill) for call in found if call.operation != ANSWER for kill in KILLS]


def all_points(found: Iterable[Call]) -> list[Point]:
    """Everything that can go wrong at each call."""
    return [Point(call, fault) for call in found for fault in kinds(call)]


def broken_promises(
    points: Iterable[Point], on: Stage, history: History = EVERY_WAY, record: str = RECORD
) -> Iterator[tuple[Point, History, list[str]]]:
    """Each point, the history that has its fault there, and the promises which that broke.

    The fault must have been met: a point that is not reached is reported as broken.
    """
    for point in points:
        faulty = replace(history, faults={point.call.label: point.fault})
        ran = run(faulty, on, record=record)
        wrong = violations(ran.evidence)
        if ran.faults.injected != faulty.faults:
            wrong.append(f"the call {point.call.label} was not made")
        yield point, faulty, wrong
