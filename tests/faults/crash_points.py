"""Every point at which a function can be broken off, found by watching the calls that it makes.

A history that takes every way through both functions is run without a fault; each call that was seen is a point, and
the history is run again for each of them, with the fault right there. Calls that are made only after a fault are seen
then, and are points as well. A call that is added to a function later is seen without anybody listing it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

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
                Operation(0, "acme", "k"),
                # A replay, and a reuse.
                Operation(1, "acme", "k"),
                Operation(2, "acme", "k", variant=1),
                # The same key of others.
                Operation(3, "bolt", "k"),
                Operation(4, "leaving", "k"),
                # Another usage in the same counter.
                Operation(5, "acme", "k3"),
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
        Phase(
            _BEGIN_S + RETENTION_S + 60, lasts_s=10, operations=(Operation(9, "acme", "k"), Operation(10, "bolt", "k"))
        ),
    ),
    faults={},
    spoilt_in=3,
    restless=False,
)


@dataclass(frozen=True)
class Point:
    """One fault at one call, which is made after the faults that `led_there`, by label."""

    call: Call
    fault: str
    led_there: tuple[tuple[str, str], ...] = ()

    @property
    def faults(self) -> dict[str, str]:
        return {**dict(self.led_there), self.call.label: self.fault}

    def __str__(self) -> str:
        after = "".join(f", after {fault} at {label}" for label, fault in self.led_there)
        return f"{self.fault} at {self.call.operation} ({self.call.label}{after})"


@dataclass(frozen=True)
class Outcome:
    """What came of one point."""

    point: Point
    history: History
    calls: list[Call]
    wrong: list[str]
    """The promises that were broken."""


def calls(on: Stage, history: History = EVERY_WAY, record: str = RECORD) -> list[Call]:
    """The calls that are made when nothing goes wrong, in order of their labels; not those that only ask for totals.

    Raises:
        BrokenWithoutFault: something went wrong all the same.
    """
    ran = run(history, on, record=record)
    if wrong := violations(ran.evidence):
        raise BrokenWithoutFault(wrong)
    return sorted((call for call in ran.faults.calls if not call.last_try), key=lambda call: call.label)


class BrokenWithoutFault(Exception):
    """A promise was broken although nothing had gone wrong."""

    def __init__(self, wrong: list[str]) -> None:
        super().__init__("; ".join(wrong))
        self.wrong = wrong


def kill_points(found: Iterable[Call]) -> list[Point]:
    """The process killed before and after each call."""
    return [Point(call, kill) for call in found if call.operation != ANSWER for kill in KILLS]


def all_points(found: Iterable[Call]) -> list[Point]:
    """Everything that can go wrong at each call."""
    return [Point(call, fault) for call in found for fault in kinds(call)]


def further_points(outcomes: Iterable[Outcome], found: Iterable[Call]) -> list[Point]:
    """The process killed before and after each call that is made only because something had failed before it.

    In the invocation of the fault: what comes after that is an invocation like any other. What looks the same from
    inside (the same calls and faults, in the same kind of invocation) is there once.
    """
    known = {call.label for call in found}
    points: dict[tuple[Any, ...], Point] = {}
    for outcome in outcomes:
        point = outcome.point
        made = [call for call in outcome.calls if call.invocation == point.call.invocation]
        made.sort(key=lambda call: call.number)
        for at, call in enumerate(made):
            usual = call.label in known and call.number <= point.call.number
            if usual or call.operation == ANSWER:
                continue
            kind = call.invocation.partition(" ")[0]
            seen = (kind, point.call.number, point.fault, *(each.operation for each in made[: at + 1]))
            for kill in KILLS:
                points.setdefault((*seen, kill), Point(call, kill, ((point.call.label, point.fault),)))
    return list(points.values())


def outcomes(
    points: Iterable[Point], on: Stage, history: History = EVERY_WAY, record: str = RECORD
) -> Iterator[Outcome]:
    """What comes of each point, one after the other.

    The faults must have been met: a point that is not reached counts as a broken promise.
    """
    for point in points:
        faulty = replace(history, faults=point.faults)
        ran = run(faulty, on, record=record)
        wrong = violations(ran.evidence)
        if ran.faults.injected != faulty.faults:
            wrong.append(f"the call {point.call.label} was not made")
        yield Outcome(point, faulty, ran.faults.calls, wrong)
