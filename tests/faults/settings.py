"""Derives from the logs the limits and states that may have been in force at any time.

Plans, subscriptions and operators set them. If two actions on the same item overlap, either may be the last one, so
both results are possible. The functions read an organization and its plan together. So a rule always combines an
organization and a plan of the same moment.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias, TypeVar

from tests.faults.evidence import Done
from tests.faults.timeline import Line, Timeline, Write
from tests.faults.workload import EventSent, LimitsPut, PlanApplied, StatusPut

T = TypeVar("T")

SUBSCRIPTION_CHANGED = "billing.subscription.changed"
_AS_PLANNED = "plan"
_END_S = float("inf")
_WITHOUT_ACCESS = ("CANCELED", "PAUSED")


@dataclass(frozen=True)
class Rule:
    """The entitlement of one organization to one feature."""

    limit: int | None
    hard: bool = False
    warn_at: tuple[int, ...] = (80,)

    @property
    def hard_limit(self) -> int | None:
        """The limit beyond which usage is refused; None: no usage is refused."""
        return self.limit if self.hard else None

    @property
    def thresholds(self) -> tuple[int, ...]:
        """The percentages of the limit that get a notice, including 100 for the limit itself."""
        return (*self.warn_at, 100)


# A plan's rule for each feature, from plans.yaml.
_Features: TypeAlias = Mapping[str, Rule]


class State(NamedTuple):
    """Everything that decides about one feature of one organization, at one moment."""

    rule: Rule | None
    """None: neither the organization nor its plan has the feature."""
    status: str
    subscription: str | None
    """The subscription's status; None: no subscription."""

    @property
    def is_active(self) -> bool:
        """Whether the function records usage."""
        return self.status == "active"

    @property
    def has_access(self) -> bool:
        """Whether the organization has access to the features of its plan."""
        return self.is_active and self.subscription not in _WITHOUT_ACCESS


class _Subscribed(NamedTuple):
    """The attributes of a subscription that one event sets together."""

    plan: str | None
    status: str | None


_NOT_SUBSCRIBED = _Subscribed(None, None)


