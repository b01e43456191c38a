"""A month's first second: many counters begin at once, and each gets an entry in the index of lists.

If DynamoDB throttles an entry, it throttles the transaction that writes the counter. The execution environments are
left out, so all transactions arrive at the full rate.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from metering.storage.lists import PARTS, open_list

from benchmarks.scale.contenders import Late, Tries
from benchmarks.scale.model import Assumptions, Bucket, Clock, Process

_PERIOD = "2026-12"


@dataclass(frozen=True)
class Beginning:
    """Counters that begin at random moments within a short time."""

    organizations: int = 50_000
    counters: int = 1
    """The number of counters of each organization."""
    lists: int = PARTS
    """The number of lists that share the counters. The functions use all PARTS."""
    within_s: float = 1.0
    entry_units: float = 1
    """The write units of one entry in the index."""
    seed: int = 1
    assumptions: Assumptions = field(default_factory=Assumptions)


@dataclass
class Begun:
    """The outcome of a beginning."""

    late: int = 0
    """Transactions that failed at the deadline."""
    throttles: int = 0
    tries: list[int] = field(default_factory=list)
    """The tries of each committed transaction."""
    latencies_s: list[float] = field(default_factory=list)
    """The latencies of committed transactions."""
    entries: Counter[str] = field(default_factory=Counter)
    """The entries of each list."""


def run(case: Beginning) -> Begun:
    """Simulate the case until its last transaction has ended."""
    clock, random, begun = Clock(), Random(case.seed), Begun()
    listed, stored = dict[str, Bucket](), dict[str, Bucket]()

    def take(buckets: dict[str, Bucket], key: str, units: float) -> bool:
        most = case.assumptions.write_units * case.assumptions.burst_s
        bucket = buckets.setdefault(key, Bucket(case.assumptions.write_units, most, clock.now_s))
        return bucket.take(units, clock.now_s)

    for number, _ in itertools.product(range(case.organizations), range(case.counters)):
        organization = f"organization-{case.seed}-{number}"
        name, _, part = open_list(organization, _PERIOD)["S"].rpartition("#")
        group = f"{name}#{int(part) % case.lists:02}"

        def is_served(organization: str = organization, group: str = group) -> bool:
            """Whether both partition keys serve the transaction: the index's first, then the table's."""
            return take(listed, group, case.entry_units) and take(
                stored, organization, case.assumptions.transaction_units
            )

        clock.start(_begin(case, begun, clock, random, group, is_served))
    clock.run()
    return begun


def _begin(
    case: Beginning, begun: Begun, clock: Clock, random: Random, group: str, is_served: Callable[[], bool]
) -> Process[None]:
    yield random.uniform(0, case.within_s)
    arrived_s = clock.now_s
    tries = Tries(clock, random, arrived_s + case.assumptions.deadline_s)
    for attempt in itertools.count():
        tries.count += 1
        if is_served():
            break
        begun.throttles += 1
        yield case.assumptions.rejection_s
        try:
            yield from tries.back_off(attempt)
        except Late:
            begun.late += 1
            return
    yield case.assumptions.hold_s
    begun.tries.append(tries.count)
    begun.latencies_s.append(clock.now_s - arrived_s)
    begun.entries[group] += 1
