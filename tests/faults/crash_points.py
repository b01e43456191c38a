"""Every point at which a function can be broken off, found by watching the calls that it makes.

Workloads that take every way through the functions are run without a fault, but for throttles where a counter is to
announce pages. Each call that was seen is a point, and its workload is run again for each of them, with the fault right
there. Calls that are made only after a fault are seen then, and are points as well. A call that is added to a function
later is seen without anybody listing it.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.faults.checker import violations
from tests.faults.driver import Stage, run
from tests.faults.environment import RECORD
from tests.faults.faults import ANSWER, KILLS, Call, kinds
from tests.faults.workload import (
    FEATURES,
    NEWCOMER,
    RETENTION_S,
    UNKNOWN_ORGANIZATION,
    Batch,
    EventSent,
    Item,
    LimitsPut,
    Operation,
    Phase,
    PlanApplied,
    Workload,
    content,
)

_BEGIN_S = 1_793_491_195.0  # 2026-10-31T23:59:55Z
_DAY_S = 86_400.0

EVERY_WAY = Workload(
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


_LIMITS_BEGIN_S = 1_794_312_000.0  # 2026-11-10T12:00:00Z
_HOUR_S = 3600.0


def _event(key: str, event_id: str, **payload: Any) -> dict[str, Any]:
    detail = {"id": event_id, "occurredAt": "2026-11-10T12:00:00.000Z", "key": key, "version": "1.0.0"}
    return {"detail-type": key, "detail": {**detail, "payload": payload}}


def _subscribed(event_id: str, **changes: Any) -> dict[str, Any]:
    payload = {
        "organizationId": "acme",
        "previousPlan": "legacy",
        "newPlan": "free",
        "previousStatus": "TRIALING",
        "newStatus": "ACTIVE",
        "changedAt": "2026-11-10T12:00:00Z",
    }
    return _event("billing.subscription.changed", event_id, **{**payload, **changes})


# What acme's keys stand for: of api_calls b 13, c 272, j 891 and l 11; of storage_gb g 569 and m 66; of the last of the
# features a 490, e 964 and f 544.
EVERY_LIMIT = Workload(
    seed=1,
    clients=1,
    phases=(
        Phase(
            _LIMITS_BEGIN_S,
            lasts_s=10,
            operations=(Operation(0, "acme", "l"), Operation(1, "acme", "m")),
            deeds=(
                PlanApplied(
                    1,
                    after=1,
                    plan="free",
                    features={
                        "api_calls": {"limit": 300, "enforcement": "soft", "warnAt": [80]},
                        "storage_gb": {"limit": 500, "enforcement": "hard", "warnAt": []},
                        FEATURES[-1]: {"limit": 900, "enforcement": "hard", "warnAt": [50]},
                    },
                ),
                EventSent(2, after=1, event=_subscribed("b")),
                # Outdated, and not understood.
                EventSent(3, after=1, event=_subscribed("a", newPlan="pro")),
                EventSent(4, after=1, event=_subscribed("c", newStatus="ASLEEP"), malformed=True),
                EventSent(
                    5,
                    after=1,
                    event=_event("org.created", "d", organizationId=NEWCOMER, createdAt="2026-11-10T12:00:00Z"),
                ),
            ),
        ),
        Phase(
            _LIMITS_BEGIN_S + _HOUR_S,
            lasts_s=10,
            operations=(
                # To 283, and on to 296, of a soft 300.
                Operation(2, "acme", "c"),
                Operation(3, "acme", "b"),
                # Of a hard 900: it fits, together they do not, more than all at once, and the first once more.
                Operation(4, "acme", "a"),
                Operation(5, "acme", "f"),
                Operation(6, "acme", "e"),
                Operation(7, "acme", "a"),
                # Of a hard 500 that was none when the counter was begun.
                Operation(8, "acme", "g"),
                Operation(9, NEWCOMER, "k"),
            ),
            # Reached by what was used before.
            deeds=(LimitsPut(6, after=9, organization="acme", limits={"api_calls": 280}),),
        ),
        Phase(
            _LIMITS_BEGIN_S + 2 * _HOUR_S,
            lasts_s=10,
            operations=(Operation(10, "acme", "j"),),
            deeds=(LimitsPut(7, after=10, organization="acme", limits={"api_calls": "plan", FEATURES[-1]: 1034}),),
        ),
        # What was refused fits now.
        Phase(_LIMITS_BEGIN_S + 3 * _HOUR_S, lasts_s=10, operations=(Operation(11, "acme", "f"),)),
    ),
    faults={},
    spoilt_in=0,
    restless=False,
)

# Of the same keys.
EVERY_BATCH = Workload(
    seed=1,
    clients=1,
    phases=(
        Phase(
            _LIMITS_BEGIN_S,
            lasts_s=10,
            operations=(Operation(0, "acme", "l"),),
            deeds=(
                PlanApplied(
                    1,
                    after=0,
                    plan="free",
                    features={FEATURES[-1]: {"limit": 900, "enforcement": "hard", "warnAt": [50]}},
                ),
                EventSent(2, after=0, event=_subscribed("b")),
            ),
        ),
        Phase(
            _LIMITS_BEGIN_S + _HOUR_S,
            lasts_s=10,
            operations=(
                # New ones of three features; one of before; twice, equal and not; one that does not fit; one flawed.
                Batch(
                    1,
                    "acme",
                    (
                        Item("b"),
                        Item("l"),
                        Item("g"),
                        Item("b"),
                        Item("a"),
                        Item("f"),
                        Item("b", variant=1),
                        Item("c", flaw="no quantity"),
                        Item("m"),
                    ),
                ),
                # What is there and what is not; of a hard 900 less 490, 544 and 964 do not fit.
                Batch(2, "acme", (Item("f"), Item("a"), Item("c"), Item("e"), Item("g", variant=3), Item("j"))),
                # The whole of it again.
                Batch(3, "acme", (Item("f"), Item("a"), Item("c"), Item("e"), Item("g", variant=3), Item("j"))),
            ),
        ),
        Phase(
            _LIMITS_BEGIN_S + 2 * _HOUR_S,
            lasts_s=10,
            inactive=("acme",),
            operations=(
                # Some recorded before, and none.
                Batch(4, "acme", (Item("c"), Item("k"))),
                Batch(5, "acme", (Item("k"), Item("k2"))),
            ),
        ),
    ),
    faults={},
    spoilt_in=0,
    restless=False,
)


# Of an organization that was not known, and then with its plan.
_READS = 2


def _throttled(invocation: str, calls: int) -> dict[str, str]:
    """The counter is throttled for so many calls, whichever shard is tried; not the organization and its plan."""
    return {f"{invocation}/{number}": "throttled on 1" for number in range(_READS, _READS + calls)}


# Others of acme's keys that stand for api_calls.
_MORE_KEYS = tuple(
    itertools.islice((f"m{n}" for n in range(99) if content("acme", f"m{n}", 0)["feature"] == "api_calls"), 6)
)

# Of one counter, until it is too narrow for whoever meets it.
EVERY_PAGE = Workload(
    seed=1,
    clients=1,
    phases=(
        Phase(
            _LIMITS_BEGIN_S,
            lasts_s=10,
            operations=(Operation(0, "acme", "l"),),
            deeds=(
                PlanApplied(
                    1,
                    after=0,
                    plan="free",
                    features={"api_calls": {"limit": 1100, "enforcement": "soft", "warnAt": [20]}},
                ),
                EventSent(2, after=0, event=_subscribed("b")),
            ),
        ),
        Phase(
            _LIMITS_BEGIN_S + _HOUR_S,
            # So short that what was read a moment ago is still remembered.
            lasts_s=0.5,
            operations=(
                # The one that announces pages; those after it are on any of them.
                Operation(1, "acme", "c"),
                Operation(2, "acme", "b"),
                *(Operation(number, "acme", key) for number, key in enumerate(_MORE_KEYS, start=3)),
                Batch(9, "acme", (Item("b"), Item("j"))),
                Operation(10, "acme", "l"),
            ),
        ),
        # What was read is too old.
        Phase(_LIMITS_BEGIN_S + 2 * _HOUR_S, lasts_s=10, operations=(Operation(11, "acme", "b"),)),
    ),
    faults=_throttled("record 1.0", 7),
    spoilt_in=0,
    restless=False,
)
HISTORIES = (EVERY_WAY, EVERY_LIMIT, EVERY_BATCH, EVERY_PAGE)

# Of calls that are made at once, the first may be so slow, or so soon the last, that the second is not made: half of
# the time, as a publisher with two of them has it.
_TRIES = 20


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
    workload: Workload
    calls: list[Call]
    wrong: list[str]
    """The promises that were broken."""


def calls(on: Stage, workload: Workload = EVERY_WAY, record: str = RECORD) -> list[Call]:
    """The calls that are made when nothing goes wrong, in order of their labels; not those that only ask for totals.

    Raises:
        BrokenWithoutFault: something went wrong all the same.
    """
    ran = run(workload, on, record=record)
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

    In the invocation of the fault: what comes after that is an invocation like any other. The call after the fault is
    there in any case; the others up to where the invocation ends with the same calls as without the fault. What looks
    the same from inside (the same calls and faults, in the same kind of invocation) is there once.
    """
    usual: dict[str, list[str]] = defaultdict(list)
    for call in sorted(found, key=lambda call: call.number):
        usual[call.invocation].append(call.operation)
    points: dict[tuple[Any, ...], Point] = {}
    for outcome in outcomes:
        point = outcome.point
        made = [call for call in outcome.calls if call.invocation == point.call.invocation]
        made.sort(key=lambda call: call.number)
        first = point.call.number + 1
        operations = [call.operation for call in made]
        alike = _alike_at_the_end(operations[first:], usual[point.call.invocation][first:])
        kind = point.call.invocation.partition(" ")[0]
        for call in made[first : max(first + 1, len(made) - alike)]:
            if call.operation == ANSWER:
                continue
            seen = (kind, point.call.number, point.fault, *operations[: call.number + 1])
            for kill in KILLS:
                points.setdefault((*seen, kill), Point(call, kill, ((point.call.label, point.fault),)))
    return list(points.values())


def _alike_at_the_end(some: Sequence[str], others: Sequence[str]) -> int:
    pairs = zip(reversed(some), reversed(others), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def outcomes(
    points: Iterable[Point], on: Stage, workload: Workload = EVERY_WAY, record: str = RECORD
) -> Iterator[Outcome]:
    """What comes of each point, one after the other.

    The faults must have been met: a point that is not reached counts as a broken promise.
    """
    for point in points:
        # What goes wrong in the workload itself may not be met any more after that.
        faulty = replace(workload, faults={**(workload.faults or {}), **point.faults})
        for _ in range(_TRIES):
            ran = run(faulty, on, record=record)
            wrong = violations(ran.evidence)
            is_reached = point.faults.items() <= ran.faults.injected.items()
            if wrong or is_reached:
                break
        else:
            wrong = [f"the call {point.call.label} was not made"]
        yield Outcome(point, faulty, ran.faults.calls, wrong)
