"""Finds every crash point of the functions by watching the calls that they make.

First, workloads that take every path through the functions run without faults. Only throttles are injected that make a
counter announce pages. Every call seen is a crash point. Then the workload runs again for each crash point and fault.
Calls that only follow a fault are seen in these runs and become crash points, too. A call that is added to a function
later becomes a crash point without being listed.
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

EVERY_PATH = Workload(
    # With this seed the bus rejects one event alone and another one together with its whole call.
    seed=48,
    clients=1,
    phases=(
        Phase(
            _BEGIN_S,
            lasts_s=10,
            damaged=(0,),
            operations=(
                Operation(0, "acme", "k"),
                # A replay and a conflict.
                Operation(1, "acme", "k"),
                Operation(2, "acme", "k", variant=1),
                # The same key in other organizations.
                Operation(3, "bolt", "k"),
                Operation(4, "leaving", "k"),
                # Another usage of the same counter.
                Operation(5, "acme", "k3"),
            ),
        ),
        Phase(
            _BEGIN_S + _DAY_S,
            lasts_s=10,
            inactive=("leaving",),
            operations=(
                # A key that was counted before, a new key, and an unknown organization.
                Operation(6, "leaving", "k"),
                Operation(7, "leaving", "k2"),
                Operation(8, UNKNOWN_ORGANIZATION, "k"),
            ),
        ),
        # The keys have expired and are free again.
        Phase(
            _BEGIN_S + RETENTION_S + 60, lasts_s=10, operations=(Operation(9, "acme", "k"), Operation(10, "bolt", "k"))
        ),
    ),
    faults={},
    unpublishable_one_in=3,
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


# The content of acme's keys, as `content` derives it. The keys b 13, c 272, j 891 and l 11 are usage of api_calls.
# The keys g 569 and m 66 are usage of storage_gb, and a 490, e 964 and f 544 of the last feature.
EVERY_LIMIT = Workload(
    seed=1,
    clients=1,
    phases=(
        Phase(
            _LIMITS_BEGIN_S,
            lasts_s=10,
            operations=(Operation(0, "acme", "l"), Operation(1, "acme", "m")),
            actions=(
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
                # An outdated event and a malformed event.
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
                # The total rises to 283 and 296, below a soft limit of 300.
                Operation(2, "acme", "c"),
                Operation(3, "acme", "b"),
                # Under a hard limit of 900: 490 fits, 544 more does not, 964 never does, and the first is replayed.
                Operation(4, "acme", "a"),
                Operation(5, "acme", "f"),
                Operation(6, "acme", "e"),
                Operation(7, "acme", "a"),
                # A hard limit of 500 does not apply, because the counter was created before it.
                Operation(8, "acme", "g"),
                Operation(9, NEWCOMER, "k"),
            ),
            # The earlier usage already reaches this limit.
            actions=(LimitsPut(6, after=9, organization="acme", limits={"api_calls": 280}),),
        ),
        Phase(
            _LIMITS_BEGIN_S + 2 * _HOUR_S,
            lasts_s=10,
            operations=(Operation(10, "acme", "j"),),
            actions=(LimitsPut(7, after=10, organization="acme", limits={"api_calls": "plan", FEATURES[-1]: 1034}),),
        ),
        # The usage that was refused before fits now.
        Phase(_LIMITS_BEGIN_S + 3 * _HOUR_S, lasts_s=10, operations=(Operation(11, "acme", "f"),)),
    ),
    faults={},
    unpublishable_one_in=0,
    restless=False,
)

# With the same keys.
EVERY_BATCH = Workload(
    seed=1,
    clients=1,
    phases=(
        Phase(
            _LIMITS_BEGIN_S,
            lasts_s=10,
            operations=(Operation(0, "acme", "l"),),
            actions=(
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
                # New records of three features, a replay, a duplicate, a conflict, a refusal and an invalid record.
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
                # Stored and new records. A hard limit of 900 holds 490 already, so 544 and 964 do not fit.
                Batch(2, "acme", (Item("f"), Item("a"), Item("c"), Item("e"), Item("g", variant=3), Item("j"))),
                # The whole batch again.
                Batch(3, "acme", (Item("f"), Item("a"), Item("c"), Item("e"), Item("g", variant=3), Item("j"))),
            ),
        ),
        Phase(
            _LIMITS_BEGIN_S + 2 * _HOUR_S,
            lasts_s=10,
            inactive=("acme",),
            operations=(
                # A batch with a record that was recorded before, and a batch without one.
                Batch(4, "acme", (Item("c"), Item("k"))),
                Batch(5, "acme", (Item("k"), Item("k2"))),
            ),
        ),
    ),
    faults={},
    unpublishable_one_in=0,
    restless=False,
)


# The calls before the first transaction read an uncached organization, and then the organization with its plan.
_READS = 2


def _throttled(invocation: str, calls: int) -> dict[str, str]:
    """Faults that throttle the first `calls` transactions on the counter, on any shard, but not the reads before."""
    return {f"{invocation}/{number}": "throttled on 1" for number in range(_READS, _READS + calls)}


# More of acme's keys whose content is usage of api_calls.
_MORE_KEYS = tuple(
    itertools.islice((f"m{n}" for n in range(99) if content("acme", f"m{n}", 0)["feature"] == "api_calls"), 6)
)

# Usage of one counter that is throttled until a request announces more pages.
EVERY_PAGE = Workload(
    seed=1,
    clients=1,
    phases=(
        Phase(
            _LIMITS_BEGIN_S,
            lasts_s=10,
            operations=(Operation(0, "acme", "l"),),
            actions=(
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
            # Short enough that environments still cache the shard state that they read.
            lasts_s=0.5,
            operations=(
                # The first operation announces pages. The later ones use any of these pages.
                Operation(1, "acme", "c"),
                Operation(2, "acme", "b"),
                *(Operation(number, "acme", key) for number, key in enumerate(_MORE_KEYS, start=3)),
                Batch(9, "acme", (Item("b"), Item("j"))),
                Operation(10, "acme", "l"),
            ),
        ),
        # The cached total is too old by now.
        Phase(_LIMITS_BEGIN_S + 2 * _HOUR_S, lasts_s=10, operations=(Operation(11, "acme", "b"),)),
    ),
    faults=_throttled("record 1.0", 7),
    unpublishable_one_in=0,
    restless=False,
)
WORKLOADS = (EVERY_PATH, EVERY_LIMIT, EVERY_BATCH, EVERY_PAGE)

# The tries for each point. Of two parallel calls the second is sometimes not made, because the first one is slow or
# ends the invocation. For a publisher with two parallel calls this happens half of the time.
_TRIES = 20


@dataclass(frozen=True)
class Point:
    """One fault at one call. `led_there` holds the earlier faults that lead to the call, by label."""

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
    """The result of one point."""

    point: Point
    workload: Workload
    calls: list[Call]
    wrong: list[str]
    """The broken promises."""


def calls(on: Stage, workload: Workload = EVERY_PATH, record: str = RECORD) -> list[Call]:
    """Run the workload without faults and list its calls, without the calls that only ask for totals at the end.

    Returns: the calls, sorted by label.
    Raises:
        BrokenWithoutFault: the run broke a promise without any injected fault.
    """
    ran = run(workload, on, record=record)
    if wrong := violations(ran.evidence):
        raise BrokenWithoutFault(wrong)
    return sorted((call for call in ran.faults.calls if not call.last_try), key=lambda call: call.label)


class BrokenWithoutFault(Exception):
    """A run without faults broke a promise."""

    def __init__(self, wrong: list[str]) -> None:
        super().__init__("; ".join(wrong))
        self.wrong = wrong


def kill_points(found: Iterable[Call]) -> list[Point]:
    """Points that kill the process before and after each call."""
    return [Point(call, kill) for call in found if call.operation != ANSWER for kill in KILLS]


def all_points(found: Iterable[Call]) -> list[Point]:
    """Points with every possible fault at each call."""
    return [Point(call, fault) for call in found for fault in kinds(call)]


def further_points(outcomes: Iterable[Outcome], found: Iterable[Call]) -> list[Point]:
    """Points that kill the process before and after each call that is made only because of an earlier fault.

    Only calls in the invocation of the fault count, because later invocations are like any other. The first call after
    the fault always counts. The other calls count up to the point from which the invocation makes its usual calls.
    Points with the same calls and faults in the same kind of invocation are listed once.
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
    points: Iterable[Point], on: Stage, workload: Workload = EVERY_PATH, record: str = RECORD
) -> Iterator[Outcome]:
    """Run the workload for each point and yield the outcomes, one after the other.

    A point whose faults are not injected counts as a broken promise.
    """
    for point in points:
        # After the fault of the point, faults of the workload itself may no longer be injected.
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
