"""The world of the simulation: a clock, DynamoDB's conflicts and ceilings, Lambda's execution environments.

Whatever takes time is a process: a generator that yields how many seconds pass before it goes on. Everything random
comes from one seeded source, so that a run repeats to the last digit.
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
# A process that answers T; what it yields are seconds.
Process: TypeAlias = Generator[float, None, T]
# A partition key: the billing period's number and the page's. Counters of one feature of one organization only.
Key: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Assumptions:
    """What the model takes for granted. Times in seconds, rates per second."""

    hold_s: float = 0.006
    """How long a transaction holds its items; the call takes as long."""
    rejection_s: float = 0.004
    """How long a call takes that meets a conflict or a throttle; and an announcement."""
    read_s: float = 0.004
    write_units: float = 1000
    """What one partition key serves in a second."""
    read_units: float = 3000
    burst_s: float = 1.0
    """For how long unused units of a partition key stay there to be used at once."""
    transaction_units: float = 2
    """Write units of an item below 1 KB in a transaction."""
    conflict_units: float = 2
    """The same, when the transaction met a conflict."""
    shard_bytes: int = 150
    work_s: float = 0.010
    """What a request takes beside its calls."""
    cold_start_s: float = 0.25
    warm: int = 300
    """Environments that are there before the first request, and know nothing of this counter: those of a service that
    serves others when one counter flares up. About 100 of them are busy with 5,000 calm requests per second."""
    scaling: int = 1000
    """Environments that Lambda adds at once, and then in ten seconds."""
    life_s: float = 60
    """How long an environment lasts, from half of that to one and a half times it. Lambda's last hours: the shorter,
    the more of them have everything to learn."""
    deadline_s: float = 7.5


class Clock:
    """Simulated time in seconds, and who goes on when."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Process[None]]] = []
        self._numbers = itertools.count()

    def start(self, process: Process[None]) -> None:
        """Let `process` begin now, after those that were started before it."""
        heapq.heappush(self._due, (self.now_s, next(self._numbers), process))

    def run(self) -> None:
        """Let time pass until no process is left."""
        due, numbers = self._due, self._numbers
        while due:
            self.now_s, _, process = heapq.heappop(due)
            wait_s = next(process, None)
            if wait_s is not None:
                heapq.heappush(due, (self.now_s + wait_s, next(numbers), process))


@dataclass
class Bucket:
    """Units that come back at a constant rate, up to as many as fit in; full at first."""

    rate: float
    most: float
    at_s: float = 0.0
    units: float = field(init=False)

    def __post_init__(self) -> None:
        self.units = self.most

    def take(self, units: float, now_s: float) -> bool:
        """Whether there were so many; if not, none is taken."""
        self.units = min(self.most, self.units + (now_s - self.at_s) * self.rate)
        self.at_s = now_s
        if self.units < units:
            return False
        self.units -= units
        return True


class ShardBusy(Exception):
    """Nothing was done."""


class Throttled(ShardBusy):
    """The partition key is beyond its rate."""


class Conflict(ShardBusy):
    """Another transaction holds the item."""


@dataclass
class Partition:
    """What is under one partition key, and what it can still serve."""

    writes: Bucket
    reads: Bucket
    added: Counter[int] = field(default_factory=Counter)
    """Additions by shard."""
    held_until_s: dict[int, float] = field(default_factory=dict)
    pages: int = 1
    """How many are announced here."""


class Table:
    """The counters' partition keys. Records are left out: each has a partition key of its own."""

    def __init__(self, clock: Clock, world: Assumptions) -> None:
        self.clock = clock
        self.world = world
        self.partitions: dict[Key, Partition] = {}
        self.seen: Counter[str] = Counter()
        """How often what happened."""

    def partition(self, key: Key) -> Partition:
        if key not in self.partitions:
            world, now_s = self.world, self.clock.now_s
            self.partitions[key] = Partition(
                writes=Bucket(world.write_units, world.write_units * world.burst_s, now_s),
                reads=Bucket(world.read_units, world.read_units * world.burst_s, now_s),
            )
        return self.partitions[key]

    def add(self, key: Key, shard: int) -> Process[None]:
        """A transaction that adds to a shard, and holds it until it is answered.

        Raises:
            Throttled, Conflict: nothing was added.
        """
        world, now_s = self.world, self.clock.now_s
        partition = self.partition(key)
        is_free = partition.held_until_s.get(shard, 0.0) <= now_s
        if not partition.writes.take(world.transaction_units if is_free else world.conflict_units, now_s):
            self.seen["throttles"] += 1
            yield world.rejection_s
            raise Throttled
        if not is_free:
            self.seen["conflicts"] += 1
            yield world.rejection_s
            raise Conflict
        partition.held_until_s[shard] = now_s + world.hold_s
        yield world.hold_s
        partition.added[shard] += 1

    def query(self, key: Key) -> Process[Partition]:
        """A consistent query of all that is under a partition key.

        Raises:
            Throttled: nothing was read.
        """
        partition = self.partition(key)
        units = -(-max(1, len(partition.added)) * self.world.shard_bytes // 4096)
        is_served = partition.reads.take(units, self.clock.now_s)
        yield self.world.read_s
        if not is_served:
            self.seen["throttles"] += 1
            raise Throttled
        self.seen["queries"] += 1
        self.seen["read units"] += units
        return partition

    def announce(self, key: Key, pages: int) -> Process[int]:
        """Say that there are so many pages, unless more are announced.

        Returns: how many there are then.
        Raises:
            Throttled: nothing was written.
        """
        partition = self.partition(key)
        is_served = partition.writes.take(1, self.clock.now_s)
        yield self.world.rejection_s
        if not is_served:
            self.seen["throttles"] += 1
            raise Throttled
        if pages > partition.pages:
            partition.pages = pages
            self.seen["announcements"] += 1
        return partition.pages


@dataclass
class Known:
    """What an environment remembers of one counter."""

    spread: ShardState = field(default_factory=ShardState)
    soft: bool = False
    """It has seen the counter's first shard without a hard limit."""
    recent_until_s: float = 0.0
    """When what it remembers of the total is too old."""


@dataclass
class Environment:
    """One execution environment: it serves one request at a time, and remembers counters by billing period."""

    ends_at_s: float
    counters: dict[int, Known] = field(default_factory=dict)


class Refused(Exception):
    """Lambda has no idle environment for the request, and may not add one yet."""


class Fleet:
    """A function's execution environments. A request goes to the idle one that was last busy, else to a new one.

    Source: AWS Lambda developer guide, "Understanding Lambda function scaling".
    """

    def __init__(self, clock: Clock, world: Assumptions, random: Random) -> None:
        self.added = 0
        self._clock = clock
        self._world = world
        self._random = random
        self._scaling = Bucket(world.scaling / 10, world.scaling)
        # Those that are there have lived for a while.
        self._idle = [Environment(self._life_s() * random.random()) for _ in range(world.warm)]

    def enter(self) -> Process[Environment]:
        """The environment that serves the next request.

        Raises:
            Refused: there is none.
        """
        while self._idle:
            environment = self._idle.pop()
            if environment.ends_at_s > self._clock.now_s:
                return environment
        if not self._scaling.take(1, self._clock.now_s):
            raise Refused
        self.added += 1
        yield self._world.cold_start_s
        return Environment(self._clock.now_s + self._life_s())

    def leave(self, environment: Environment) -> None:
        """The request is answered: the environment is idle."""
        self._idle.append(environment)

    def _life_s(self) -> float:
        return self._random.uniform(0.5, 1.5) * self._world.life_s
