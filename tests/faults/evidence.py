"""The evidence of a run: everything that the checker may read.

It holds the table, the delivered events, the failure bucket, the queue, and the logs of clients and others. It also
holds the events that the driver's bus never accepts. It holds the driver's unfinished work and its clock skew.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.faults.workload import RETENTION_S, Action


@dataclass(frozen=True)
class Attempt:
    """A client's log of one request, or of one record of a batch as if the client sent it alone."""

    operation: int
    number: int
    phase: int
    organization: str
    key: str
    content: dict[str, Any]
    """The sent body, without the key."""
    trace_id: str
    began: int
    """On a monotonic clock that all clients share and that never stops."""
    ended: int
    began_at_s: float
    """The shared time, in seconds since 1970."""
    ended_at_s: float
    status: int | None
    """None: no answer arrived."""
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    environment: int = 0
    """The number of the execution environment that got the request."""
    index: int | None = None
    """Its index in the batch; None: a single request."""

    @property
    def recorded(self) -> bool:
        """Whether the answer is `recorded`, for a new record or a replay."""
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
    """One record of a batch, as the client sent it."""

    key: str
    content: dict[str, Any]
    """The record without the key."""
    flawed: bool = False
    """Whether the record breaks the contract."""


# The answer to the same single request for each status in a batch, as (HTTP status, is a replay).
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
    """None: no answer arrived."""
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    environment: int = 0

    @property
    def name(self) -> str:
        return f"attempt {self.operation}.{self.number}"

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        """The results for the records; empty if the body breaks the contract."""
        results = self.body.get("results") if self.status == 200 else None
        is_right = isinstance(results, list) and all(isinstance(result, dict) for result in results)
        return results if results and is_right else []

    def result(self, index: int) -> dict[str, Any]:
        """The result for the record with this index; empty if the answer has none."""
        result = self.results[index] if index < len(self.results) else {}
        return result if result.get("status") in STATUSES else {}

    @cached_property
    def attempts(self) -> list[Attempt]:
        """Each valid record with its result, as if the client sent it alone."""
        return [self._alone(index, sent) for index, sent in enumerate(self.records) if not sent.flawed]

    def _alone(self, index: int, sent: Sent) -> Attempt:
        status, headers, body = self.status, self.headers, self.body
        if status == 200:
            result = self.result(index)
            result_status = result.get("status")
            if result_status in _ALONE:
                status, replayed = _ALONE[result_status]
                headers = {"Idempotent-Replayed": "true"} if replayed else {}
                output = {name: value for name, value in result.items() if name not in ("index", "status")}
                body = {"recorded": result_status != "refused", **output}
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
    """The operation's key: `usage.summary`, `feature.check`, `usage.get`, or `usage.list` for all pages of a list."""
    organization: str
    began: int
    """On the same clock as `Attempt.began`."""
    ended: int
    began_at_s: float
    """The shared time, in seconds since 1970."""
    ended_at_s: float
    parameters: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    """None: no answer arrived."""
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    environment: int = 0

    @property
    def name(self) -> str:
        return f"query {self.number} ({self.query})"


@dataclass(frozen=True)
class Change:
    """A change of a counter's item from the stream. Changes are listed in the order of their writes."""

    pk: str
    sk: str
    before: dict[str, Any] | None
    """The item before the change; None: the change created it."""
    after: dict[str, Any] | None
    """The item after the change; None: the change deleted it."""


@dataclass(frozen=True)
class Done:
    """An action of an operator or another service. It lasts from the first try's start to the last try's end."""

    action: Action
    began: int
    """On the same clock as `Attempt.began`."""
    ended: int
    began_at_s: float
    """The shared time, in seconds since 1970."""
    ended_at_s: float


@dataclass(frozen=True)
class Snapshot:
    """The table at the end of a phase, while no client and no action is running."""

    at_s: float
    items: list[dict[str, Any]]
    settled: bool
    """Whether the stream's consumers had caught up."""


@dataclass(frozen=True)
class Evidence:
    """All evidence of one run."""

    snapshots: list[Snapshot]
    """The last snapshot was taken after all deliveries."""
    events: list[dict[str, Any]]
    kept: dict[str, bytes]
    """The failure bucket's objects, by key."""
    unpublishable: set[str]
    """Ids of events that the bus never accepts."""
    abandoned: list[str]
    """Stream records and actions that never succeeded, although they were delivered or tried many times."""
    hung: list[str]
    """Invocations that did not end."""
    attempts: list[Attempt]
    done: list[Done]
    """All actions, including those for the initial state. The checker knows organizations and plans only from here."""
    queued: list[str]
    """The messages in the queue of rejected events."""
    batches: list[BatchAttempt] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    """All changes of counters' items, from the stream."""
    images: list[dict[str, Any]] = field(default_factory=list)
    """Usage records and notices as they were written, from the stream. Items of the snapshots may be missing here."""
    asked: list[Asked] = field(default_factory=list)
    skew_s: float = 0.0
    """The maximum difference of an execution environment's wall clock from the shared time."""
    lateness_s: float = 0.0
    """The maximum time that may pass for an invocation while the shared time does not move."""
    index_lag_s: float = 0.0
    """The maximum lag of the index that finds a plan's organizations."""
    retention_s: float = RETENTION_S
    """The retention of records and notices."""
    rejects_unknown_features: bool = False
    """Whether usage of a feature is invalid if neither the organization nor any plan has the feature."""

    @property
    def sent(self) -> list[Attempt]:
        """All valid records that clients sent, alone and in batches."""
        return [*self.attempts, *(attempt for batch in self.batches for attempt in batch.attempts)]
