"""The state that all processes of one run share: time, the table, the fault rates, the faults and the trace."""

from collections import Counter
from collections.abc import Callable, Collection
from random import Random
from typing import Any

from tests.faults.bus import Bus, FailureBucket, Queue
from tests.simulation.fault_rates import FaultRates
from tests.simulation.scheduler import Scheduler
from tests.simulation.store import Store

TABLE = "usage"


class World:
    """The shared state of one run. It depends on no real time, no hash order and no other run."""

    def __init__(
        self,
        seed: int,
        starts_at_s: float,
        rates: FaultRates,
        *,
        allowed: Collection[str] | None = None,
        is_traced: bool = False,
    ) -> None:
        self.seed = seed
        self.scheduler = Scheduler(starts_at_s)
        self.rates = rates
        self.store = Store(self.scheduler, rates, Random(f"{seed} store"))
        self.bus = Bus(seed, rates.rejects_one_in, new_id=self.next_id)
        self.failures = FailureBucket()
        self.queue = Queue()
        self.is_calm = True
        """Whether no call fails now: before the run, and after its last work."""
        self.injected: dict[str, str] = {}
        """The faults, by the label of the call."""
        self.tally: Counter[str] = Counter()
        """Calls by operation, and faults by kind."""
        self.errors: list[str] = []
        """The unforeseen errors that functions logged."""
        self.trace: list[str] | None = [] if is_traced else None
        self._allowed = allowed
        self._environments = 0
        self._ids = 0

    @property
    def now_s(self) -> float:
        return self.scheduler.now_s

    def fate(self, label: str, chance: float) -> str | None:
        """The fault of the call with this label, which `chance` from 0 to 1 chooses; None: it does not fail."""
        if self.is_calm:
            return None
        fate = self.rates.fate(chance)
        return fate if fate is not None and self.goes_wrong(label, fate) else None

    def goes_wrong(self, label: str, kind: str) -> bool:
        """Note a fault of this kind at the call with this label, if the run allows one there.

        Returns: whether the fault happens.
        """
        if self.is_calm or (self._allowed is not None and label not in self._allowed):
            return False
        self.injected[label] = kind
        self.tally[f"fault: {kind}"] += 1
        if self.trace is not None:
            self.say(f"{label}: {kind}")
        return True

    def next_environment(self) -> int:
        self._environments += 1
        return self._environments

    def next_id(self) -> str:
        """An id of a fact or a delivery, as a UUID's text."""
        self._ids += 1
        return f"00000000-0000-4000-8000-{self._ids:012x}"

    def say(self, text: str | Callable[[], Any]) -> None:
        """Add a line to the trace. Call a text function only if the run has a trace."""
        if self.trace is not None:
            self.trace.append(f"{self.scheduler.now_s:.4f} {text() if callable(text) else text}")
