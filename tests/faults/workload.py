"""Workloads: the work of clients and others, its times and its faults. A seed generates one; a file stores one."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

# The number of contents that an organization sends under one key. They differ in one member.
VARIANTS = 5
# The maximum number of attempts without an answer. Faults stop long before.
UNTIL_ANSWERED = 40

# Some names are prefixes of others or look similar. So tests notice a key that is split in the wrong place.
ORGANIZATIONS = ("acme", "ACME", "acme-", "acme-eu", "acme_eu", "bolt", "leaving", "0day", "z" * 64)
UNKNOWN_ORGANIZATION = "nobody"
# An organization that only an event creates.
NEWCOMER = "newcomer"
# Organizations whose clients give up or change the content. For all others, answers must add up to the counters.
UNRELIABLE = ("acme_eu", "leaving")
# No two differ only in case, because dynoxide's begins_with ignores case, unlike DynamoDB's.
FEATURES = ("api_calls", "api_calls.v2", "api", "storage_gb", "f" * 64)
# The ways in which a record of a batch breaks the contract.
FLAWS = ("no quantity", "a zero quantity", "an invalid feature", "an unknown member", "no key", "no object")

PLANS = ("free", "pro", "pro.v2")
STATUSES = ("TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "PAUSED")

_DAY_S = 86_400.0
# The retention that infra/ deploys. After it a key is free again.
RETENTION_S = 400 * _DAY_S


@dataclass(frozen=True)
class Operation:
    """One usage that a client records, and how the client retries."""

    id: int
    organization: str
    key: str
    variant: int = 0
    """The number of the content, of all contents that the organization sends under this key."""
    patience: int = UNTIL_ANSWERED
    """After this many attempts the client gives up."""
    changes_after: int = UNTIL_ANSWERED
    """After this many attempts the client sends other content under the key."""
    impatient: bool = False
    """Whether the client makes its second attempt while the first one is running."""


@dataclass(frozen=True)
class Item:
    """One record of a batch."""

    key: str
    variant: int = 0
    flaw: str | None = None
    """One of `FLAWS`; None: the record is valid."""


@dataclass(frozen=True)
class Batch:
    """Usage records that a client sends in one request."""

    id: int
    organization: str
    items: tuple[Item, ...]
    patience: int = UNTIL_ANSWERED
    """After this many attempts the client gives up."""
    trims: bool = False
    """Whether the client retries only records without a final answer, instead of the whole batch."""
    impatient: bool = False
    """Whether the client makes its second attempt while the first one is running."""


Work: TypeAlias = Operation | Batch


@dataclass(frozen=True)
class PlanApplied:
    """An operator applies a plan."""

    id: int
    after: int
    """The id of the operation after which the same client runs this action."""
    plan: str
    features: dict[str, dict[str, Any]]
    """The features in the format of plans.yaml, with every member."""


@dataclass(frozen=True)
class LimitsPut:
    """An operator sets an organization's own limits."""

    id: int
    after: int
    organization: str
    limits: dict[str, int | str]
    """The limit by feature: a number, `unlimited`, or `plan` for the plan's limit."""


@dataclass(frozen=True)
class StatusPut:
    """An operator sets an organization active or inactive."""

    id: int
    after: int
    organization: str
    status: Literal["active", "inactive"]


@dataclass(frozen=True)
class EventSent:
    """The bus delivers another service's event."""

    id: int
    after: int
    event: dict[str, Any]
    malformed: bool = False
    """Whether the event breaks the contract."""


Action: TypeAlias = PlanApplied | LimitsPut | StatusPut | EventSent


@dataclass(frozen=True)
class Phase:
    """A period in which clients work in parallel. Between phases the clock jumps and no client works."""

    starts_at_s: float
    """Seconds since 1970."""
    lasts_s: float
    inactive: tuple[str, ...] = ()
    """Organizations that are inactive in this phase. All others are active, except the unknown one."""
    damaged: tuple[int, ...] = ()
    """Damaged items to put into the table at the start, each by the number of its kind of damage."""
    swept: bool = False
    """Whether TTL deletes half of the expired items at the start."""
    operations: tuple[Work, ...] = ()
    actions: tuple[Action, ...] = ()
    """The actions of operators and other services during the phase."""
    crowded: bool = False
    """Whether half of the attempts find their counter held by other transactions, or throttled, for a while."""
    settled: bool = True
    """Whether the stream's consumers catch up before the clock jumps. If not, they stop during the phase."""


