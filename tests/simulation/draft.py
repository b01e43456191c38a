"""A scenario under construction: its organizations, features, keys and limits, and the work drawn so far."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any, Literal

from metering.storage.usage_records import bucket_of

from tests.faults.stored import period_of
from tests.faults.workload import FEATURES, FLAWS, ORGANIZATIONS, Action, EventSent, LimitsPut, PlanApplied, StatusPut
from tests.simulation.fault_rates import FaultRates
from tests.simulation.scenario import Asking, Doing, Recording, Scenario, Sweeping, Use, Work

_KINDS = ("none", "soft", "hard", "hard", "hard", "absent")
_LIMITS = (3, 5, 8, 12, 20, 30)
_QUANTITIES = (1, 1, 2, 3, 5, 9)
_STATUSES = ("TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "PAUSED")
# A list takes as many calls as a hundred other queries.
_QUERIES = (*("usage.summary", "feature.check", "usage.get") * 5, "usage.list")
# Four buckets hold all of these records, so that a list finds several in one.
_KEYS = [key for key in (f"k{number}" for number in range(3000)) if bucket_of(key) % 64 == 0][:25]


class Draft:
    """Draws work with few organizations, features and keys, so that requests often conflict."""

    def __init__(
        self, random: Random, starts_at_s: float, rates: FaultRates, *, organizations: int, features: int
    ) -> None:
        self.random = random
        self.starts_at_s = starts_at_s
        self.rates = rates
        self.organizations = random.sample(ORGANIZATIONS, organizations)
        self.features = random.sample(FEATURES, features)
        self.plans = ["pro"] if random.random() < 0.7 else ["pro", "free"]
        self.keys = list(_KEYS[: random.choice([3, 6, 12, 25])])
        self.kinds: Sequence[str] = _KINDS
        self.limits: Sequence[int] = _LIMITS
        self.quantities: Sequence[int] = _QUANTITIES
        self.changes = 0.12
        """The chance that a key is sent with other content than before."""
        self.flaws = 0.0
        self.works: list[Work] = []
        self._features_of: dict[str, dict[str, Any]] = {}
        self._contents: dict[tuple[str, str], Use] = {}
        self._former: list[tuple[str, Use]] = []
        self._last_id = 0
        self.first: list[Action] = [self.plan(plan) for plan in self.plans]
        self.first += [self.subscription(organization, -3600.0) for organization in self.organizations]

    def scenario(self, seed: int, shape: str, **settings: Any) -> Scenario:
        works = tuple(replace(work, id=number) for number, work in enumerate(self.works))
        return Scenario(seed, shape, self.starts_at_s, self.rates, tuple(self.first), works, **settings)

    # Actions of operators and other services

    def plan(self, plan: str, *, only: str | None = None, terms: dict[str, Any] | None = None) -> PlanApplied:
        """Apply the plan with new terms for all features, or for `only` one. Without `terms`, they are random."""
        members = dict(self._features_of.get(plan, {}))
        for feature in self.features if only is None else [only]:
            drawn = self.terms() if terms is None else terms
            members.pop(feature, None)
            if drawn:
                members[feature] = drawn
        self._features_of[plan] = members
        return PlanApplied(self._next(), 0, plan, members)

    def terms(self) -> dict[str, Any]:
        """Random terms of a feature in a plan; empty if the plan lacks the feature."""
        kind = self.random.choice(self.kinds)
        if kind == "absent":
            return {}
        return terms(kind, self.random.choice(self.limits), self.random.choice([(), (80,), (50, 99)]))

    def subscription(self, organization: str, at_s: float, plan: str | None = None) -> EventSent:
        """An event: from `at_s` on, the organization has this plan, or a random one."""
        payload = {
            "organizationId": organization,
            "previousPlan": self.random.choice(self.plans),
            "newPlan": plan or self.random.choice(self.plans),
            "previousStatus": "ACTIVE",
            "newStatus": self.random.choice(_STATUSES),
            "changedAt": self._moment(at_s),
        }
        return self._event("billing.subscription.changed", payload)

    def created(self, organization: str, at_s: float) -> EventSent:
        """An event: the organization was created at `at_s`."""
        return self._event("org.created", {"organizationId": organization, "createdAt": self._moment(at_s)})

    def malformed(self, organization: str, at_s: float) -> EventSent:
        """An event that breaks the contract."""
        sent = self.subscription(organization, at_s)
        payload = sent.event["detail"]["payload"]
        changes: dict[str, str] = self.random.choice(
            [
                {"newStatus": "ASLEEP"},
                {"changedAt": "9999-01-01T00:00:00Z"},
                {"organizationId": f"{organization}#usage"},
            ]
        )
        payload |= changes
        return replace(sent, malformed=True)

    def again(self, sent: EventSent) -> EventSent:
        """The same event, delivered once more."""
        return replace(sent, id=self._next())

    def status(self, organization: str, status: Literal["active", "inactive"]) -> StatusPut:
        return StatusPut(self._next(), 0, organization, status)

    def own_limit(self, organization: str, feature: str, limit: int | str) -> LimitsPut:
        """Give the organization its own limit of one feature."""
        return LimitsPut(self._next(), 0, organization, {feature: limit})

    def own_limits(self, organization: str) -> LimitsPut:
        """Give the organization its own limits of some features, or return them to the plan's."""
        chosen = self.random.sample(self.features, self.random.randint(1, min(2, len(self.features))))
        possible: list[int | str] = ["plan", "plan", "unlimited", *self.limits]
        drawn = {feature: self.random.choice(possible) for feature in chosen}
        return LimitsPut(self._next(), 0, organization, drawn)

    def action(self, at_s: float) -> Action:
        """A random action that changes a plan, an organization or a subscription."""
        chance, organization = self.random.random(), self.random.choice(self.organizations)
        if chance < 0.6:
            return self.plan(self.random.choice(self.plans), only=self.random.choice(self.features))
        if chance < 0.75:
            return self.status(organization, self.random.choice(["active", "active", "inactive"]))
        if chance < 0.85:
            return self.own_limits(organization)
        if chance < 0.88:
            return self.malformed(organization, at_s)
        if chance < 0.91:
            return self.created(organization, at_s)
        sent = [work.action for work in self.works if isinstance(work, Doing) and isinstance(work.action, EventSent)]
        if sent and self.random.random() < 0.4:
            return self.again(self.random.choice(sent))
        return self.subscription(organization, at_s + self.random.randrange(-20, 20))

    # Requests of clients

    def use(self, organization: str, features: Sequence[str] | None = None) -> Use:
        """A record under a random key, mostly with the content that the key was sent with before."""
        key = self.random.choice(self.keys)
        before = self._contents.get((organization, key))
        if before is not None and self.random.random() >= self.changes:
            return before
        if before is not None:
            self._former.append((organization, before))
        feature, quantity = self.random.choice(features or self.features), self.random.choice(self.quantities)
        made = Use(key, feature, quantity, self.random.choice([None, None, "x"]))
        self._contents[organization, key] = made
        return made

    def forget_contents(self) -> None:
        """Give every key new content from now on."""
        self._contents.clear()

    def former(self) -> tuple[str, Use] | None:
        """A random record that was drawn before, with its organization; None if there is none."""
        known = [*((organization, use) for (organization, _), use in self._contents.items()), *self._former]
        return self.random.choice(known) if known else None

    def single(
        self, at_s: float, organization: str | None = None, features: Sequence[str] | None = None, **how: Any
    ) -> None:
        organization = organization or self.random.choice(self.organizations)
        self.send(at_s, organization, [self.use(organization, features)], is_batch=False, **how)

    def batch(
        self, at_s: float, size: int, organization: str | None = None, features: Sequence[str] | None = None, **how: Any
    ) -> None:
        organization = organization or self.random.choice(self.organizations)
        self.send(at_s, organization, [self.use(organization, features) for _ in range(size)], **how)

    def send(self, at_s: float, organization: str, uses: Iterable[Use], **how: Any) -> None:
        uses = tuple(
            replace(use, flaw=self.random.choice(FLAWS))
            if how.get("is_batch", True) and self.flaws > self.random.random()
            else use
            for use in uses
        )
        settings = {"impatient": self.random.random() < 0.1, "trims": self.random.random() < 0.3} | how
        self.works.append(Recording(0, at_s, organization, uses, **settings))

    def do(self, at_s: float, action: Action) -> None:
        self.works.append(Doing(0, at_s, action))

    def sweep(self, at_s: float) -> None:
        self.works.append(Sweeping(0, at_s))

    def ask(self, at_s: float, query: str | None = None) -> None:
        organization, query = self.random.choice(self.organizations), query or self.random.choice(_QUERIES)
        parameters: dict[str, str] = {}
        if query == "usage.summary" and self.random.random() < 0.5:
            parameters["by"] = "day"
        elif query == "feature.check":
            parameters["feature"] = self.random.choice(self.features)
            if self.random.random() < 0.5:
                parameters["quantity"] = str(self.random.choice(self.quantities))
        elif query == "usage.get":
            parameters["idempotencyKey"] = self.random.choice(self.keys)
        elif query == "usage.list":
            parameters["pageSize"] = str(self.random.choice([1, 2, 5, 1000]))
            if self.random.random() < 0.3:
                parameters["feature"] = self.random.choice(self.features)
            if self.random.random() < 0.3:
                # By no environment's clock is this period in the future.
                parameters["billingPeriod"] = period_of(self.starts_at_s - self.rates.skew_s)
        self.works.append(Asking(0, at_s, organization, query, parameters))

    def _event(self, key: str, payload: dict[str, Any]) -> EventSent:
        number = self._next()
        detail = {"id": f"event-{number}", "occurredAt": "2026-10-01T00:00:00.000Z", "key": key, "version": "1.0.0"}
        return EventSent(number, 0, {"detail-type": key, "detail": {**detail, "payload": payload}})

    def _moment(self, at_s: float) -> str:
        return datetime.fromtimestamp(int(self.starts_at_s + at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _next(self) -> int:
        self._last_id += 1
        return self._last_id


def terms(kind: str, limit: int, warn_at: Sequence[int] = (80,)) -> dict[str, Any]:
    """A feature's terms in a plan; `kind` is "none" (no limit), "soft" or "hard"."""
    return {
        "limit": "unlimited" if kind == "none" else limit,
        "enforcement": "hard" if kind == "hard" else "soft",
        "warnAt": list(warn_at),
    }
