"""The simulated parts: a clock, DynamoDB's conflicts and limits, Lambda's execution environments.

A process is a generator that yields the seconds until its next step. Everything random comes from one seeded source, so
a run repeats to the last digit.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias, TypeVar

from metering.usage.shard_policy import ShardState

T = TypeVar("T")
# A process that returns T and yields seconds.
Process: TypeAlias = Generator[float, None, T]
# A partition key: the number of the billing period and the number of the page. There is one organization and feature.
Key: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Assumptions:
    """The assumptions of the model. Times are in seconds, rates per second."""

    hold_s: float = 0.006
    """How long a transaction holds its items. The call takes as long."""
    rejection_s: float = 0.004
    """How long a call takes if it meets a conflict or a throttle. An announcement takes as long."""
    read_s: float = 0.004
    write_units: float = 1000
    """The write units that one partition key serves per second."""
    read_units: float = 3000
    burst_s: float = 1.0
    """How many seconds' worth of unused units a partition key saves for a burst."""
    transaction_units: float = 2
    """Write units of an item below 1 KB in a transaction that commits."""
    conflict_units: float = 2
    """The same, in a transaction that meets a conflict."""
    shard_bytes: int = 150
    work_s: float = 0.010
    """How long a request takes beside its calls."""
    cold_start_s: float = 0.25
    warm: int = 300
    """Environments that run before the first request and do not know this counter, as in a service whose other
    customers are calm. About 100 of them are busy with 5,000 calm requests per second."""
    scaling: int = 1000
    """Environments that Lambda adds at once, and then every ten seconds."""
    life_s: float = 60
    """How long an environment lasts on average: from half of this to one and a half times this. Lambda's environments
    last hours. Short lives are the harder case, because new environments have everything to learn."""
    deadline_s: float = 7.5


