"""The service's answers in plain Python: one request after another, without failures, with everything in memory.

Truth       the organizations and plans
Memory      the same as one execution environment caches them, at most a minute old
Recorded    the recorded usage and its totals
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from metering.model.plans import Entitlement, Plan

REMEMBERED = timedelta(seconds=60)
RETENTION = timedelta(days=400)


@dataclass(frozen=True)
class Organization:
    active: bool = True
    limits: Mapping[str, int | None] = field(default_factory=dict)
    subscription: Mapping[str, Any] = field(default_factory=dict)
    """The known fields of the subscription, by the name under which they are stored."""
    changed: Mapping[str, tuple[datetime, str]] = field(default_factory=dict)
    """The time and the author of the last change of each field, by the same names."""


@dataclass
class Truth:
    organizations: dict[str, Organization]
    plans: dict[str, Plan] = field(default_factory=dict)

    def put(self, name: str, **changes: Any) -> None:
        self.organizations[name] = replace(self.organizations.get(name, Organization()), **changes)

    def set_limits(self, name: str, limits: Mapping[str, int | None]) -> None:
        own = self.organizations.get(name, Organization()).limits
        self.put(name, limits={**own, **limits})

    def set_subscription(self, name: str, fields: Mapping[str, Any], at: datetime) -> None:
        """Set fields by hand. They replace every earlier change, even one from a clock that is ahead."""
        before = self.organizations.get(name, Organization())
        latest = max((before.changed[each] for each in fields if each in before.changed), default=(at, ""))
        stamp = max((at, "by-hand"), (latest[0] + timedelta(microseconds=latest >= (at, "by-hand")), "by-hand"))
        stamps = dict.fromkeys(fields, stamp)
        self.put(name, subscription={**before.subscription, **fields}, changed={**before.changed, **stamps})

    def hear(self, name: str, fields: Mapping[str, Any], at: datetime, by: str) -> None:
        """Apply an event. For each field, the latest change counts."""
        before = self.organizations.get(name, Organization())
        newer = {each for each in fields if each not in before.changed or before.changed[each] < (at, by)}
        subscription = {**before.subscription, **{each: fields[each] for each in newer}}
        self.put(name, subscription=subscription, changed={**before.changed, **dict.fromkeys(newer, (at, by))})


@dataclass(frozen=True)
class Usage:
    organization: str
    feature: str
    quantity: int
    key: str


@dataclass
class Memory:
    """The entries that one execution environment has read, and the time of each read."""

    truth: Truth
    _read: dict[str, tuple[Any, datetime]] = field(default_factory=dict)
    _period: str = ""

    def enter(self, period: str) -> None:
        """Forget the entries of another period."""
        if period != self._period:
            self._read.clear()
            self._period = period

    def entry(self, name: str, now: datetime) -> tuple[Organization, Plan | None] | None:
        """An organization with its plan, as of one moment."""
        # A missing organization is read again each time.
        known: tuple[Organization, Plan | None] | None = self._fresh(f"organization {name}", now)
        return known or self.entry_now(name, now)

    def entry_now(self, name: str, now: datetime) -> tuple[Organization, Plan | None] | None:
        organization = self.truth.organizations.get(name)
        if organization is None:
            return None
        plan = self.truth.plans.get(str(organization.subscription.get("planId")))
        kept: tuple[Organization, Plan | None] = self._keep(f"organization {name}", (organization, plan), now)
        return kept

    def feature(self, usage: Usage, now: datetime) -> Entitlement | None:
        entry = self.entry(usage.organization, now)
        return None if entry is None else held(*entry, usage.feature)

    def known_features(self, now: datetime) -> frozenset[str]:
        known: tuple[frozenset[str]] | None = self._fresh("features", now)
        every = frozenset(feature for plan in self.truth.plans.values() for feature in plan.features)
        return (known or self._keep("features", (every,), now))[0]

    def _fresh(self, name: str, now: datetime) -> Any:
        value, read_at = self._read.get(name, (None, now - REMEMBERED))
        return value if now - read_at < REMEMBERED else None

    def _keep(self, name: str, value: Any, now: datetime) -> Any:
        self._read[name] = (value, now)
        return value


@dataclass(frozen=True)
class Answer:
    """The body of a 200, or the code of any other answer."""

    status: int
    body: Mapping[str, Any]
    replayed: bool = False


def refusal(status: int, code: str) -> Answer:
    return Answer(status, {"code": code})


NOT_FOUND = refusal(404, "NOT_FOUND")
FORBIDDEN = refusal(403, "FORBIDDEN")
# These concern the organization and no single record. A batch that gets only these is answered as a whole.
OF_EVERYBODY = (NOT_FOUND, FORBIDDEN)


@dataclass
class Recorded:
    """The recorded usage, and the answers about it."""

    records: dict[tuple[str, str], tuple[Usage, datetime]] = field(default_factory=dict)
    totals: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """The totals, by organization, period and feature."""
    days: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """The same by organization, date and feature."""
    soft: set[tuple[str, str, str]] = field(default_factory=set)
    """Counters with usage that was recorded without a hard limit. No hard limit holds for them in their period."""
    hard: set[tuple[str, str, str]] = field(default_factory=set)
    """Counters under a hard limit, until a request reads their plan and finds none."""

    def before_a_batch(self, usages: Sequence[Usage], memory: Memory, now: datetime, *, rejects: bool) -> None:
        """Read the terms again if a usage would be added without a hard limit to a counter under one."""
        memory.enter(period_of(now))
        may_be_recorded = [usage for usage in usages if self._terms(usage, memory, now, rejects=rejects)[0] is None]
        # Only the first usage of a key is tried.
        first = {usage.key: usage for usage in reversed(may_be_recorded)}
        if any(self._meets_a_hard_limit(usage, memory, now, rejects=rejects) for usage in first.values()):
            memory.entry_now(usages[0].organization, now)

    def _meets_a_hard_limit(self, usage: Usage, memory: Memory, now: datetime, *, rejects: bool) -> bool:
        refused, limit, is_hard = self._terms(usage, memory, now, rejects=rejects)
        is_limited = is_hard and limit is not None
        return refused is None and not is_limited and (usage.organization, period_of(now), usage.feature) in self.hard

    def _terms(
        self, usage: Usage, memory: Memory, now: datetime, *, rejects: bool
    ) -> tuple[Answer | None, int | None, bool]:
        """The answer if it is not recorded, its limit, and whether that is hard."""
        entry, feature = memory.entry(usage.organization, now), memory.feature(usage, now)
        refused = None
        if entry is None:
            refused = NOT_FOUND
        elif not entry[0].active:
            refused = FORBIDDEN
        elif feature is None and rejects and usage.feature not in memory.known_features(now):
            refused = refusal(422, "VALIDATION_FAILED")
        return refused, None if feature is None else feature.limit, feature is not None and feature.hard

    def record(self, usage: Usage, memory: Memory, now: datetime, *, rejects: bool) -> Answer:
        memory.enter(period_of(now))
        refused, limit, is_hard = self._terms(usage, memory, now, rejects=rejects)
        before = self.recorded(usage.organization, usage.key, now)
        if before is not None:
            if before[0] != usage:
                return refusal(422, "IDEMPOTENCY_KEY_REUSED")
            return self._answer(usage, period_of(before[1]), limit, replayed=True)
        if self._meets_a_hard_limit(usage, memory, now, rejects=rejects):
            memory.entry_now(usage.organization, now)
            refused, limit, is_hard = self._terms(usage, memory, now, rejects=rejects)
        if refused is not None:
            return refused
        counter = (usage.organization, period_of(now), usage.feature)
        if limit is None or not is_hard:
            self.soft.add(counter)
            self.hard.discard(counter)
        elif counter not in self.soft and self.totals[counter] + usage.quantity > limit:
            total = self.totals[counter]
            return Answer(200, {"recorded": False, "currentUsage": total, "limitReached": True, "limit": limit})
        elif counter not in self.soft:
            self.hard.add(counter)
        self.totals[counter] += usage.quantity
        self.days[usage.organization, date_of(now), usage.feature] += usage.quantity
        self.records[usage.organization, usage.key] = (usage, now)
        return self._answer(usage, period_of(now), limit, replayed=False)

    def after_a_batch(self, usage: Usage, alone: Answer, now: datetime) -> tuple[str, Mapping[str, Any]]:
        """The status of a usage in the answer to a batch, and the other members of its result.

        Alone, the usage got the answer `alone`. Its total is the one after the whole batch.
        """
        if alone.status != 200:
            return "conflict" if alone.body["code"] == "IDEMPOTENCY_KEY_REUSED" else "invalid", alone.body
        if not alone.body["recorded"]:
            total = self.totals[usage.organization, period_of(now), usage.feature]
            return "refused", {"currentUsage": total, "limitReached": True, "limit": alone.body["limit"]}
        _, at = self.records[usage.organization, usage.key]
        members = self._answer(usage, period_of(at), alone.body.get("limit"), replayed=alone.replayed).body
        return "replayed" if alone.replayed else "recorded", {
            name: members[name] for name in members if name != "recorded"
        }

    def recorded(self, organization: str, key: str, now: datetime) -> tuple[Usage, datetime] | None:
        """The usage under a key, unless the key is free again."""
        found = self.records.get((organization, key))
        return found if found is not None and now < found[1] + RETENTION else None

    def summary(self, name: str, period: str, memory: Memory, now: datetime, *, by_day: bool = False) -> Answer:
        entry = memory.entry(name, now)
        if entry is None:
            return NOT_FOUND
        organization, plan = entry
        used = {
            feature: total
            for (of, during, feature), total in self.totals.items()
            if (of, during) == (name, period) and total > 0
        }
        features = {each: held(organization, plan, each) for each in {*organization.limits, *planned(plan), *used}}
        usage = [
            line(each, used.get(each, 0), feature)
            for each, feature in sorted(features.items())
            if each in used or (feature is not None and feature.limit is not None)
        ]
        for each in usage if by_day else ():
            dates = sorted(date for of, date, feature in self.days if (of, feature) == (name, each["feature"]))
            each["days"] = [
                {"date": date, "used": self.days[name, date, each["feature"]]}
                for date in dates
                if date.startswith(period)
            ]
        bounds = {"periodStart": f"{period}-01T00:00:00.000Z", "periodEnd": next_period(period)}
        return Answer(200, {"billingPeriod": period, **bounds, "usage": usage})

    def check(self, name: str, asked: str, memory: Memory, now: datetime, quantity: int | None = None) -> Answer:
        entry = memory.entry(name, now)
        if entry is None:
            return NOT_FOUND
        organization, plan = entry
        feature = held(organization, plan, asked)
        paused = organization.subscription.get("subscriptionStatus") in ("CANCELED", "PAUSED")
        numbers: dict[str, Any] = {}
        if feature is None or paused or not organization.active:
            reason = "not_in_plan"
        elif feature.limit is None:
            reason = "included"
        else:
            total = self.totals[name, period_of(now), asked]
            left = feature.limit - total
            reason = "limit_reached" if left < (1 if quantity is None else quantity) else "limit_available"
            numbers = {"used": total, "limit": feature.limit, "remaining": left if left > 0 else 0}
            numbers["resetsAt"] = next_period(period_of(now))
        body: dict[str, Any] = {"hasAccess": reason in ("included", "limit_available"), "reason": reason, **numbers}
        if not body["hasAccess"] and feature is not None and feature.upgrade_url is not None:
            body["upgradeUrl"] = feature.upgrade_url
        return Answer(200, body)

    def usage(self, name: str, key: str, memory: Memory, now: datetime) -> Answer:
        if memory.entry(name, now) is None or (found := self.recorded(name, key, now)) is None:
            return NOT_FOUND
        usage, at = found
        body = {"idempotencyKey": key, "feature": usage.feature, "quantity": usage.quantity}
        return Answer(200, {**body, "billingPeriod": period_of(at), "recordedAt": text(at)})

    def listed(self, name: str, feature: str | None, memory: Memory, now: datetime) -> Answer:
        """All pages of the list together, with the records ordered by key."""
        if memory.entry(name, now) is None:
            return NOT_FOUND
        found = [self.usage(name, key, memory, now) for owner, key in self.records if owner == name]
        records = [each.body for each in found if each.status == 200 and feature in (None, each.body["feature"])]
        return Answer(200, {"records": sorted(records, key=lambda each: each["idempotencyKey"])})

    def _answer(self, usage: Usage, period: str, limit: int | None, *, replayed: bool) -> Answer:
        total = self.totals[usage.organization, period, usage.feature]
        reached = limit is not None and total >= limit
        body = {"recorded": True, "currentUsage": total, "limitReached": reached}
        return Answer(200, body if limit is None else {**body, "limit": limit}, replayed)


def subscription(name: str, memory: Memory, now: datetime) -> Answer:
    entry = memory.entry_now(name, now)
    if entry is None:
        return NOT_FOUND
    organization, plan = entry
    known = organization.subscription
    # The stored name applies only to the plan that it was set for.
    named, name_of_plan = known.get("planName") or (None, None)
    body = {
        "id": known.get("subscriptionId"),
        "organizationId": name,
        "planId": known.get("planId"),
        "planName": name_of_plan if named == known.get("planId") and name_of_plan else plan and plan.name,
        "status": known.get("subscriptionStatus"),
        "currentPeriodStart": known.get("currentPeriodStart"),
        "currentPeriodEnd": known.get("currentPeriodEnd"),
        "cancelAtPeriodEnd": known.get("cancelAtPeriodEnd"),
    }
    if None in body.values():
        return NOT_FOUND
    trial = known.get("trialEndsAt")
    return Answer(200, body if trial is None else {**body, "trialEndsAt": trial})


def held(organization: Organization, plan: Plan | None, feature: str) -> Entitlement | None:
    """The entitlement of a feature. The organization's own limit replaces its plan's."""
    found = planned(plan).get(feature)
    if feature in organization.limits:
        return replace(found or Entitlement(), limit=organization.limits[feature])
    return found


def planned(plan: Plan | None) -> Mapping[str, Entitlement]:
    return {} if plan is None else plan.features


def line(name: str, used: int, feature: Entitlement | None) -> dict[str, Any]:
    """The line of a feature in a summary."""
    shown: dict[str, Any] = {"feature": name, "used": used}
    if feature is not None and feature.unit is not None:
        shown["unit"] = feature.unit
    if feature is not None and feature.limit is not None:
        percentage = round(100 * used / feature.limit, 1) if feature.limit else 100.0
        shown |= {"limit": feature.limit, "percentage": percentage if used >= feature.limit else min(percentage, 99.9)}
    return shown


def period_of(moment: datetime) -> str:
    return f"{moment:%Y-%m}"


def date_of(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def next_period(period: str) -> str:
    """The start of the period after this one."""
    year, month = map(int, period.split("-"))
    return f"{year + month // 12}-{month % 12 + 1:02}-01T00:00:00.000Z"


def text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"
