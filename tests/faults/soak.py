"""Runs many seeds in worker processes and sums up their results."""

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

# The maximum time for shrinking a workload that breaks a promise.
_SHRINKING_S = 120.0
# The number of crash points per engine. An engine gets slower with every item that it ever stored.
_CHUNK = 25


@dataclass
class Tally:
    """The counts of one or more runs. `add` sums two tallies up."""

    operations: int = 0
    requests: int = 0
    batches: int = 0
    """Requests with a batch of records."""
    statuses: Counter[str] = field(default_factory=Counter)
    """The statuses of batch records in the answers."""
    records: int = 0
    refused: int = 0
    """Requests that a hard limit refused."""
    firm: int = 0
    """Counters whose every record was certainly counted under a hard limit."""
    pages: int = 0
    """Counter pages after the first that hold usage."""
    notices: int = 0
    actions: int = 0
    """Applied plans, new limits or statuses, and events of other services."""
    deliveries: int = 0
    """Batches that the stream's consumers got."""
    partial_answers: int = 0
    """Batches for which a consumer reported failed records."""
    events: int = 0
    """Events delivered by the bus, including repeats."""
    conflicts: int = 0
    """Transactions that conflicted without an injected fault."""
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The number of faults by operation and kind."""
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
        """The number of faults at the functions' calls, without answers dropped on the way to the caller."""
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
            "batch records answered": self.statuses.total(),
            "batch records by status": dict(sorted(self.statuses.items())),
            "records counted": self.records,
            "requests refused at hard limits": self.refused,
            "counters always under hard limits": self.firm,
            "counter pages after the first": self.pages,
            "thresholds noticed": self.notices,
            "actions of operators and other services": self.actions,
            "stream batches delivered": self.deliveries,
            "stream batches with reported failures": self.partial_answers,
            "events delivered": self.events,
            "conflicts without an injected fault": self.conflicts,
            "faults injected": self.injected,
            "processes killed": self.kills,
            "faults by call": by_call,
            "violations": self.violations,
        }


def one_seed(seed: int, operations: int, engine: str | None) -> Tally:
    """Run and check the workload of one seed, on its own engine and processes."""
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
    """Run `count` seeds and yield each seed with its tally as soon as it is done."""
    one = partial(_numbered_seed, operations=operations, engine=engine)
    with _pool(workers) as pool:
        yield from pool.imap_unordered(one, range(first, first + count))


def _numbered_seed(seed: int, operations: int, engine: str | None) -> tuple[int, Tally]:
    return seed, one_seed(seed, operations, engine)


def _pool(workers: int) -> Pool:
    """A pool of spawned processes, because the workers fork and have threads.

    The workers ignore Ctrl-C; the parent ends them.
    """
    return multiprocessing.get_context("spawn").Pool(workers, initializer=_ignore_interrupts)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass
class CrashPoints:
    """The results of the faults at every call."""

    calls: int = 0
    """Calls made without faults."""
    kills: int = 0
    """Kills at these calls, and at the calls that only follow a fault."""
    faults: int = 0
    """All injected faults, including the kills."""
    violations: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def every_crash_point(engine: str | None, workers: int, on_progress: Callable[..., None]) -> CrashPoints:
    """Try every fault at every call of all crash point workloads.

    Also try kills at the calls that only follow a fault.

    `on_progress` gets the number of finished points, the number of all points, the number of violations, and the new
    violations.
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
    """A workload, its calls, and the faults to try at them."""

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
    """The figures of a soak for report.json."""
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
