"""The expected outcome of an attempt: that of its records sent one by one, without faults and without other requests.

The simulation asks for it before each attempt of a sequential scenario, and compares it with the answer.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tests.faults.evidence import Attempt, BatchAttempt
from tests.faults.settings import Rule
from tests.faults.stored import Counted, fact_in, of_kind, period_of, rules_in, shards_in
from tests.simulation.scenario import Recording, Scenario, Use
from tests.simulation.world import World


class _Stored(NamedTuple):
    feature: str
    quantity: int
    metadata: str | None


class Oracle:
    """Predicts the answers of attempts, and lists the attempts with other answers."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self._world = world
        self._rejects = scenario.reject_unknown_features
        self._expected: dict[str, list[str]] = {}
        # By trace id: the features without a hard limit at the attempt's start. The counters that it wrote are soft.
        self._unlimited: dict[str, set[str]] = {}
        self.wrong: list[str] = []

    def expect(self, work: Recording, uses: Sequence[Use], trace_id: str) -> None:
        """Predict the outcome of each record of an attempt that starts now."""
        items = list(self._world.store.items.values())
        now_s = int(self._world.now_s)
        stored: dict[str, _Stored] = {}
        softened: set[Counted] = set()
        for item in of_kind("usage", items):
            fact = fact_in(item)
            if fact is None:
                continue
            if fact.feature in self._unlimited.get(fact.trace_id, ()):
                softened.add(fact.counter)
            if fact.organization == work.organization and fact.expires_at_s > now_s:
                stored[fact.key] = _Stored(fact.feature, fact.quantity, fact.metadata)
        state = _State(items, work.organization, self._world.now_s, softened)
        self._unlimited[trace_id] = {use.feature for use in uses if state.hard_limit(use.feature) is None}
        expected = []
        for use in uses:
            metadata = None if use.mark is None else json.dumps({"mark": use.mark}, separators=(",", ":"))
            content = _Stored(use.feature, use.quantity, metadata)
            if use.flaw is not None:
                expected.append("invalid")
            elif use.key in stored:
                expected.append("replayed" if stored[use.key] == content else "conflict")
            elif not state.is_active or (self._rejects and use.feature not in state.known):
                expected.append("invalid")
            elif state.record(use.feature, use.quantity):
                stored[use.key] = content
                expected.append("recorded")
            else:
                expected.append("refused")
        self._expected[trace_id] = expected

    def compare(self, attempts: Iterable[Attempt], batches: Iterable[BatchAttempt]) -> None:
        """Compare the answers with the predictions. An answer that is not final proves nothing."""
        for attempt in attempts:
            if attempt.status not in (None, 503):
                self._compare_one(attempt.name, attempt.trace_id, [_status(attempt)])
        for batch in batches:
            if batch.status in (403, 404):
                self._compare_one(batch.name, batch.trace_id, ["invalid"] * len(batch.records))
            elif batch.status == 200 and batch.body["totals"]["unavailable"] == 0:
                self._compare_one(batch.name, batch.trace_id, [result["status"] for result in batch.results])

    def _compare_one(self, name: str, trace_id: str, answered: list[str]) -> None:
        expected = self._expected.get(trace_id)
        if expected is not None:
            self._world.tally["compared with the oracle"] += 1
            if answered != expected:
                self.wrong.append(f"{name} was answered {answered}; its records sent one by one would be {expected}")


class _State:
    """The stored state that decides about new usage of an organization."""

    def __init__(
        self, items: Sequence[dict[str, Any]], organization: str, now_s: float, softened: set[Counted]
    ) -> None:
        period = period_of(now_s)
        of_organization = [
            item for item in of_kind("organization", items) if item["pk"]["S"] == f"organization#{organization}"
        ]
        stored: dict[str, Any] = of_organization[0] if of_organization else {}
        self.is_active = stored.get("status", {}).get("S") == "active"
        plan = stored.get("planId", {}).get("S")
        rules: dict[str, Rule] = {}
        self.known: set[str] = set()
        for item in of_kind("plan", items):
            found = rules_in(item)
            self.known |= found.keys()
            if item["pk"]["S"] == f"plan#{plan}":
                rules = found
        for feature, limit in stored.get("limits", {"M": {}})["M"].items():
            own = rules.get(feature, Rule(None))
            rules[feature] = Rule(int(limit["N"]) if "N" in limit else None, own.hard)
            self.known.add(feature)
        self._rules = rules
        self._totals: Counter[str] = Counter()
        self._is_soft = {feature for owner, feature, when in softened if (owner, when) == (organization, period)}
        for shard in shards_in(items):
            owner, feature, when = shard.counter
            if (owner, when) == (organization, period):
                self._totals[feature] += shard.total

    def hard_limit(self, feature: str) -> int | None:
        """The feature's hard limit by the organization and its plan; None: it has none."""
        return self._rules.get(feature, Rule(None)).hard_limit

    def record(self, feature: str, quantity: int) -> bool:
        """Count a new usage if it may be recorded.

        Returns: whether it is recorded.
        """
        limit = self.hard_limit(feature)
        if limit is None:
            # Until the period ends, no hard limit holds for this counter.
            self._is_soft.add(feature)
        elif feature not in self._is_soft and self._totals[feature] + quantity > limit:
            return False
        self._totals[feature] += quantity
        return True


def _status(attempt: Attempt) -> str:
    if attempt.status == 200:
        return "refused" if not attempt.recorded else "replayed" if attempt.replayed else "recorded"
    if attempt.status == 422 and attempt.body.get("code") == "IDEMPOTENCY_KEY_REUSED":
        return "conflict"
    return "invalid"
