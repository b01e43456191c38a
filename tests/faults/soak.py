"""Many seeds, one after the other on each core, and what came of them."""

import json
import multiprocessing
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from tests.faults import crash_points
from tests.faults.checker import summarized, violations
from tests.faults.crash_points import BrokenWithoutFault, Outcome, Point
from tests.faults.driver import run, stage
from tests.faults.faults import ANSWER, DROPPED, KILLS, Call
from tests.faults.reproduction import kept, reproduction
from tests.faults.workload import Workload, generate

# A workload that breaks a promise is made smaller for this long.
_SHRINKING_S = 120.0
# So many crash points share an engine, which gets slower with everything that it has ever stored.
_CHUNK = 25


@dataclass
class Tally:
    """What was done, in numbers; two of them can be added."""

    operations: int = 0
    requests: int = 0
    batches: int = 0
    """Requests that hold several records."""
    statuses: Counter[str] = field(default_factory=Counter)
    """What was told of the records of batches."""
    records: int = 0
    refused: int = 0
    """Requests that were refused at a hard limit."""
    firm: int = 0
    """Counters whose records can only have been counted under hard limits."""
    pages: int = 0
    """Further pages of counters, on which something was counted."""
    notices: int = 0
    actions: int = 0
    """Plans applied, limits set, and other services' events."""
    deliveries: int = 0
    """Batches that the stream's readers got."""
    partial_answers: int = 0
    """Batches of which a part was reported as not done."""
    events: int = 0
    """Delivered to the bus, repeats included."""
    conflicts: int = 0
    """Transactions that really met."""
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By operation and kind."""
    violations: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.operations += other.operations
        self.requests += other.requests
        self.batches += other.batches
        self.statuses.update(other.statuses)
        self.records += other.records
        self.refused += other.refused
        self.firm += other.firm
        self.pages += other.pages
        self.notices += other.notices
        self.actions += other.actions
        self.deliveries += other.deliveries
        self.partial_answers += other.partial_answers
        self.events += other.events
        self.conflicts += other.conflicts
        self.faults.update(other.faults)
        self.violations += other.violations

    @property
    def injected(self) -> int:
        """Faults at the functions' calls; answers that were dropped on their way to the caller are not among them."""
        return sum(number for (_, kind), number in self.faults.items() if kind != DROPPED)

    @property
    def kills(self) -> int:
        return sum(number for (_, kind), number in self.faults.items() if kind in KILLS)

    def as_json(self) -> dict[str, Any]:
        by_call: dict[str, dict[str, int]] = {}
        for (operation, kind), number in sorted(self.faults.items()):
            by_call.setdefault(operation, {})[kind] = number
        return {
            "operations": self.operations,
            "requests": self.requests,
            "requests with batches": self.batches,
            "records of batches answered": self.statuses.total(),
            "records of batches by answer": dict(sorted(self.statuses.items())),
            "records counted": self.records,
            "requests refused at hard limits": self.refused,
            "counters under hard limits all along": self.firm,
            "further pages of counters": self.pages,
            "thresholds noticed": self.notices,
            "plans, limits and events of others": self.actions,
            "stream batches delivered": self.deliveries,
            "stream batches reported in part": self.partial_answers,
            "events delivered": self.events,
            "conflicts that happened by themselves": self.conflicts,
            "faults injected": self.injected,
            "processes killed": self.kills,
            "faults by call": by_call,
            "violations": self.violations,
        }


def one_seed(seed: int, operations: int, engine: str | None) -> Tally:
    """One workload of its own engine and processes, checked."""
    workload = generate(seed, operations)
    with tempfile.TemporaryDirectory() as directory, stage(Path(directory), engine) as on:
        ran = run(workload, on)
        found = violations(ran.evidence)
        if found:
            found = [f"seed {seed}: {violation}" for violation in found]
            found.append(reproduction(workload, ran, on, _SHRINKING_S))
    summary = summarized(ran.evidence)
    return Tally(
        operations=len(workload.operations),
        requests=len(ran.evidence.attempts) + len(ran.evidence.batches),
        batches=len(ran.evidence.batches),
        statuses=summary.statuses,
        records=summary.records,
        refused=summary.refused,
        firm=summary.firm,
        pages=summary.pages,
        notices=summary.notices,
        actions=len(workload.actions),
        deliveries=ran.deliveries,
        partial_answers=ran.partial_answers,
        events=len(ran.evidence.events),
        conflicts=ran.conflicts,
        faults=ran.faults.tally,
        violations=found,
    )