class Settings:
    """All settings from all actions, with their times."""

    def __init__(self, done: Iterable[Done]) -> None:
        self._subscribed: dict[str, list[Write[_Subscribed]]] = defaultdict(lambda: [Write(_NOT_SUBSCRIBED, None)])
        self._features_of: dict[str, list[Write[_Features]]] = defaultdict(lambda: [Write({}, None)])
        self._own: dict[tuple[str, str], list[Write[int | str]]] = defaultdict(lambda: [Write(_AS_PLANNED, None)])
        self._status_of: dict[str, list[Write[str]]] = defaultdict(lambda: [Write("active", None)])
        self._timelines: dict[tuple[str, str], Timeline[State]] = {}
        self.creations: dict[str, list[Done]] = defaultdict(list)
        """The actions that may have created each organization."""
        for each in done:
            match each.action:
                case PlanApplied(plan=plan, features=features):
                    rules = {feature: _planned(members) for feature, members in features.items()}
                    self._features_of[plan].append(Write(rules, each))
                case LimitsPut(organization=organization, limits=limits):
                    self.creations[organization].append(each)
                    for feature, limit in limits.items():
                        self._own[organization, feature].append(Write(limit, each))
                case StatusPut(organization=organization, status=status):
                    self.creations[organization].append(each)
                    self._status_of[organization].append(Write(status, each))
                case EventSent(event=event, malformed=False):
                    payload = event["detail"]["payload"]
                    organization = payload["organizationId"]
                    self.creations[organization].append(each)
                    if event["detail-type"] == SUBSCRIPTION_CHANGED:
                        found = _Subscribed(payload["newPlan"], payload["newStatus"])
                        self._subscribed[organization].append(Write(found, each))

    def states(self, organization: str, feature: str, since_s: float, until_s: float) -> frozenset[State]:
        """The states that a read of the organization and its plan may have found at one moment of the interval."""
        name = organization, feature
        if name not in self._timelines:
            self._timelines[name] = self._timeline(organization, feature)
        return self._timelines[name].between(since_s, until_s)

    def rules(self, organization: str, feature: str, since_s: float, until_s: float) -> set[Rule]:
        """The rules of these states. Without a rule, the feature has no limit."""
        return {state.rule or Rule(None) for state in self.states(organization, feature, since_s, until_s)}

    def overlooked_until_s(self, organization: str, until_s: float, lag_s: float) -> float:
        """The time until which the watcher may have missed a plan change for the organization.

        The index that finds a plan's organizations lacks an organization for up to `lag_s` after it joined the plan.
        The plan may change in this time, after the watcher looked at the organization itself. Then only the next usage
        notices the change.

        Returns: seconds since 1970; -inf if no change can have been missed.
        """
        found = [float("-inf")]
        for subscribed, came in _done(self._subscribed[organization], until_s):
            found += [
                max(came.ended_at_s, changed.ended_at_s)
                for _, changed in _done(self._features_of[subscribed.plan or ""], until_s)
                if lag_s and came.began_at_s <= changed.ended_at_s and changed.began_at_s <= came.ended_at_s + lag_s
            ]
        return max(found)

    def _timeline(self, organization: str, feature: str) -> Timeline[State]:
        subscribed, status = self._subscribed[organization], self._status_of[organization]
        plans = sorted({write.value.plan for write in subscribed if write.value.plan is not None})

        def states_of(values: Sequence[Sequence[Any]]) -> Iterator[State]:
            entitlements_of = dict(zip(plans, values[3:], strict=True))
            for subscription in values[0]:
                for features in [{}] if subscription.plan is None else entitlements_of[subscription.plan]:
                    for own in values[1]:
                        rule = _rule(features.get(feature), own)
                        yield from (State(rule, each, subscription.status) for each in values[2])

        lines: list[Line[Any]] = [
            Line(subscribed, _has_later_stamp),
            Line(self._own[organization, feature], _is_later_done),
            Line(status, _is_later_done),
        ]
        lines += [Line(self._features_of[plan], _is_later_done) for plan in plans]
        return Timeline(lines, states_of)

    def may_be_in_no_plan(self, feature: str, since_s: float, until_s: float) -> bool:
        """Return whether a read at some time of the interval may have found the feature in no plan."""
        return all(
            any(feature not in features for features in Line(writes, _is_later_done).between(since_s, until_s))
            for writes in list(self._features_of.values())
        )

    def statuses(self, organization: str, since_s: float, until_s: float) -> set[str]:
        """The statuses that a read at some time of the interval may have found."""
        return set(Line(self._status_of[organization], _is_later_done).between(since_s, until_s))

    def statuses_at_last(self, organization: str) -> set[str]:
        """The possible statuses at the end."""
        return self.statuses(organization, _END_S, _END_S)

    def plans_at_last(self) -> dict[str, list[Mapping[str, Rule]]]:
        """The possible rules at the end for each plan that was ever applied."""
        return {
            plan: Line(writes, _is_later_done).between(_END_S, _END_S)
            for plan, writes in self._features_of.items()
            if len(writes) > 1
        }

    def own_limits_at_last(self) -> dict[tuple[str, str], list[int | str]]:
        """The possible values at the end of each organization's own limit, by organization and feature."""
        return {own: Line(writes, _is_later_done).between(_END_S, _END_S) for own, writes in self._own.items()}

    def touched_s(self, organization: str, feature: str, until_s: float) -> float:
        """The end of the last action that began by `until_s` and may have changed the rule, in seconds since 1970."""
        subscribed = self._subscribed[organization]
        writes: list[Write[Any]] = [*subscribed, *self._own[organization, feature]]
        for found in Line(subscribed, _has_later_stamp).between(until_s, until_s):
            writes += self._features_of[found.plan or ""]
        return max((each.done.ended_at_s for each in writes if each.done and each.is_begun(until_s)), default=0.0)


def stamp(event: Mapping[str, Any]) -> tuple[datetime, str]:
    """The stamp that orders the events of a subscription: a later stamp overrides an earlier one."""
    detail = event["detail"]
    return datetime.fromisoformat(detail["payload"]["changedAt"]), detail["id"]


def _done(writes: Iterable[Write[T]], until_s: float) -> list[tuple[T, Done]]:
    return [(write.value, write.done) for write in writes if write.done is not None and write.is_begun(until_s)]


def _is_later_done(one: Done, other: Done) -> bool:
    return one.began > other.ended


def _has_later_stamp(one: Done, other: Done) -> bool:
    assert isinstance(one.action, EventSent)
    assert isinstance(other.action, EventSent)
    return stamp(one.action.event) > stamp(other.action.event)


def _planned(members: Mapping[str, Any]) -> Rule:
    limit = members["limit"]
    return Rule(_limit(limit), members["enforcement"] == "hard", tuple(members["warnAt"]))


def _rule(planned: Rule | None, own: int | str) -> Rule | None:
    if own == _AS_PLANNED:
        return planned
    return Rule(_limit(own)) if planned is None else Rule(_limit(own), planned.hard, planned.warn_at)


def _limit(limit: int | str) -> int | None:
    return None if limit == "unlimited" else int(limit)
