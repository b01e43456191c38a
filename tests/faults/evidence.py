"""What a run leaves behind: all that the checker may look at.

Tables, delivered events, the failure store, the queue and the clients' and others' logs; beside them only what the
driver itself has done or waited for in vain: which organizations it made inactive, which events its bus refused, what
it gave up.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.faults.history import Deed


@dataclass(frozen=True)
class Attempt:
    """A client's log of one request."""

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

    @property
    def recorded(self) -> bool:
        """Whether it was answered as recorded, by itself or before."""
        return self.status == 200 and self.body.get("recorded") is True

    @property
    def replayed(self) -> bool:
        return self.headers.get("Idempotent-Replayed") == "true"

    @property
    def name(self) -> str:
        return f"attempt {self.operation}.{self.number}"


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
    inactive: list[tuple[str, ...]]
    """The organizations that were inactive, by phase."""
    unknown: tuple[str, ...]
    """Organizations that are not in the table."""
    done: list[Done]
    """What others did."""
    queued: list[str]
    """The messages in the queue of rejected events."""
