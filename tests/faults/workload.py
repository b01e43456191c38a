"""A workload: what clients and others set out to do, when, and what goes wrong. A seed makes one, a file keeps one."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

# The contents that one organization sends under one key: they differ in one member.
VARIANTS = 5
# An attempt that is not answered is made again, this often at most: faults stop long before.
UNTIL_ANSWERED = 40

# Names that are each other's beginnings, or look like it, so that a key cut in the wrong place is noticed.
ORGANIZATIONS = ("acme", "ACME", "acme-", "acme-eu", "acme_eu", "bolt", "leaving", "0day", "z" * 64)
UNKNOWN_ORGANIZATION = "nobody"
# Known from the moment on in which its event has come.
NEWCOMER = "newcomer"
# Whose clients give up, or change their mind. All others' sums must be what their clients were told.
UNRELIABLE = ("acme_eu", "leaving")
# None differ in case only: dynoxide's begins_with takes such for the same, which DynamoDB's does not.
FEATURES = ("api_calls", "api_calls.v2", "api", "storage_gb", "f" * 64)
# In what a record of a batch breaks the contract.
FLAWS = ("no quantity", "a quantity of nothing", "a strange feature", "an unknown member", "no key", "no record at all")

PLANS = ("free", "pro", "pro.v2")
STATUSES = ("TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "PAUSED")

_DAY_S = 86_400.0
# As infra/ deploys it: from then on a key is free again.
RETENTION_S = 400 * _DAY_S


@dataclass(frozen=True)
class Operation:
    """One usage that a client sets out to record, and how it goes about it."""

    id: int
    organization: str
    key: str
    variant: int = 0
    """Which of the contents that the organization ever sends under this key."""
    patience: int = UNTIL_ANSWERED
    """After so many attempts the client gives up for ever."""
    changes_after: int = UNTIL_ANSWERED
    """After so many attempts the client sends other content under the key."""
    impatient: bool = False
    """The client makes its second attempt while the first is under way."""


@dataclass(frozen=True)
class Item:
    """One record of a batch."""

    key: str
    variant: int = 0
    flaw: str | None = None
    """In which of the `FLAWS` it breaks the contract."""


@dataclass(frozen=True)
class Batch:
    """Usages that a client sets out to record in one request."""

    id: int
    organization: str
    items: tuple[Item, ...]
    patience: int = UNTIL_ANSWERED
    """After so many attempts the client gives up for ever."""
    trims: bool = False
    """The client sends again only what was not answered for good; if not, the whole batch."""
    impatient: bool = False
    """The client makes its second attempt while the first is under way."""


Work: TypeAlias = Operation | Batch


@dataclass(frozen=True)
class PlanApplied:
    """An operator applies a plan."""

    id: int
    after: int
    """The operation whose client sees to it, right after that."""
    plan: str
    features: dict[str, dict[str, Any]]
    """As plans.yaml has them, every member."""


@dataclass(frozen=True)
class LimitsPut:
    """An operator gives an organization limits of its own."""

    id: int
    after: int
    organization: str
    limits: dict[str, int | str]
    """By feature: a number, `unlimited`, or `plan` for none of its own."""


@dataclass(frozen=True)
class StatusPut:
    """An operator sets an organization active or inactive."""

    id: int
    after: int
    organization: str
    status: Literal["active", "inactive"]


@dataclass(frozen=True)
class EventSent:
    """Another service's event comes from the bus."""

    id: int
    after: int
    event: dict[str, Any]
    malformed: bool = False
    """Whether it breaks the contract."""


Action: TypeAlias = PlanApplied | LimitsPut | StatusPut | EventSent


@dataclass(frozen=True)
class Phase:
    """A stretch of time in which clients work at once; between phases the clock jumps and nobody works."""

    starts_at_s: float
    """Seconds since 1970."""
    lasts_s: float
    inactive: tuple[str, ...] = ()
    """Organizations that are set inactive for this phase; all others but the unknown one are active."""
    damaged: tuple[int, ...] = ()
    """Items that somebody spoils by hand at the beginning: which way, by number."""
    swept: bool = False
    """Whether TTL deletes half of what has expired at the beginning."""
    operations: tuple[Work, ...] = ()
    actions: tuple[Action, ...] = ()
    """What others do meanwhile."""
    crowded: bool = False
    """Whether every second attempt finds the counters held by others, or throttled, for a while."""
    settled: bool = True
    """Whether the stream's readers catch up before the clock jumps; if not, they stand still until then."""


