"""Many seeds, one after the other on each core, and what came of them."""

import json
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import crash_points
from tests.faults.checker import violations
from tests.faults.driver import run, stage
from tests.faults.faults import ANSWER, DROPPED, KILLS
from tests.faults.history import generate
from tests.faults.reproduction import reproduction

# A history that breaks a promise is made smaller for this long.
_SHRINKING_S = 120.0


@dataclass
class Tally:
    """What was done, in numbers; two of them can be added."""

    operations: int = 0
    requests: int = 0
    records: int = 0
    deliveries: int = 0
    """Batches that the publisher got."""
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
        self.records += other.records
        self.deliveries += other.deliveries
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
            "records": self.records,
            "deliveries": self.deliveries,
            "events": self.events,
            "conflicts that happened by themselves": self.conflicts,
            "faults injected": self.injected,
            "processes killed": self.kills,
            "faults by call": by_call,
            "violations": self.violations,
        }


def one_seed(seed: int, operations: int, engine: str | None) -> Tally:
    """One history of its own engine and processes, checked."""
    history = generate(seed, operations)
    with tempfile.TemporaryDirectory() as directory, stage(Path(directory), engine) as on:
        ran = run(history, on)
        found = violations(ran.evidence)
        if found:
            found = [f"seed {seed}: {violation}" for violation in found]
            found.append(reproduction(history, ran, on, _SHRINKING_S))
    return Tally(
        operations=len(history.operations),
        requests=len(ran.evidence.attempts),
        records=ran.records,
        deliveries=ran.deliveries,
        events=len(ran.evidence.events),
        conflicts=ran.conflicts,
        faults=ran.faults.tally,
        violations=found,
    )


def seeds(first: int, count: int, operations: int, engine: str | None, workers: int) -> Iterator[tuple[int, Tally]]:
    """Each seed's tally, as they are done."""
    # Each worker starts from nothing: it forks and it has threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(one_seed, seed, operations, engine): seed for seed in range(first, first + count)}
        for done in as_completed(running):
            yield running[done], done.result()


@dataclass
class CrashPoints:
    """What became of breaking off at every call."""

    calls: int
    kills: int
    points: int
    violations: list[str]

    def as_json(self) -> dict[str, Any]:
        return {"calls": self.calls, "kills": self.kills, "faults": self.points, "violations": self.violations}


def every_crash_point(engine: str | None, say: Callable[[int, int], None]) -> CrashPoints:
    """Every fault at every call of a history that takes every way; `say` is told how many of how many are done."""
    with tempfile.TemporaryDirectory() as directory, stage(Path(directory), engine) as on:
        calls = crash_points.calls(on)
        points = crash_points.all_points(calls)
        found = []
        for done, (point, _, wrong) in enumerate(crash_points.broken_promises(points, on), start=1):
            found += [f"{point}: {violation}" for violation in wrong]
            say(done, len(points))
    kills = len(crash_points.kill_points(calls))
    made_by_functions = [call for call in calls if call.operation != ANSWER]
    return CrashPoints(len(made_by_functions), kills, len(points), found)


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
