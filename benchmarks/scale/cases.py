"""One simulated case and its outcome: a way to count, a rate of requests, and assumptions."""

import math
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from benchmarks.scale.contenders import Contender, Late, Tries
from benchmarks.scale.model import Assumptions, Clock, Fleet, Process, Refused, Table


@dataclass(frozen=True)
class Case:
    """Requests that arrive at random, independent of each other and of how fast they are served."""

    contender: Contender
    rate: float
    """Requests per second on one counter, from the first moment on."""
    seconds: float
    seed: int = 1
    assumptions: Assumptions = field(default_factory=Assumptions)
    early_s: float = 5
    """When the early part ends. A request belongs to the part in which it arrived."""
    turn_s: float | None = None
    """When the next billing period begins; None: never."""


@dataclass
class Part:
    """The outcome of the requests that arrived in one part of the time."""

    seconds: float
    refused: int = 0
    """Throttled by Lambda: all environments were busy, and Lambda could not add one yet."""
    late: int = 0
    """Failed at the deadline."""
    tries: list[int] = field(default_factory=list)
    """The tries of each answered request."""
    latencies_s: list[float] = field(default_factory=list)
    """The latencies of answered requests, from arrival to answer, cold starts included."""
    tries_of_all: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    """Throttles, conflicts, queries, read units and announcements in this part of the time."""

    @property
    def failed(self) -> int:
        return self.refused + self.late

    @property
    def requests(self) -> int:
        return self.failed + len(self.tries)


@dataclass(frozen=True)
class Outcome:
    """The result of one case."""

    early: Part
    later: Part
    shards: list[int]
    """The number of shards that were added to, in each billing period."""
    pages: list[int]
    """The number of announced pages, in each billing period."""
    added: int
    """The number of committed additions."""
    fullest: float
    """The write units per second of the busiest partition key, on average over the run."""
    environments: int
    """The number of environments that Lambda added."""


def percentile(values: list[int] | list[float], percent: float) -> float:
    """The smallest value that `percent` of the values do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0


def run(case: Case) -> Outcome:
    """Simulate the case until its last request has ended."""
    clock, random = Clock(), Random(case.seed)
    table, fleet = Table(clock, case.assumptions), Fleet(clock, case.assumptions, random)
    early, later = Part(case.early_s), Part(case.seconds - case.early_s)

    def requests() -> Process[None]:
        while True:
            yield random.expovariate(case.rate)
            if clock.now_s >= case.seconds:
                return
            period = 0 if case.turn_s is None or clock.now_s < case.turn_s else 1
            clock.start(request(early if clock.now_s < case.early_s else later, period))

    def request(part: Part, period: int) -> Process[None]:
        arrived_s = clock.now_s
        try:
            environment = yield from fleet.enter()
        except Refused:
            part.refused += 1
            return
        tries = Tries(clock, random, clock.now_s + case.assumptions.deadline_s)
        yield case.assumptions.work_s
        try:
            yield from case.contender.serve(tries, table, environment, period)
        except Late:
            part.late += 1
        else:
            part.tries.append(tries.count)
            part.latencies_s.append(clock.now_s - arrived_s)
        part.tries_of_all += tries.count
        fleet.leave(environment)

    def turn_of_the_parts() -> Process[None]:
        yield case.early_s
        early.seen.update(table.seen)

    clock.start(requests())
    clock.start(turn_of_the_parts())
    clock.run()
    later.seen.update(table.seen - early.seen)
    periods = sorted({period for period, _ in table.partitions})
    added = {key: sum(partition.added.values()) for key, partition in table.partitions.items()}
    return Outcome(
        early,
        later,
        shards=[
            sum(len(partition.added) for key, partition in table.partitions.items() if key[0] == period)
            for period in periods
        ],
        pages=[table.partitions[period, 0].pages for period in periods],
        added=sum(added.values()),
        fullest=max(added.values(), default=0) * case.assumptions.transaction_units / clock.now_s,
        environments=fleet.added,
    )
