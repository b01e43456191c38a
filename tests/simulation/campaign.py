"""Run many seeds, several at once, and count their requests, calls, faults and violations."""

import gc
import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from tests.faults.checker import summarized
from tests.simulation.reproduction import broken
from tests.simulation.shapes import scenario
from tests.simulation.simulation import run

# A worker gets this many seeds at once.
_CHUNK = 20


@dataclass
class Tally:
    """The counts of some seeds."""

    seeds: int = 0
    requests: int = 0
    """All attempts to record."""
    counts: Counter[str] = field(default_factory=Counter)
    """Calls by operation, faults by kind, and more."""
    shapes: Counter[str] = field(default_factory=Counter)
    broken: dict[int, list[str]] = field(default_factory=dict)
    """The promises that were broken, by seed."""

    def add(self, other: "Tally") -> None:
        self.seeds += other.seeds
        self.requests += other.requests
        self.counts += other.counts
        self.shapes += other.shapes
        self.broken |= other.broken

    def lines(self) -> list[str]:
        """The tally as lines to print."""
        faults = {
            name.removeprefix("fault: "): times for name, times in self.counts.items() if name.startswith("fault")
        }
        calls = {name: times for name, times in self.counts.items() if name[0].isupper()}
        others = {name: times for name, times in self.counts.items() if name not in calls and "fault" not in name}
        return [
            f"{self.requests} requests in {self.seeds} seeds: {_listed(self.shapes)}",
            f"{sum(calls.values())} calls: {_listed(calls)}",
            f"{sum(faults.values())} faults: {_listed(faults)}",
            f"other counts: {_listed(others)}",
            f"{len(self.broken)} seeds with violations",
        ]


def tally(seed: int, shape: str | None) -> Tally:
    """Run one seed and count what happened in it."""
    ran = run(scenario(seed, shape))
    evidence = ran.evidence
    counts = Counter(ran.tally)
    summary = summarized(evidence)
    counts["records"] += sum(len(batch.records) for batch in evidence.batches) + len(evidence.attempts)
    counts["batches"] += len(evidence.batches)
    counts["queries"] += len(evidence.asked)
    counts["complete lists"] += sum(each.query == "usage.list" and each.status == 200 for each in evidence.asked)
    counts["actions"] += len(evidence.done)
    counts["recorded"] += summary.records
    counts["refused"] += summary.refused + summary.statuses["refused"]
    counts["notices"] += summary.notices
    counts["counters under hard limits"] += summary.firm
    counts["further pages used"] += summary.pages
    found = broken(ran)
    requests = len(evidence.attempts) + len(evidence.batches)
    return Tally(1, requests, counts, Counter([ran.scenario.shape]), {seed: found} if found else {})


def seeds(first: int, last: int, shape: str | None, workers: int) -> Iterator[Tally]:
    """The tallies of the seeds from `first` to `last` - 1, in their order, one for each group of seeds.

    Raises:
        BrokenProcessPool: a worker was killed.
    """
    chunks = ((start, min(start + _CHUNK, last), shape) for start in range(first, last, _CHUNK))
    if workers == 1:
        yield from map(_chunk, chunks)
        return
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    # Not all at once: `last` may be far beyond the seeds that will run.
    running = deque(pool.submit(_chunk, chunk) for chunk in islice(chunks, 2 * workers))
    try:
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(_chunk, chunk) for chunk in islice(chunks, 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    # Ctrl-C reaches all processes; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _chunk(asked: tuple[int, int, str | None]) -> Tally:
    start, end, shape = asked
    total = Tally()
    # A run creates many objects and some cycles; one collection after each group of seeds is enough.
    gc.disable()
    try:
        for seed in range(start, end):
            total.add(tally(seed, shape))
    finally:
        gc.enable()
        gc.collect()
    return total


def rate(requests: int, since_s: float) -> str:
    """The time since `since_s` and the requests per second, in words."""
    elapsed_s = time.monotonic() - since_s
    return f"{elapsed_s:.0f} s, {requests / max(elapsed_s, 0.001):.0f} requests per second"


def _listed(counts: "Counter[str] | dict[str, int]") -> str:
    return ", ".join(f"{times} {name}" for name, times in sorted(counts.items(), key=lambda each: -each[1])) or "none"