@dataclass(frozen=True)
class Workload:
    """Phases of work by `clients` threads. Without `faults` the seed decides what goes wrong."""

    seed: int
    clients: int
    phases: tuple[Phase, ...]
    faults: Mapping[str, str] | None = None
    """What goes wrong, by the label of the call."""
    unpublishable_one_in: int = 150
    """One event in so many is never taken by the bus; 0: none."""
    restless: bool = True
    """Whether the stream repeats, splits and delays what it delivers; if not, it delivers all at once at the end."""

    @property
    def operations(self) -> list[Work]:
        return [operation for phase in self.phases for operation in phase.operations]

    @property
    def actions(self) -> list[Action]:
        return [action for phase in self.phases for action in phase.actions]

    @property
    def items(self) -> list[tuple[int, int]]:
        """Every record of every batch: its operation's id, and its place in the batch."""
        batches = [one for one in self.operations if isinstance(one, Batch)]
        return [(batch.id, place) for batch in batches for place in range(len(batch.items))]

    def keeping(self, operations: set[int], actions: set[int]) -> "Workload":
        """The same with the operations and actions of these ids only."""
        phases = (
            replace(
                phase,
                operations=tuple(one for one in phase.operations if one.id in operations),
                actions=tuple(action for action in phase.actions if action.id in actions),
            )
            for phase in self.phases
        )
        return replace(self, phases=tuple(phases))

    def keeping_items(self, items: set[tuple[int, int]]) -> "Workload":
        """The same with these records of the batches only; a batch of which none is left is gone."""

        def kept(work: Work) -> Work | None:
            if isinstance(work, Operation):
                return work
            left = tuple(item for place, item in enumerate(work.items) if (work.id, place) in items)
            return replace(work, items=left) if left else None

        phases = (
            replace(phase, operations=tuple(work for one in phase.operations if (work := kept(one)) is not None))
            for phase in self.phases
        )
        return replace(self, phases=tuple(phases))


_ADAPTER = TypeAdapter(Workload)


def save(workload: Workload, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_ADAPTER.dump_json(workload, indent=1))


def load(file: Path) -> Workload:
    return _ADAPTER.validate_json(file.read_bytes())


def content(organization: str, key: str, variant: int) -> dict[str, Any]:
    """What the organization sends under this key: its own, so that any mix-up shows."""
    random = Random(f"{organization} {key}")
    feature = random.choice(FEATURES)
    quantity = random.randrange(1, 1000) * _unit(organization) % 999_999_937
    sent = {
        "feature": FEATURES[FEATURES.index(feature) - 1] if variant == 2 else feature,
        "quantity": quantity + (variant == 1),
        "sourceId": f"{secret_of(organization)}{'-other' if variant == 3 else ''}",
        "sourceType": "request",
        "metadata": {"z": secret_of(organization), "a": {"y": [1, None], "b": key, "c": variant == 4}},
    }
    # Some callers send the least that they can.
    if random.random() < 0.3:
        del sent["sourceType"]
        for name, changed_by in (("sourceId", 3), ("metadata", 4)):
            if variant != changed_by:
                del sent[name]
    return sent


def flawed(sent: dict[str, Any], flaw: str) -> Any:
    """A record of a batch, key included, with this flaw."""
    match flaw:
        case "no quantity":
            return {name: value for name, value in sent.items() if name != "quantity"}
        case "a quantity of nothing":
            return {**sent, "quantity": 0}
        case "a strange feature":
            return {**sent, "feature": f"{sent['feature']}#1"}
        case "an unknown member":
            return {**sent, "price": 1}
        case "no key":
            return {name: value for name, value in sent.items() if name != "idempotencyKey"}
        case _:
            return [sent["feature"], sent["quantity"]]


def _unit(organization: str) -> int:
    # Organizations have their own magnitudes: a sum that holds another's usage is out of all bounds.
    place = (*ORGANIZATIONS, UNKNOWN_ORGANIZATION, NEWCOMER).index(organization)
    return pow(1000, place, 999_999_937)


@cache
def secret_of(organization: str) -> str:
    """What only this organization ever sends, and nobody else may see."""
    return f"secret-{hashlib.sha256(organization.encode()).hexdigest()[:16]}"


