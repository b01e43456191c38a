"""A history: what clients set out to do, when, and what goes wrong. A seed makes one, a file keeps one."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from pydantic import TypeAdapter

# The contents that one organization sends under one key: they differ in one member.
VARIANTS = 5
# An attempt that is not answered is made again, this often at most: faults stop long before.
UNTIL_ANSWERED = 40

# Names that are each other's beginnings, or look like it, so that a key cut in the wrong place is noticed.
ORGANIZATIONS = ("acme", "ACME", "acme-", "acme-eu", "acme_eu", "bolt", "leaving", "0day", "z" * 64)
UNKNOWN_ORGANIZATION = "nobody"
# Whose clients give up, or change their mind. All others' sums must be what their clients were told.
FICKLE = ("acme_eu", "leaving")
# None differ in case only: dynoxide's begins_with takes such for the same, which DynamoDB's does not.
FEATURES = ("api_calls", "api_calls.v2", "api", "storage_gb", "f" * 64)

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
    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True)
class History:
    """Phases of work by `clients` threads. Without `faults` the seed decides what goes wrong."""

    seed: int
    clients: int
    phases: tuple[Phase, ...]
    faults: Mapping[str, str] | None = None
    """What goes wrong, by the label of the call."""
    spoilt_in: int = 150
    """One event in so many is never taken by the bus; 0: none."""
    restless: bool = True
    """Whether the stream repeats, splits and delays what it delivers; if not, it delivers all at once at the end."""

    @property
    def operations(self) -> list[Operation]:
        return [operation for phase in self.phases for operation in phase.operations]

    def keeping(self, ids: set[int]) -> "History":
        """The same with these operations only."""
        phases = (
            replace(phase, operations=tuple(one for one in phase.operations if one.id in ids)) for phase in self.phases
        )
        return replace(self, phases=tuple(phases))


_ADAPTER = TypeAdapter(History)


def save(history: History, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_ADAPTER.dump_json(history, indent=1))


def load(file: Path) -> History:
    return _ADAPTER.validate_json(file.read_bytes())


def content(organization: str, key: str, variant: int) -> dict[str, Any]:
    """What the organization sends under this key: its own, so that any mix-up shows."""
    random = Random(f"{organization} {key}")
    feature = random.choice(FEATURES)
    # Organizations have their own magnitudes: a sum that holds another's usage is out of all bounds.
    magnitude = (*ORGANIZATIONS, UNKNOWN_ORGANIZATION).index(organization)
    quantity = random.randrange(1, 1000) * 1000**magnitude % 999_999_937
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


def secret_of(organization: str) -> str:
    """What only this organization ever sends, and nobody else may see."""
    return f"secret-{hashlib.sha256(organization.encode()).hexdigest()[:16]}"


def generate(seed: int, operations: int, clients: int = 6) -> History:
    """A history of so many operations."""
    random = Random(seed)
    end_of_month = _s(2026, 10, 31, 23, 59, 50)
    share = operations // 5
    shares = [share, share, share, share, operations - 4 * share]
    keys = _Keys(random, operations)
    ids = iter(range(operations))
    phases = (
        # Over a month's end.
        Phase(end_of_month, 20, damaged=(0, 1)),
        # The retries of before: in another period.
        Phase(end_of_month + 1.5 * _DAY_S, 20, inactive=("leaving",)),
        # Over the very seconds in which the first phase's records expire.
        Phase(end_of_month + RETENTION_S - 2, 24, inactive=("leaving",), damaged=(2,)),
        # Over a year's end; much has expired, some of it is gone.
        Phase(_s(2027, 12, 31, 23, 59, 50), 20, swept=True),
        # Everything before has expired.
        Phase(_s(2027, 12, 31, 23, 59, 50) + RETENTION_S + 60, 20, damaged=(3,), swept=True),
    )
    filled = [
        replace(phase, operations=tuple(_operation(next(ids), keys, random) for _ in range(share)))
        for phase, share in zip(phases, shares, strict=True)
    ]
    return History(seed, clients, tuple(filled))


class _Keys:
    """Keys that are used again and again, the same ones by several organizations."""

    def __init__(self, random: Random, operations: int) -> None:
        self._random = random
        # Few enough that organizations share them, and that they come again when they are free again.
        beginnings = ("k", "a#k", "k#record", "2026-11#k")
        self._fresh = [f"{random.choice(beginnings)}-{number}" for number in range(operations // 6 + 1)]
        self._used: list[tuple[str, str]] = []

    def next(self) -> tuple[str, str]:
        if self._used and self._random.random() < 0.35:
            # Mostly one that is in use just now.
            if self._random.random() < 0.4:
                return self._random.choice(self._used)
            back = int(self._random.expovariate(1 / 40))
            return self._used[max(0, len(self._used) - 1 - back)]
        organization = UNKNOWN_ORGANIZATION if self._random.random() < 0.01 else self._random.choice(ORGANIZATIONS)
        pair = organization, self._random.choice(self._fresh)
        self._used.append(pair)
        return pair


def _operation(number: int, keys: _Keys, random: Random) -> Operation:
    organization, key = keys.next()
    return Operation(
        id=number,
        organization=organization,
        key=key,
        variant=random.randrange(1, VARIANTS) if random.random() < 0.08 else 0,
        patience=random.randrange(1, 3) if organization in FICKLE and random.random() < 0.3 else UNTIL_ANSWERED,
        changes_after=random.randrange(1, 3) if organization in FICKLE and random.random() < 0.1 else UNTIL_ANSWERED,
        impatient=random.random() < 0.05,
    )


def turns(operations: Sequence[Operation], clients: int) -> Iterator[tuple[Operation, ...]]:
    """What each client works off, in order."""
    return (tuple(one for one in operations if one.id % clients == client) for client in range(clients))


def _s(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]