def seeds(first: int, count: int, operations: int, engine: str | None, workers: int) -> Iterator[tuple[int, Tally]]:
    """Each seed's tally, as they are done."""
    one = partial(_numbered_seed, operations=operations, engine=engine)
    with _pool(workers) as pool:
        yield from pool.imap_unordered(one, range(first, first + count))


def _numbered_seed(seed: int, operations: int, engine: str | None) -> tuple[int, Tally]:
    return seed, one_seed(seed, operations, engine)


def _pool(workers: int) -> Pool:
    """Processes that start from nothing, as they fork and have threads. Who is interrupted ends them all."""
    return multiprocessing.get_context("spawn").Pool(workers, initializer=_ignore_interrupts)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass
class CrashPoints:
    """What became of breaking off at every call."""

    calls: int = 0
    """That are made when nothing fails."""
    kills: int = 0
    """At those, and at those that only a fault leads to."""
    faults: int = 0
    """All that were tried, the kills among them."""
    violations: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def every_crash_point(engine: str | None, workers: int, on_progress: Callable[..., None]) -> CrashPoints:
    """Every fault at every call of workloads that take every way, and kills at the calls that those lead to.

    `on_progress` is told how many of how many are done, how many promises were broken, and which since the last time.
    """
    found = CrashPoints()
    points: list[_Points] = []
    for workload in crash_points.WORKLOADS:
        try:
            with tempfile.TemporaryDirectory() as directory, stage(Path(directory), engine) as on:
                calls = crash_points.calls(on, workload)
        except BrokenWithoutFault as broken:
            command = kept(workload, "without-fault")
            found.violations += [*(f"without any fault: {wrong}" for wrong in broken.wrong), command]
            return found
        found.calls += sum(call.operation != ANSWER for call in calls)
        points.append(_Points(workload, calls, crash_points.all_points(calls)))
    expected = sum(len(each.points) for each in points)
    with _pool(workers) as pool:
        for each in points:
            outcomes = _tried(each.workload, each.points, pool, engine, found, partial(on_progress, all_=expected))
            further = crash_points.further_points(outcomes, each.calls)
            expected += len(further)
            _tried(each.workload, further, pool, engine, found, partial(on_progress, all_=expected))
    return found


@dataclass(frozen=True)
class _Points:
    """A workload, what it calls, and what can go wrong there."""

    workload: Workload
    calls: Sequence[Call]
    points: Sequence[Point]


def _tried(
    workload: Workload,
    points: Sequence[Point],
    pool: Pool,
    engine: str | None,
    found: CrashPoints,
    on_progress: Callable[..., None],
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    chunks = [points[start : start + _CHUNK] for start in range(0, len(points), _CHUNK)]
    for chunk in pool.imap(partial(_outcomes, workload=workload, engine=engine), chunks):
        broken: list[str] = []
        for outcome in chunk:
            outcomes.append(outcome)
            found.faults += 1
            found.kills += outcome.point.fault in KILLS
            if outcome.wrong:
                broken += [f"{outcome.point}: {wrong}" for wrong in outcome.wrong]
                broken.append(kept(outcome.workload, f"crash-point-{found.faults}"))
        found.violations += broken
        on_progress(found.faults, violations=len(found.violations), broken=broken)
    return outcomes


def _outcomes(points: Sequence[Point], workload: Workload, engine: str | None) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as directory, stage(Path(directory), engine) as on:
        return list(crash_points.outcomes(points, on, workload))


def report(tally: Tally, points: CrashPoints | None, settings: dict[str, Any], elapsed_s: float) -> dict[str, Any]:
    """The figures of a soak, as they are kept."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **settings,
        "duration in seconds": round(elapsed_s),
        **tally.as_json(),
        "crash points": None if points is None else points.as_json(),
    }


def write(figures: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=2) + "\n")
