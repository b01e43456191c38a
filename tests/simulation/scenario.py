"""What clients and others set out to do in one run, as data: a seed makes it, and parts of it can be left out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tests.faults.workload import UNTIL_ANSWERED
from tests.faults.workload import Action as Deed
from tests.simulation.fault_rates import FaultRates


@dataclass(frozen=True)
class Use:
    """One record that a client sends."""

    key: str
    feature: str
    quantity: int
    mark: str | None = None
    """In its metadata; None: it has none."""
    flaw: str | None = None
    """In which of tests.faults.workload.FLAWS it breaks the contract."""


@dataclass(frozen=True)
class Recording:
    """One request that a client sends until it is answered."""

    id: int
    at_s: float
    """When, in seconds after the run's beginning."""
    organization: str
    uses: tuple[Use, ...]
    is_batch: bool = True
    patience: int = UNTIL_ANSWERED
    """After so many attempts the client gives up."""
    trims: bool = False
    """The client sends again only what was not answered for good; if not, the whole batch."""
    impatient: bool = False
    """The client makes its second attempt while the first is under way."""
    after_expiry_s: float | None = None
    """The client waits until so long after the expiry of what is stored under its first key by then."""


@dataclass(frozen=True)
class Asking:
    """One query."""

    id: int
    at_s: float
    organization: str
    query: str
    """The operation, as `usage.summary`."""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Doing:
    """Something that an operator or another service does until it is done."""

    id: int
    at_s: float
    deed: Deed


@dataclass(frozen=True)
class Sweeping:
    """TTL deletes what has expired by then."""

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
    first: tuple[Deed, ...]
    """What was done long before."""
    works: tuple[Work, ...]
    retention_days: int = 400
    reject_unknown_features: bool = False
    is_sequential: bool = False
    """Each work begins when the one before has ended; `at_s` is then the time between. Answers have one truth."""

    @property
    def requests(self) -> int:
        return sum(isinstance(work, Recording) for work in self.works)

    def keeping(self, ids: Collection[int]) -> "Scenario":
        """The same with the works of these ids only."""
        return replace(self, works=tuple(work for work in self.works if work.id in ids))

    def keeping_uses(self, kept: Collection[tuple[int, int]]) -> "Scenario":
        """The same with these records only, by request and place; a request of which none is left is gone."""
        works: list[Work] = []
        for work in self.works:
            if not isinstance(work, Recording):
                works.append(work)
            elif uses := tuple(use for place, use in enumerate(work.uses) if (work.id, place) in kept):
                works.append(replace(work, uses=uses))
        return replace(self, works=tuple(works))