def generate(seed: int, operations: int, clients: int = 6) -> Workload:
    """A workload of so many operations, and a action of others for about every ten."""
    random = Random(seed)
    end_of_month = _s(2026, 10, 31, 23, 58, 20)
    share = operations // 7
    shares = [share] * 6 + [operations - 6 * share]
    keys = _Keys(random, operations)
    ids = iter(range(operations))
    rush_s = end_of_month + 1.25 * _DAY_S
    thaw_s = end_of_month + 2 * _DAY_S
    # Longer than a minute, so that what was remembered is read again.
    phases = (
        # Over a month's end.
        Phase(end_of_month, 200, damaged=(0, 1), settled=False),
        # The retries of before: in another period, when the stream's readers have still to read of the one before.
        Phase(end_of_month + 0.75 * _DAY_S, 200, inactive=("leaving",)),
        # Everybody at once in a few counters, for so short a time that what was read a moment ago is still remembered.
        Phase(rush_s, 4, inactive=("leaving",), crowded=True),
        # After hours in which nobody recorded anything, and others changed what holds: memories are out of date.
        Phase(thaw_s, 200, inactive=("leaving", "bolt")),
        # Over the very seconds in which the first phase's records expire.
        Phase(end_of_month + RETENTION_S - 2, 204, inactive=("leaving",), damaged=(2, 4)),
        # Over a year's end; much has expired, some of it is gone.
        Phase(_s(2027, 12, 31, 23, 58, 20), 200, swept=True),
        # Everything before has expired.
        Phase(_s(2027, 12, 31, 23, 58, 20) + RETENTION_S + 240, 200, damaged=(3, 5), swept=True),
    )
    # Of its own, so that the actions do not change what the clients set out to do.
    others = Others(Random(f"{seed} others"))
    before = Phase(end_of_month - 3600, 20)
    filled = [replace(before, actions=tuple(others.first_actions(before)))]
    for phase, count in zip(phases, shares, strict=True):
        if phase.starts_at_s == rush_s:
            # Without a limit, or they would stay in one item.
            hot = random.choice([each for each in ORGANIZATIONS if each not in UNRELIABLE]), random.choice(FEATURES)
            keys.rush(hot)
            calm = Phase(rush_s - 600, 20, inactive=phase.inactive)
            filled.append(replace(calm, actions=(others.unlimited(filled[-1].operations[-1].id, *hot),)))
        else:
            keys.rush(None)
        if phase.starts_at_s == thaw_s:
            idle = Phase(thaw_s - 5 * 3600, 200, inactive=phase.inactive)
            filled.append(replace(idle, actions=tuple(others.changed_meanwhile(filled[-1].operations[-1].id, idle))))
        work = tuple(_work(next(ids), keys, random) for _ in range(count))
        # What was reached in the former period is told by what holds then, if that has not changed since.
        rest = 10 if filled[-1].settled else 40
        actions = tuple(others.actions(phase, [one.id for one in work], rest))
        filled.append(replace(phase, operations=work, actions=actions))
    return Workload(seed, clients, tuple(filled))


