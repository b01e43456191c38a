"""What a run leaves behind: all that the checker may look at.

Tables, delivered events, the failure store, the queue and the clients' and others' logs; beside them only what the
driver itself has done or waited for in vain: which events its bus refused, what it gave up, how far its clocks were
apart.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.faults.workload import RETENTION_S, Deed


@dataclass(frozen=True)
class Attempt:
    """A client's log of one request, or of one record of a batch as if that had been sent alone."""

    operation: int
    number: int
    phase: int
    organization: str
    key: str
    content: dict[str, Any]
    """What was sent, without the key."""
    trace_id: str
    began: int
    """A moment on a clock that all clients share and that never stands still."""
    ended: int
    began_at_s: float
    """The world's time, in seconds since 1970."""
    ended_at_s: float
    status: int | None
    """None: no answer was heard."""
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    environment: int = 0
    """Which of the execution environments got it."""
    index: int | None = None
    """Its place in the batch; None: it was sent alone."""

    @property
    def recorded(self) -> bool:
        """Whether it was answered as recorded, by itself or before."""
        return self.status == 200 and self.body.get("recorded") is True

    @property
    def replayed(self) -> bool:
        return self.headers.get("Idempotent-Replayed") == "true"

    @property
    def name(self) -> str:
        place = "" if self.index is None else f"[{self.index}]"
        return f"attempt {self.operation}.{self.number}{place}"


@dataclass(frozen=True)
class Sent:
    """One record of a batch, as it was sent."""

    key: str
    content: dict[str, Any]
    """Without the key."""
    flawed: bool = False
    """Whether it breaks the contract."""


# What a single record is answered for the same: status, and whether it is a replay.
_ALONE = {"recorded": (200, False), "replayed": (200, True), "refused": (200, False)}
_PROBLEMS = ("conflict", "invalid", "unavailable")
STATUSES = (*_ALONE, *_PROBLEMS)


@dataclass(frozen=True)
class BatchAttempt:
    """A client's log of one request with a batch of records."""

    operation: int
    number: int
    phase: int
    organization: str
    records: tuple[Sent, ...]
    trace_id: str
    began: int
    ended: int
    began_at_s: float
    ended_at_s: float
    status: int | None
    """None: no answer was heard."""
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    environment: int = 0

    @property
    def name(self) -> str:
        return f"attempt {self.operation}.{self.number}"

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        """What was answered on the records; nothing if that is not what the contract says."""
        results = self.body.get("results") if self.status == 200 else None
        is_right = isinstance(results, list) and all(isinstance(result, dict) for result in results)
        return results if results and is_right else []

    def result(self, index: int) -> dict[str, Any]:
        """What was answered on the record of this index; empty if nothing was."""
        result = self.results[index] if index < len(self.results) else {}
        return result if result.get("status") in STATUSES else {}

    @cached_property
    def attempts(self) -> list[Attempt]:
        """Each record that keeps the contract, with what was answered on it, as if it had been sent alone."""
        return [self._alone(index, sent) for index, sent in enumerate(self.records) if not sent.flawed]

    def _alone(self, index: int, sent: Sent) -> Attempt:
        status, headers, body = self.status, self.headers, self.body
        if status == 200:
            result = self.result(index)
            told = result.get("status")
            if told in _ALONE:
                status, replayed = _ALONE[told]
                headers = {"Idempotent-Replayed": "true"} if replayed else {}
                output = {name: value for name, value in result.items() if name not in ("index", "status")}
                body = {"recorded": told != "refused", **output}
            else:
                body = result.get("problem", {})
                status, headers = body.get("status", 500) if result else None, {}
        return Attempt(
            operation=self.operation,
            number=self.number,
            phase=self.phase,
            organization=self.organization,
            key=sent.key,
            content=sent.content,
            trace_id=self.trace_id,
            began=self.began,
            ended=self.ended,
            began_at_s=self.began_at_s,
            ended_at_s=self.ended_at_s,
            status=status,
            headers=headers,
            body=body,
            environment=self.environment,
            index=index,
        )


@dataclass(frozen=True)
class Asked:
    """A client's log of one query."""

    number: int
    query: str
    """The operation's key, as `usage.summary`, `feature.check` or `usage.get`."""
    organization: str
    began: int
    """On the clients' clock that never stands still, as of an attempt."""
    ended: int
    began_at_s: float
    """The world's time, in seconds since 1970."""
    ended_at_s: float
    parameters: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    """None: no answer was heard."""
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    environment: int = 0

    @property
    def name(self) -> str:
        return f"query {self.number} ({self.query})"


@dataclass(frozen=True)
class Change:
    """A change of a counter's item, as the stream tells it; in the order in which they were made."""

    pk: str
    sk: str
    before: dict[str, Any] | None
    """The item as it was; None: there was none."""
    after: dict[str, Any] | None
    """The item as it is; None: it is gone."""


@dataclass(frozen=True)
class Done:
    """Something that an operator or another service did, and when: from its first try to the end of its last."""

    deed: Deed
    began: int
    """On the clients' clock that never stands still."""
    ended: int
    began_at_s: float
    """The world's time, in seconds since 1970."""
    ended_at_s: float


@dataclass(frozen=True)
class Snapshot:
    """The table at the end of a phase, when nobody was at work."""

    at_s: float
    items: list[dict[str, Any]]
    settled: bool
    """Whether the stream's readers had caught up."""


@dataclass(frozen=True)
class Evidence:
    """All of it, of one run."""

    snapshots: list[Snapshot]
    """The last one was taken after everything was delivered."""
    events: list[dict[str, Any]]
    kept: dict[str, bytes]
    """The failure store's objects, by key."""
    refused_for_ever: set[str]
    """Ids of events that the bus will never take."""
    abandoned: list[str]
    """Stream records that were delivered over and over, and deeds that were tried over and over, and never done."""
    hung: list[str]
    """Invocations that did not end."""
    attempts: list[Attempt]
    done: list[Done]
    """What others did, what was there from the beginning included: only what they say of is known to be there."""
    queued: list[str]
    """The messages in the queue of rejected events."""
    batches: list[BatchAttempt] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    """Of all counters' items, from the stream."""
    images: list[dict[str, Any]] = field(default_factory=list)
    """Usage records and notices as they were written, from the stream; those of the snapshots may be missing."""
    asked: list[Asked] = field(default_factory=list)
    skew_s: float = 0.0
    """How far execution environments' wall clocks may be from the world's time."""
    lateness_s: float = 0.0
    """How much time may pass for an invocation while the world's stands still."""
    index_lag_s: float = 0.0
    """How late the index that finds a plan's organizations may be."""
    retention_s: float = RETENTION_S
    """How long records and notices are kept."""
    rejects_unknown_features: bool = False
    """Whether usage of a feature that neither the organization nor any plan has is refused."""

    @property
    def sent(self) -> list[Attempt]:
        """All records that clients sent and that keep the contract, alone and in batches."""
        return [*self.attempts, *(attempt for batch in self.batches for attempt in batch.attempts)]
