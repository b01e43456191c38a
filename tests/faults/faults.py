"""The faults that can happen at one call of a function, and the class that chooses them.

A fault is a string, so that a file can hold a workload with its faults:

    not sent                      the connection breaks before the call
    answer lost                   the service executes the call, then the connection breaks before the answer
    throttled                     the service throttles the call
    failed                        the service answers with a server error and does nothing
    failed after all              the service executes the call, but answers with a server error
    slow, slow and lost           the service executes the call, and its answer takes 3, 9 or 70 s, or never comes
    killed before, killed after   SIGKILL ends the process before or after the service executes the call
    conflict on N                 TransactionConflict on item N of the transaction, counted from 0
    throttled on N                the transaction is cancelled, because its item N is throttled
    some refused, all refused     PutEvents answers 200 with failed entries
    answer dropped                the function answers, but its caller never gets the answer

Some faults come alone, and some as outages. In an outage, every call fails from some call of an invocation on. Other
transactions can also hold a counter, or DynamoDB can throttle it. Then every transaction fails for a while, on any
shard.
"""

import threading
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from random import Random

KILLS = ("killed before", "killed after")
# The faults that any call can have.
EVERYWHERE = (
    "not sent",
    "answer lost",
    "throttled",
    "failed",
    "failed after all",
    "slow",
    "slow and lost",
    *KILLS,
)
TRANSACTIONS = ("TransactWriteItems", "TransactGetItems")
# The answer of the function itself, which API Gateway or the caller's network can drop after the last call.
ANSWER = "answer"
DROPPED = "answer dropped"

# The faults of an outage. Every try fails.
_OUTAGES = ("not sent", "throttled", "failed")

# The share of invocations with an outage, by the verb of their label.
_IN_OUTAGES = {"record": 0.04, "publish": 0.3, "watch": 0.2, "consume": 0.1, "operate": 0.1}
# The share of recording invocations that find their counter held, and the range for the number of their failing calls.
# The counter stays held until the request announces more pages, and sometimes longer than the request tries.
_HELD = 0.06
_HELD_CALLS = (2, 12)
# With this share, some counter got pages in each of 24 runs of eight seeds, and at least 18 pages held usage.
_HELD_IN_A_CROWD = 0.5

# No fault happens from this attempt or delivery on, so that every workload ends.
LAST_FAULTY_TRY = 6


@dataclass(frozen=True)
class Call:
    """One call that a function makes."""

    invocation: str
    """The label of the invocation that makes the call. `record 17.2` is the third attempt of operation 17."""
    number: int
    """The position of the call in its invocation, counted from 0 in order of arrival.

    Parallel calls of threads may arrive in any order. Their number is the same in every run."""
    operation: str
    """The service's name of the call, as `TransactWriteItems`."""
    parts: int = 0
    """The number of items of the transaction, or of entries of PutEvents."""
    counters: tuple[int, ...] = ()
    """The positions of the transaction's items that are shards of counters, counted from 0."""

    @property
    def label(self) -> str:
        return f"{self.invocation}/{self.number}"

    @property
    def operation_id(self) -> int:
        """The operation whose attempt the invocation is. For other invocations, a number of their own."""
        return int(self.invocation.partition(" ")[2].partition(".")[0])

    @property
    def last_try(self) -> bool:
        """Whether the invocation has had so many tries that it gets no more faults."""
        return int(self.invocation.rpartition(".")[2]) >= LAST_FAULTY_TRY


def kinds(call: Call) -> list[str]:
    """Every fault that can happen at this call."""
    if call.operation == ANSWER:
        return [DROPPED]
    found = list(EVERYWHERE)
    if call.operation in TRANSACTIONS:
        found += [f"conflict on {item}" for item in range(call.parts)]
        found += [f"throttled on {item}" for item in range(call.parts)]
    if call.operation == "PutEvents":
        found += ["some refused", "all refused"]
    return found


def _any_of(call: Call, random: Random) -> str:
    """Choose a fault for this call. The number of items of a transaction does not change the chances."""
    found = [kind for kind in kinds(call) if " on " not in kind]
    if call.operation in TRANSACTIONS:
        # More transactions conflict on shards than on records.
        items = [*range(call.parts), *random.choices(call.counters or range(call.parts), k=call.parts)]
        found += [f"conflict on {random.choice(items)}", f"throttled on {random.choice(items)}"] * 2
    return random.choice(found)


# The calls of an invocation without counter pages, and without plans of many organizations.
_FEW_CALLS = 6


@dataclass
class Faults:
    """Chooses the fault of each call and records it.

    Without a `script`, each call gets a random fault with the probability `rate`. With a `script`, each call gets the
    fault under its label.
    """

    seed: int
    rate: float = 0.08
    outages: Mapping[str, float] = field(default_factory=lambda: dict(_IN_OUTAGES))
    """The share of invocations with an outage, by the verb of their label."""
    held: float = _HELD
    """The share of invocations that find their counter held."""
    crowded: Collection[int] = ()
    """Operations of crowded phases. Half of their invocations find their counter held, so that a counter gets pages."""
    script: Mapping[str, str] | None = None
    calls: list[Call] = field(default_factory=list)
    """All calls that were made."""
    injected: dict[str, str] = field(default_factory=dict)
    """Each fault, by the label of its call."""
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The number of faults for each operation and kind."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, call: Call) -> str | None:
        """Choose and record the fault of this call; None: the call succeeds."""
        fault = self._decided(call)
        with self._lock:
            self.calls.append(call)
            if fault is not None:
                self.injected[call.label] = fault
                self.tally[call.operation, fault.rstrip("0123456789").removesuffix(" on ")] += 1
        return fault

    def random(self, call: Call) -> Random:
        """A random source that depends only on the seed and the call."""
        return Random(f"{self.seed} {call.label}")

    def _decided(self, call: Call) -> str | None:
        if self.script is not None:
            fault = self.script.get(call.label)
            # In a shrunken workload another call may have the same label.
            return fault if fault in kinds(call) else None
        if call.last_try:
            return None
        if (outage := self._outage(call)) is not None:
            return outage
        if (held := self._held(call)) is not None:
            return held
        random = self.random(call)
        # At the full rate, an invocation that reads a counter of many pages would rarely succeed.
        rate = self.rate if call.number < _FEW_CALLS else self.rate / _FEW_CALLS
        return _any_of(call, random) if random.random() < rate else None

    def _held(self, call: Call) -> str | None:
        if not call.counters:
            return None
        random = Random(f"{self.seed} held {call.invocation}")
        part = _HELD_IN_A_CROWD if call.operation_id in self.crowded else self.held
        if random.random() >= part or call.number > random.randrange(*_HELD_CALLS):
            return None
        return f"{random.choice(['conflict', 'throttled'])} on {random.choice(call.counters)}"

    def _outage(self, call: Call) -> str | None:
        random = Random(f"{self.seed} {call.invocation}")
        if call.operation == ANSWER or random.random() >= self.outages[call.invocation.partition(" ")[0]]:
            return None
        begins_at = random.randrange(3)
        kind = random.choice([*_OUTAGES, "all refused"])
        if call.number < begins_at:
            return None
        return kind if kind in kinds(call) else "throttled"
