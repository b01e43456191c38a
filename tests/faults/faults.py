"""The faults: what can go wrong at one call of a function, and who decides that it does.

A fault is a text, so that a workload of them can be kept in a file:

    not sent                      the connection breaks before the call is made
    answer lost                   the call is made, and the connection breaks before its answer
    throttled                     refused for its rate
    failed, failed after all      a server's error; the second although the call was made
    slow, slow and lost           the call is made, and time passes: 3, 9 or 70 s
    killed before, killed after   the process is killed (SIGKILL) before, or after, the call is made
    conflict on N                 TransactionConflict on the item N, from 0, that the transaction writes or reads
    throttled on N                the transaction is cancelled, as its item N is throttled
    some refused, all refused     PutEvents answers 200 with failed entries
    answer dropped                the function has answered, and its caller never hears it

Some come one by one, and some as outages: from some call of an invocation on, every call of its kind fails; or a
counter is held by others or throttled, so that for a while every transaction meets that, whichever shard it tries.
"""

import threading
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from random import Random

KILLS = ("killed before", "killed after")
# What can happen to any call.
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
# Made by API Gateway and the caller's network, after the last call.
ANSWER = "answer"
DROPPED = "answer dropped"

# What an outage looks like from inside: nothing gets through, however often it is tried.
_OUTAGES = ("not sent", "throttled", "failed")

# Which part of the invocations meets one, by what they do.
_IN_OUTAGES = {"record": 0.04, "publish": 0.3, "watch": 0.2, "consume": 0.1, "operate": 0.1}
# Which part of the invocations that record meets a counter that is held, and for how many calls: until a page of
# shards is too narrow for whoever meets it, and sometimes for longer than he tries.
_HELD = 0.06
_HELD_CALLS = (2, 12)
# In each of 24 runs of eight seeds some counter got pages then, and was counted on 18 of them at the least.
_HELD_IN_A_CROWD = 0.5

# From this attempt or delivery on nothing fails any more, so that every workload comes to an end.
LAST_FAULTY_TRY = 6


@dataclass(frozen=True)
class Call:
    """One call that a function makes."""

    invocation: str
    """Which invocation makes it: `record 17.2` is the third attempt of operation 17."""
    number: int
    """Which call of the invocation it is, from 0, as they come in: of calls that threads make at once, either may be
    the first. How many there are is the same in every run."""
    operation: str
    """As the service names it: TransactWriteItems."""
    parts: int = 0
    """How many items the transaction has, or entries the call of PutEvents."""
    counters: tuple[int, ...] = ()
    """Which of the transaction's items are shards of counters, from 0."""

    @property
    def label(self) -> str:
        return f"{self.invocation}/{self.number}"

    @property
    def operation_id(self) -> int:
        """Whose attempt the invocation is: what a client has set out to do; of others, a number of their own."""
        return int(self.invocation.partition(" ")[2].partition(".")[0])

    @property
    def last_try(self) -> bool:
        """Whether this invocation has been tried so often that it must get through now."""
        return int(self.invocation.rpartition(".")[2]) >= LAST_FAULTY_TRY


def kinds(call: Call) -> list[str]:
    """Every fault that this call can meet."""
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
    """One of the faults that this call can meet; a large transaction's many items are no more likely to meet one."""
    found = [kind for kind in kinds(call) if " on " not in kind]
    if call.operation in TRANSACTIONS:
        # Shards are met by more than records are.
        items = [*range(call.parts), *random.choices(call.counters or range(call.parts), k=call.parts)]
        found += [f"conflict on {random.choice(items)}", f"throttled on {random.choice(items)}"] * 2
    return random.choice(found)


# As many as an invocation makes that has nothing to do with pages, or with plans of many organizations.
_FEW_CALLS = 6


@dataclass
class Faults:
    """Decides what each call meets, and remembers it.

    By the dice, at `rate`, whatever the calls are; or, if there is a `script`, as that says by label.
    """

    seed: int
    rate: float = 0.08
    outages: Mapping[str, float] = field(default_factory=lambda: dict(_IN_OUTAGES))
    """Which part of the invocations meets an outage, by what they do."""
    held: float = _HELD
    """Which part of the invocations meets a counter that is held, whatever they do."""
    crowded: Collection[int] = ()
    """The operations of whose invocations half do: so many that some counter gets further pages whoever comes first."""
    script: Mapping[str, str] | None = None
    calls: list[Call] = field(default_factory=list)
    """All calls that were made."""
    injected: dict[str, str] = field(default_factory=dict)
    """Each fault, by the label of the call that met it."""
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often an operation met a kind of fault."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, call: Call) -> str | None:
        """What happens at this call."""
        fault = self._decided(call)
        with self._lock:
            self.calls.append(call)
            if fault is not None:
                self.injected[call.label] = fault
                self.tally[call.operation, fault.rstrip("0123456789").removesuffix(" on ")] += 1
        return fault

    def random(self, call: Call) -> Random:
        """Chance that depends on the seed and the call alone."""
        return Random(f"{self.seed} {call.label}")

    def _decided(self, call: Call) -> str | None:
        if self.script is not None:
            fault = self.script.get(call.label)
            # In a smaller workload the same call may be another one.
            return fault if fault in kinds(call) else None
        if call.last_try:
            return None
        if (outage := self._outage(call)) is not None:
            return outage
        if (held := self._held(call)) is not None:
            return held
        random = self.random(call)
        # Else an invocation that reads a counter of many pages would hardly ever end well.
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