class Clock:
    """Simulated time in seconds, and the queue of waiting processes."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Process[None]]] = []
        self._numbers = itertools.count()

    def start(self, process: Process[None]) -> None:
        """Start `process` now, after the processes that were started before it."""
        heapq.heappush(self._due, (self.now_s, next(self._numbers), process))

    def run(self) -> None:
        """Advance the time until every process has ended."""
        due, numbers = self._due, self._numbers
        while due:
            self.now_s, _, process = heapq.heappop(due)
            wait_s = next(process, None)
            if wait_s is not None:
                heapq.heappush(due, (self.now_s + wait_s, next(numbers), process))


@dataclass
class Bucket:
    """A token bucket: units return at a constant rate, up to `most`. It is full at first."""

    rate: float
    most: float
    at_s: float = 0.0
    units: float = field(init=False)

    def __post_init__(self) -> None:
        self.units = self.most

    def take(self, units: float, now_s: float) -> bool:
        """Take `units` if the bucket has them all, else none.

        Returns: whether they were taken.
        """
        self.units = min(self.most, self.units + (now_s - self.at_s) * self.rate)
        self.at_s = now_s
        if self.units < units:
            return False
        self.units -= units
        return True


class ShardBusy(Exception):
    """The shard was busy. Nothing was done."""


class Throttled(ShardBusy):
    """The partition key exceeds its rate."""


class Conflict(ShardBusy):
    """Another transaction holds the item."""


@dataclass
class Partition:
    """One partition key: its shards, and the units that it can still serve."""

    writes: Bucket
    reads: Bucket
    added: Counter[int] = field(default_factory=Counter)
    """Additions by shard."""
    held_until_s: dict[int, float] = field(default_factory=dict)
    pages: int = 1
    """How many pages are announced here."""


class Table:
    """The counters' partition keys. Records are left out, because each has its own partition key."""

    def __init__(self, clock: Clock, assumptions: Assumptions) -> None:
        self.clock = clock
        self.assumptions = assumptions
        self.partitions: dict[Key, Partition] = {}
        self.seen: Counter[str] = Counter()
        """The number of each kind of event: throttles, conflicts, queries, read units, announcements."""

    def partition(self, key: Key) -> Partition:
        if key not in self.partitions:
            assumptions, now_s = self.assumptions, self.clock.now_s
            self.partitions[key] = Partition(
                writes=Bucket(assumptions.write_units, assumptions.write_units * assumptions.burst_s, now_s),
                reads=Bucket(assumptions.read_units, assumptions.read_units * assumptions.burst_s, now_s),
            )
        return self.partitions[key]

    def add(self, key: Key, shard: int) -> Process[None]:
        """Add to a shard in a transaction, and hold the shard until the transaction ends.

        Raises:
            Throttled, Conflict: nothing was added.
        """
        assumptions, now_s = self.assumptions, self.clock.now_s
        partition = self.partition(key)
        is_free = partition.held_until_s.get(shard, 0.0) <= now_s
        if not partition.writes.take(assumptions.transaction_units if is_free else assumptions.conflict_units, now_s):
            self.seen["throttles"] += 1
            yield assumptions.rejection_s
            raise Throttled
        if not is_free:
            self.seen["conflicts"] += 1
            yield assumptions.rejection_s
            raise Conflict
        partition.held_until_s[shard] = now_s + assumptions.hold_s
        yield assumptions.hold_s
        partition.added[shard] += 1

    def query(self, key: Key) -> Process[Partition]:
        """Query everything under a partition key consistently.

        Raises:
            Throttled: nothing was read.
        """
        partition = self.partition(key)
        units = -(-max(1, len(partition.added)) * self.assumptions.shard_bytes // 4096)
        is_served = partition.reads.take(units, self.clock.now_s)
        yield self.assumptions.read_s
        if not is_served:
            self.seen["throttles"] += 1
            raise Throttled
        self.seen["queries"] += 1
        self.seen["read units"] += units
        return partition

    def announce(self, key: Key, pages: int) -> Process[int]:
        """Announce `pages`, unless more are announced already.

        Returns: the number of announced pages afterwards.
        Raises:
            Throttled: nothing was written.
        """
        partition = self.partition(key)
        is_served = partition.writes.take(1, self.clock.now_s)
        yield self.assumptions.rejection_s
        if not is_served:
            self.seen["throttles"] += 1
            raise Throttled
        if pages > partition.pages:
            partition.pages = pages
            self.seen["announcements"] += 1
        return partition.pages


@dataclass
class Known:
    """An environment's memory of one counter."""

    spread: ShardState = field(default_factory=ShardState)
    soft: bool = False
    """Whether it has seen the counter's first shard without a hard limit."""
    recent_until_s: float = 0.0
    """When its memory of the total ends."""


@dataclass
class Environment:
    """One execution environment. It serves one request at a time, and remembers counters by billing period."""

    ends_at_s: float
    counters: dict[int, Known] = field(default_factory=dict)


class Refused(Exception):
    """Lambda has no idle environment for the request, and cannot add one yet."""


class Fleet:
    """A function's execution environments. A request goes to the idle one that was busy last, else to a new one.

    Source: AWS Lambda developer guide, "Understanding Lambda function scaling".
    """

    def __init__(self, clock: Clock, assumptions: Assumptions, random: Random) -> None:
        self.added = 0
        self._clock = clock
        self._assumptions = assumptions
        self._random = random
        self._scaling = Bucket(assumptions.scaling / 10, assumptions.scaling)
        # Warm environments started before the simulation.
        self._idle = [Environment(self._life_s() * random.random()) for _ in range(assumptions.warm)]

    def enter(self) -> Process[Environment]:
        """Find or start the environment for the next request.

        Raises:
            Refused: no environment is idle, and none can be added.
        """
        while self._idle:
            environment = self._idle.pop()
            if environment.ends_at_s > self._clock.now_s:
                return environment
        if not self._scaling.take(1, self._clock.now_s):
            raise Refused
        self.added += 1
        yield self._assumptions.cold_start_s
        return Environment(self._clock.now_s + self._life_s())

    def leave(self, environment: Environment) -> None:
        """Mark the environment as idle after a request."""
        self._idle.append(environment)

    def _life_s(self) -> float:
        return self._random.uniform(0.5, 1.5) * self._assumptions.life_s