@dataclass(frozen=True)
class Workload:
    """Phases of work by `clients` threads. Without `faults` the seed chooses the faults."""

    seed: int
    clients: int
    phases: tuple[Phase, ...]
    faults: Mapping[str, str] | None = None
    """The faults by the label of their call."""
    unpublishable_one_in: int = 150
    """The bus never accepts one event in this many; 0: it accepts all."""
    restless: bool = True
    """Whether the stream repeats, splits and delays deliveries. If not, it delivers all records once, at the end."""

    @property
    def operations(self) -> list[Work]:
        return [operation for phase in self.phases for operation in phase.operations]

    @property
    def actions(self) -> list[Action]:
        return [action for phase in self.phases for action in phase.actions]

    @property
    def items(self) -> list[tuple[int, int]]:
        """Every record of every batch, as (operation id, index in the batch)."""
        batches = [one for one in self.operations if isinstance(one, Batch)]
        return [(batch.id, place) for batch in batches for place in range(len(batch.items))]

    def keeping(self, operations: set[int], actions: set[int]) -> "Workload":
        """Return the workload with only these operations and actions, by their ids."""
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
        """Return the workload with only these records of batches, and without batches that are empty then."""

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
    """The content that the organization sends under this key. It is unique to both, so that every mix-up shows."""
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
    # Some callers send only the required members.
    if random.random() < 0.3:
        del sent["sourceType"]
        for name, changed_by in (("sourceId", 3), ("metadata", 4)):
            if variant != changed_by:
                del sent[name]
    return sent


def flawed(sent: dict[str, Any], flaw: str) -> Any:
    """Return the record of a batch, including its key, with this flaw."""
    match flaw:
        case "no quantity":
            return {name: value for name, value in sent.items() if name != "quantity"}
        case "a zero quantity":
            return {**sent, "quantity": 0}
        case "an invalid feature":
            return {**sent, "feature": f"{sent['feature']}#1"}
        case "an unknown member":
            return {**sent, "price": 1}
        case "no key":
            return {name: value for name, value in sent.items() if name != "idempotencyKey"}
        case _:
            return [sent["feature"], sent["quantity"]]


def _unit(organization: str) -> int:
    # Each organization has its own magnitude, so that a sum with another organization's usage is far out of range.
    place = (*ORGANIZATIONS, UNKNOWN_ORGANIZATION, NEWCOMER).index(organization)
    return pow(1000, place, 999_999_937)


@cache
def secret_of(organization: str) -> str:
    """A value that only this organization sends and that no other organization may see."""
    return f"secret-{hashlib.sha256(organization.encode()).hexdigest()[:16]}"


def generate(seed: int, operations: int, clients: int = 6) -> Workload:
    """Generate a workload with this many operations, and with one action of others for about ten operations."""
    random = Random(seed)
    end_of_month = _s(2026, 10, 31, 23, 58, 20)
    share = operations // 7
    shares = [share] * 6 + [operations - 6 * share]
    keys = _Keys(random, operations)
    ids = iter(range(operations))
    rush_s = end_of_month + 1.25 * _DAY_S
    thaw_s = end_of_month + 2 * _DAY_S
    # Most phases last longer than a minute, so that cached organizations are read again.
    phases = (
        # Over the end of a month.
        Phase(end_of_month, 200, damaged=(0, 1), settled=False),
        # Retries in the next period, before the stream's consumers have processed the last one.
        Phase(end_of_month + 0.75 * _DAY_S, 200, inactive=("leaving",)),
        # All clients on a few counters, for so short a time that environments still cache totals and shard states.
        Phase(rush_s, 4, inactive=("leaving",), crowded=True),
        # After hours without usage, in which others changed plans and limits, so that all caches are outdated.
        Phase(thaw_s, 200, inactive=("leaving", "bolt")),
        # Over the seconds in which the first phase's records expire.
        Phase(end_of_month + RETENTION_S - 2, 204, inactive=("leaving",), damaged=(2, 4)),
        # Over the end of a year. Many items have expired, and TTL has deleted some of them.
        Phase(_s(2027, 12, 31, 23, 58, 20), 200, swept=True),
        # All earlier items have expired.
        Phase(_s(2027, 12, 31, 23, 58, 20) + RETENTION_S + 240, 200, damaged=(3, 5), swept=True),
    )
    # The actions have their own random source, so that they do not change the operations of the clients.
    others = Others(Random(f"{seed} others"))
    before = Phase(end_of_month - 3600, 20)
    filled = [replace(before, actions=tuple(others.first_actions(before)))]
    for phase, count in zip(phases, shares, strict=True):
        if phase.starts_at_s == rush_s:
            # The counter has no limit, because a hard limit would keep it in one item.
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
        # The checker expects a notice of the last period only if the rules have not changed since. So change few here.
        rest = 10 if filled[-1].settled else 40
        actions = tuple(others.actions(phase, [one.id for one in work], rest))
        filled.append(replace(phase, operations=work, actions=actions))
    return Workload(seed, clients, tuple(filled))


