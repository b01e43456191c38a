"""The work of one run as data. A seed makes all of it; a search for the cause of a violation leaves parts out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tests.faults.workload import UNTIL_ANSWERED, Action
from tests.simulation.fault_rates import FaultRates


@dataclass(frozen=True)
class Use:
    """One record that a client sends."""

    key: str
    feature: str
    quantity: int
    mark: str | None = None
    """The member `mark` of its metadata; None: it has no metadata."""
    flaw: str | None = None
    """How it breaks the contract, one of tests.faults.workload.FLAWS; None: it is valid."""


@dataclass(frozen=True)
class Recording:
    """One request that a client sends until it has a final answer."""

    id: int
    at_s: float
    """Seconds after the start of the run."""
    organization: str
    uses: tuple[Use, ...]
    is_batch: bool = True
    patience: int = UNTIL_ANSWERED
    """The client gives up after this many attempts."""
    trims: bool = False
    """If true, a retry sends only the records without a final answer. If false, the whole batch."""
    impatient: bool = False
    """The client starts its second attempt while the first is running."""
    after_expiry_s: float | None = None
    """The client first waits until this long after the expiry of the record stored under its first key."""


@dataclass(frozen=True)
class Asking:
    """One query."""

    id: int
    at_s: float
    organization: str
    query: str
    """The operation, such as `usage.summary`."""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Doing:
    """An action of an operator or another service, tried until it succeeds."""

    id: int
    at_s: float
    action: Action


@dataclass(frozen=True)
class Sweeping:
    """TTL deletes some of the expired records."""

    id: int
    at_s: float


Work: TypeAlias = Recording | Asking | Doing | Sweeping


@dataclass(frozen=True)
class Scenario:
    """One run."""

    seed: int
    shape: str
    starts_at_s: float
    """Seconds since 1970."""
    rates: FaultRates
    first: tuple[Action, ...]
    """The actions before the run."""
    works: tuple[Work, ...]
    retention_days: int = 400
    reject_unknown_features: bool = False
    is_sequential: bool = False
    """Each work starts `at_s` after the end of the one before, so that each request has one right answer."""

    @property
    def requests(self) -> int:
        return sum(isinstance(work, Recording) for work in self.works)

    def keeping(self, ids: Collection[int]) -> "Scenario":
        """This scenario with only the works of these ids."""
        return replace(self, works=tuple(work for work in self.works if work.id in ids))

    def keeping_uses(self, kept: Collection[tuple[int, int]]) -> "Scenario":
        """This scenario with only these records, as (request, place). A request without records is left out."""
        works: list[Work] = []
        for work in self.works:
            if not isinstance(work, Recording):
                works.append(work)
            elif uses := tuple(use for place, use in enumerate(work.uses) if (work.id, place) in kept):
                works.append(replace(work, uses=uses))
        return replace(self, works=tuple(works))