class _Keys:
    """Keys that are used again and again, the same ones by several organizations."""

    def __init__(self, random: Random, operations: int) -> None:
        self._random = random
        # Few enough that organizations share them, and that they come again when they are free again.
        beginnings = ("k", "a#k", "k#record", "2026-11#k")
        self._fresh = [f"{random.choice(beginnings)}-{number}" for number in range(operations // 6 + 1)]
        self._used: list[tuple[str, str]] = []
        self._hot: tuple[str, str] | None = None

    def rush(self, counter: tuple[str, str] | None) -> None:
        """From now on, mostly keys that stand for this organization's usage of this feature; None: no longer."""
        self._hot = counter

    def batch(self) -> tuple[str, list[str]]:
        """An organization, and keys of a batch of its: new ones, ones in use, and some twice."""
        size = min(30, 1 + int(self._random.expovariate(1 / 6))) if self._random.random() < 0.97 else 100
        organization, key = self.next()
        found = [key]
        while len(found) < size:
            kind = self._random.random()
            if kind < 0.1:
                found.append(self._random.choice(found))
            elif kind < 0.4 and (used := [each for owner, each in self._used[-200:] if owner == organization]):
                # Mostly of a batch that is sent just now.
                found.append(used[max(0, len(used) - 1 - int(self._random.expovariate(1 / 10)))])
            else:
                found.append(self._fresh_key(organization))
                self._used.append((organization, found[-1]))
        return organization, found

    def _fresh_key(self, organization: str) -> str:
        while True:
            key = f"m-{self._random.randrange(40 * len(self._fresh))}"
            feature = content(organization, key, 0)["feature"]
            if self._hot is None or organization != self._hot[0] or feature == self._hot[1]:
                return key

    def next(self) -> tuple[str, str]:
        if self._hot is not None and self._random.random() < 0.7:
            organization, _ = self._hot
            self._used.append((organization, self._fresh_key(organization)))
            return self._used[-1]
        if self._used and self._random.random() < 0.35:
            # Mostly one that is in use just now.
            if self._random.random() < 0.4:
                return self._random.choice(self._used)
            back = int(self._random.expovariate(1 / 40))
            return self._used[max(0, len(self._used) - 1 - back)]
        strange = self._random.random()
        organization = (
            UNKNOWN_ORGANIZATION
            if strange < 0.01
            else NEWCOMER
            if strange < 0.04
            else self._random.choice(ORGANIZATIONS)
        )
        pair = organization, self._random.choice(self._fresh)
        self._used.append(pair)
        return pair


def _work(number: int, keys: _Keys, random: Random) -> Work:
    return _batch(number, keys, random) if random.random() < 0.2 else _operation(number, keys, random)


def _batch(number: int, keys: _Keys, random: Random) -> Batch:
    organization, used = keys.batch()
    items = (
        Item(
            key,
            variant=random.randrange(1, VARIANTS) if random.random() < 0.05 else 0,
            flaw=random.choice(FLAWS) if random.random() < 0.03 else None,
        )
        for key in used
    )
    return Batch(
        id=number,
        organization=organization,
        items=tuple(items),
        patience=random.randrange(1, 3) if organization in UNRELIABLE and random.random() < 0.3 else UNTIL_ANSWERED,
        trims=random.random() < 0.3,
        impatient=random.random() < 0.1,
    )


def _operation(number: int, keys: _Keys, random: Random) -> Operation:
    organization, key = keys.next()
    return Operation(
        id=number,
        organization=organization,
        key=key,
        variant=random.randrange(1, VARIANTS) if random.random() < 0.08 else 0,
        patience=random.randrange(1, 3) if organization in UNRELIABLE and random.random() < 0.3 else UNTIL_ANSWERED,
        changes_after=random.randrange(1, 3)
        if organization in UNRELIABLE and random.random() < 0.1
        else UNTIL_ANSWERED,
        impatient=random.random() < 0.05,
    )


class Others:
    """What operators and other services do, one action after the other."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._number = 0
        self._sent: list[EventSent] = []

    def first_actions(self, phase: Phase) -> Iterator[Action]:
        """Every plan applied, and every organization on one of them, all at once; and something malformed."""
        for number, plan in enumerate(PLANS):
            yield self._plan(number, plan)
        for number, organization in enumerate(ORGANIZATIONS):
            yield self._subscription(number, organization, phase, 0.0)
        yield self._malformed(0, ORGANIZATIONS[0], phase, 0.0)

    def actions(self, phase: Phase, operations: Sequence[int], every: int) -> Iterator[Action]:
        """What is done in this phase by the clients of these operations, one action for so many of them."""
        for _ in range(len(operations) // every):
            at = self._random.randrange(len(operations))
            after, progress = operations[at], at / len(operations)
            organization = self._random.choice(ORGANIZATIONS)
            kind = self._random.random()
            if kind < 0.25:
                yield self._plan(after, self._random.choice(PLANS))
            elif kind < 0.5:
                yield self._limits(after, organization)
            elif kind < 0.75:
                yield self._subscription(after, organization, phase, progress)
            elif kind < 0.85 and self._sent:
                # The bus delivers at least once, and in any order.
                yield replace(self._random.choice(self._sent[-20:]), id=self._next(), after=after)
            elif kind < 0.93:
                yield self._created(after, self._random.choice([NEWCOMER, organization]), phase, progress)
            else:
                yield self._malformed(after, organization, phase, progress)

    def changed_meanwhile(self, after: int, phase: Phase) -> Iterator[Action]:
        """Every plan applied anew, and other plans and limits for half of the organizations."""
        for number, plan in enumerate(PLANS):
            yield self._plan(after + number, plan)
        for number, organization in enumerate(ORGANIZATIONS):
            if self._random.random() < 0.5:
                yield self._limits(after + number, organization)
                yield self._subscription(after + number, organization, phase, 0.5)

    def unlimited(self, after: int, organization: str, feature: str) -> LimitsPut:
        """No limit for this feature of this organization, whatever its plan says."""
        return LimitsPut(self._next(), after, organization, {feature: "unlimited"})

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _plan(self, after: int, plan: str) -> PlanApplied:
        features = [each for each in FEATURES if self._random.random() < 0.7]
        return PlanApplied(self._next(), after, plan, {feature: self._feature() for feature in features})

    def _feature(self) -> dict[str, Any]:
        return {
            # In the magnitude of some organization: too little for others, and without an end for the rest.
            "limit": self._limit(self._random.choice(ORGANIZATIONS)),
            "enforcement": self._random.choice(["soft", "hard"]),
            "warnAt": sorted(self._random.sample([1, 33, 50, 80, 99], self._random.randrange(3))),
        }

    def _limit(self, organization: str) -> int | str:
        if self._random.random() < 0.15:
            return "unlimited" if self._random.random() < 0.5 else 0
        # A few of its quantities.
        return self._random.randrange(300, 3000) * min(_unit(organization), 1_000_000)

    def _limits(self, after: int, organization: str) -> LimitsPut:
        features = self._random.sample(FEATURES, self._random.randrange(1, 3))
        own = {feature: "plan" if self._random.random() < 0.4 else self._limit(organization) for feature in features}
        return LimitsPut(self._next(), after, organization, own)

    def _subscription(self, after: int, organization: str, phase: Phase, progress: float) -> EventSent:
        payload: dict[str, Any] = {
            "organizationId": organization,
            "previousPlan": self._random.choice(PLANS),
            # Nobody has described the last one.
            "newPlan": self._random.choice([*PLANS, *PLANS, "legacy"]),
            "previousStatus": self._random.choice(STATUSES),
            "newStatus": self._random.choice(STATUSES),
            "changedAt": self._moment(phase, progress),
        }
        optional = {
            "subscriptionId": f"sub-{self._random.randrange(3)}",
            "planName": f"Plan {self._random.randrange(3)}",
            # Before the end, whatever either is.
            "currentPeriodStart": self._moment(phase, progress, ago_s=60),
            "currentPeriodEnd": self._moment(phase, progress),
            "trialEndsAt": self._random.choice([None, self._moment(phase, progress)]),
            "cancelAtPeriodEnd": self._random.random() < 0.5,
        }
        payload |= {name: value for name, value in optional.items() if self._random.random() < 0.5}
        sent = self._event(after, "billing.subscription.changed", payload)
        self._sent.append(sent)
        return sent

    def _created(self, after: int, organization: str, phase: Phase, progress: float) -> EventSent:
        payload = {"organizationId": organization, "createdAt": self._moment(phase, progress)}
        return self._event(after, "org.created", payload)

    def _malformed(self, after: int, organization: str, phase: Phase, progress: float) -> EventSent:
        sent = self._subscription(after, organization, phase, progress)
        self._sent.pop()
        payload: dict[str, Any] = sent.event["detail"]["payload"]
        match self._random.randrange(6):
            case 0:
                payload["newStatus"] = "ASLEEP"
            case 1:
                del payload["changedAt"]
            case 2:
                payload["organizationId"] = f"{organization}#usage"
            case 3:
                payload["changedAt"] = "9999-01-01T00:00:00Z"
            case 4:
                payload |= {"currentPeriodStart": payload["changedAt"], "currentPeriodEnd": payload["changedAt"]}
            case _:
                payload["changedAt"] = payload["changedAt"].removesuffix("Z")
        return replace(sent, malformed=True)

    def _event(self, after: int, key: str, payload: dict[str, Any]) -> EventSent:
        number = self._next()
        # Ids that are in no order of time.
        event_id = hashlib.sha256(f"{number} {self._random.random()}".encode()).hexdigest()[:16]
        detail = {"id": event_id, "occurredAt": "2026-10-01T00:00:00.000Z", "key": key, "version": "1.0.0"}
        return EventSent(number, after, {"detail-type": key, "detail": {**detail, "payload": payload}})

    def _moment(self, phase: Phase, progress: float, ago_s: float = 0.0) -> str:
        # In whole seconds, and around the present: others' clocks go wrong, and events overtake each other.
        at_s = phase.starts_at_s + phase.lasts_s * progress - ago_s + self._random.randrange(-20, 20)
        return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def turns(phase: Phase, clients: int) -> Iterator[tuple[Work | Action, ...]]:
    """What each client works off, in order."""
    for client in range(clients):
        operations = [(one.id, 0, one) for one in phase.operations if one.id % clients == client]
        actions = [(action.after, action.id, action) for action in phase.actions if action.after % clients == client]
        yield tuple(each for _, _, each in sorted([*operations, *actions], key=lambda turn: turn[:2]))


def _s(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]
