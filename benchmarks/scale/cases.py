"""One case: who serves, how many requests per second, in which world; and what became of them."""

import math
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from benchmarks.scale.contenders import Contender, Late, Tries
from benchmarks.scale.model import Assumptions, Clock, Fleet, Process, Refused, Table


@dataclass(frozen=True)
class Case:
    """Requests that arrive at random, independently of each other and of whether anybody keeps up."""

    contender: Contender
    rate: float
    """Per second, on one counter, from the first moment on."""
    seconds: float
    seed: int = 1
    world: Assumptions = field(default_factory=Assumptions)
    early_s: float = 5
    """When the early part ends: requests are told apart by when they arrived."""
    turn_s: float | None = None
    """When the billing period ends and another begins."""


@dataclass
class Part:
    """What became of the requests that arrived in one part of the time."""

    seconds: float
    refused: int = 0
    """By Lambda: all environments were busy, and no more might be added."""
    late: int = 0
    """By us, at the deadline."""
    tries: list[int] = field(default_factory=list)
    """Of each request that was answered."""
    latencies_s: list[float] = field(default_factory=list)
    """From the arrival on, cold starts included."""
    tries_of_all: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    """Throttles, conflicts, queries, read units, announcements within this part of the time."""

    @property
    def failed(self) -> int:
        return self.refused + self.late

    @property
    def requests(self) -> int:
        return self.failed + len(self.tries)


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    early: Part
    later: Part
    shards: list[int]
    """That were added to, in each billing period."""
    pages: list[int]
    """That were announced, in each billing period."""
    added: int
    """Additions that went through."""
    fullest: float
    """Write units that one partition key served at most, on average per second."""
    environments: int
    """That Lambda added."""


def percentile(values: list[int] | list[float], percent: float) -> float:
    """The least of the values that so many percent of them do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0


def run(case: Case) -> Outcome:
    """Let the case's requests arrive and be served, to the last one."""
    clock, random = Clock(), Random(case.seed)
    table, fleet = Table(clock, case.world), Fleet(clock, case.world, random)
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
        tries = Tries(clock, random, clock.now_s + case.world.deadline_s)
        yield case.world.work_s
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
        fullest=max(added.values(), default=0) * case.world.transaction_units / clock.now_s,
        environments=fleet.added,
    )