class _Keys:
    """Chooses keys that are used repeatedly, some of them by several organizations."""

    def __init__(self, random: Random, operations: int) -> None:
        self._random = random
        # Few keys, so that organizations share them and use them again after they expired.
        beginnings = ("k", "a#k", "k#record", "2026-11#k")
        self._fresh = [f"{random.choice(beginnings)}-{number}" for number in range(operations // 6 + 1)]
        self._used: list[tuple[str, str]] = []
        self._hot: tuple[str, str] | None = None

    def rush(self, counter: tuple[str, str] | None) -> None:
        """From now on, mostly choose keys whose content is usage of this counter; None: choose any keys.

        `counter` is an organization and a feature.
        """
        self._hot = counter

    def batch(self) -> tuple[str, list[str]]:
        """An organization and the keys of one of its batches: new keys, used keys, and some keys twice."""
        size = min(30, 1 + int(self._random.expovariate(1 / 6))) if self._random.random() < 0.97 else 100
        organization, key = self.next()
        found = [key]
        while len(found) < size:
            kind = self._random.random()
            if kind < 0.1:
                found.append(self._random.choice(found))
            elif kind < 0.4 and (used := [each for owner, each in self._used[-200:] if owner == organization]):
                # Mostly a key of a batch that is being sent.
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
            # Mostly a key that is being used.
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
    """Generates the actions of operators and other services."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._number = 0
        self._sent: list[EventSent] = []

    def first_actions(self, phase: Phase) -> Iterator[Action]:
        """Apply every plan, subscribe every organization, and send a malformed event, all at the same time."""
        for number, plan in enumerate(PLANS):
            yield self._plan(number, plan)
        for number, organization in enumerate(ORGANIZATIONS):
            yield self._subscription(number, organization, phase, 0.0)
        yield self._malformed(0, ORGANIZATIONS[0], phase, 0.0)

    def actions(self, phase: Phase, operations: Sequence[int], every: int) -> Iterator[Action]:
        """Generate actions for a phase, one for `every` operations, each after one of `operations`."""
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
        """Apply every plan again, and change the plan and limits of half of the organizations."""
        for number, plan in enumerate(PLANS):
            yield self._plan(after + number, plan)
        for number, organization in enumerate(ORGANIZATIONS):
            if self._random.random() < 0.5:
                yield self._limits(after + number, organization)
                yield self._subscription(after + number, organization, phase, 0.5)

    def unlimited(self, after: int, organization: str, feature: str) -> LimitsPut:
        """Remove the organization's limit for this feature, with any plan."""
        return LimitsPut(self._next(), after, organization, {feature: "unlimited"})

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _plan(self, after: int, plan: str) -> PlanApplied:
        features = [each for each in FEATURES if self._random.random() < 0.7]
        return PlanApplied(self._next(), after, plan, {feature: self._feature() for feature in features})

    def _feature(self) -> dict[str, Any]:
        return {
            # The limit fits one organization. It is tiny for some of the others and huge for the rest.
            "limit": self._limit(self._random.choice(ORGANIZATIONS)),
            "enforcement": self._random.choice(["soft", "hard"]),
            "warnAt": sorted(self._random.sample([1, 33, 50, 80, 99], self._random.randrange(3))),
        }

    def _limit(self, organization: str) -> int | str:
        if self._random.random() < 0.15:
            return "unlimited" if self._random.random() < 0.5 else 0
        # A few times the organization's usual quantity.
        return self._random.randrange(300, 3000) * min(_unit(organization), 1_000_000)

    def _limits(self, after: int, organization: str) -> LimitsPut:
        features = self._random.sample(FEATURES, self._random.randrange(1, 3))
        own = {feature: "plan" if self._random.random() < 0.4 else self._limit(organization) for feature in features}
        return LimitsPut(self._next(), after, organization, own)

    def _subscription(self, after: int, organization: str, phase: Phase, progress: float) -> EventSent:
        payload: dict[str, Any] = {
            "organizationId": organization,
            "previousPlan": self._random.choice(PLANS),
            # The plan `legacy` does not exist.
            "newPlan": self._random.choice([*PLANS, *PLANS, "legacy"]),
            "previousStatus": self._random.choice(STATUSES),
            "newStatus": self._random.choice(STATUSES),
            "changedAt": self._moment(phase, progress),
        }
        optional = {
            "subscriptionId": f"sub-{self._random.randrange(3)}",
            "planName": f"Plan {self._random.randrange(3)}",
            # The start is always before the end.
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
        # The order of the ids is not the order of time.
        event_id = hashlib.sha256(f"{number} {self._random.random()}".encode()).hexdigest()[:16]
        detail = {"id": event_id, "occurredAt": "2026-10-01T00:00:00.000Z", "key": key, "version": "1.0.0"}
        return EventSent(number, after, {"detail-type": key, "detail": {**detail, "payload": payload}})

    def _moment(self, phase: Phase, progress: float, ago_s: float = 0.0) -> str:
        # Whole seconds, up to 20 s off: other services' clocks are inexact, and events overtake each other.
        at_s = phase.starts_at_s + phase.lasts_s * progress - ago_s + self._random.randrange(-20, 20)
        return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def turns(phase: Phase, clients: int) -> Iterator[tuple[Work | Action, ...]]:
    """The operations and actions of each client, in order."""
    for client in range(clients):
        operations = [(one.id, 0, one) for one in phase.operations if one.id % clients == client]
        actions = [(action.after, action.id, action) for action in phase.actions if action.after % clients == client]
        yield tuple(each for _, _, each in sorted([*operations, *actions], key=lambda turn: turn[:2]))


def _s(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]
