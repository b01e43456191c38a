"""What plans, subscriptions and operators may have said about limits and states at some time, as far as logs tell.

What was done while somebody else did the same leaves open who was last; then both may hold.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeAlias, TypeVar

from tests.faults.evidence import Done
from tests.faults.history import EventSent, LimitsPut, PlanApplied, StatusPut

T = TypeVar("T")

SUBSCRIPTION_CHANGED = "billing.subscription.changed"
_AS_PLANNED = "plan"
_END_S = float("inf")


@dataclass(frozen=True)
class Rule:
    """What holds for one feature of one organization."""

    limit: int | None
    hard: bool = False
    warn_at: tuple[int, ...] = (80,)

    @property
    def hard_limit(self) -> int | None:
        """What refuses usage beyond it; None: nothing does."""
        return self.limit if self.hard else None

    @property
    def thresholds(self) -> tuple[int, ...]:
        """Percentages of the limit that are noticed, the limit itself included."""
        return (*self.warn_at, 100)


# What plans.yaml says of each feature.
_Features: TypeAlias = Mapping[str, Rule]


@dataclass(frozen=True)
class _Write(Generic[T]):
    value: T
    done: Done | None
    """None: it was so from the beginning."""

    def is_begun(self, until_s: float) -> bool:
        return self.done is None or self.done.began_at_s <= until_s


class Settings:
    """All that was ever said, with its time."""

    def __init__(self, done: Iterable[Done]) -> None:
        self._plan_of: dict[str, list[_Write[str | None]]] = defaultdict(lambda: [_Write(None, None)])
        self._features_of: dict[str, list[_Write[_Features]]] = defaultdict(lambda: [_Write({}, None)])
        self._own: dict[tuple[str, str], list[_Write[int | str]]] = defaultdict(lambda: [_Write(_AS_PLANNED, None)])
        self._status_of: dict[str, list[_Write[str]]] = defaultdict(lambda: [_Write("active", None)])
        self._subscription_of: dict[str, list[_Write[str | None]]] = defaultdict(lambda: [_Write(None, None)])
        self.creations: dict[str, list[Done]] = defaultdict(list)
        """What may have made an organization known."""
        for each in done:
            match each.deed:
                case PlanApplied(plan=plan, features=features):
                    rules = {feature: _planned(members) for feature, members in features.items()}
                    self._features_of[plan].append(_Write(rules, each))
                case LimitsPut(organization=organization, limits=limits):
                    self.creations[organization].append(each)
                    for feature, limit in limits.items():
                        self._own[organization, feature].append(_Write(limit, each))
                case StatusPut(organization=organization, status=status):
                    self.creations[organization].append(each)
                    self._status_of[organization].append(_Write(status, each))
                case EventSent(event=event, malformed=False):
                    payload = event["detail"]["payload"]
                    organization = payload["organizationId"]
                    self.creations[organization].append(each)
                    if event["detail-type"] == SUBSCRIPTION_CHANGED:
                        self._plan_of[organization].append(_Write(payload["newPlan"], each))
                        self._subscription_of[organization].append(_Write(payload["newStatus"], each))

    def rules(self, organization: str, feature: str, since_s: float, until_s: float) -> set[Rule]:
        """What may have held for somebody who looked at some time between; unlimited where nothing is said."""
        return {rule or Rule(None) for rule in self.said(organization, feature, since_s, until_s)}

    def said(self, organization: str, feature: str, since_s: float, until_s: float) -> set[Rule | None]:
        """The same; None where nothing is said."""
        found: set[Rule | None] = set()
        for plan in _possible(self._plan_of[organization], _is_later_said, since_s, until_s):
            for features in self._possible_features(plan, since_s, until_s):
                planned = features.get(feature)
                for own in _possible(self._own[organization, feature], _is_later_done, since_s, until_s):
                    found.add(_rule(planned, own))
        return found

    def may_be_in_no_plan(self, feature: str, since_s: float, until_s: float) -> bool:
        """Whether no plan may have had the feature for somebody who looked at some time between."""
        return all(
            any(feature not in features for features in _possible(writes, _is_later_done, since_s, until_s))
            for writes in list(self._features_of.values())
        )

    def statuses(self, organization: str, since_s: float, until_s: float) -> set[str]:
        """What its status may have been for somebody who looked at some time between."""
        return set(_possible(self._status_of[organization], _is_later_done, since_s, until_s))

    def statuses_at_last(self, organization: str) -> set[str]:
        """What its status may be at the end."""
        return self.statuses(organization, _END_S, _END_S)

    def subscriptions(self, organization: str, since_s: float, until_s: float) -> set[str | None]:
        """How its subscription may have stood for somebody who looked at some time between; None: it had none."""
        return set(_possible(self._subscription_of[organization], _is_later_said, since_s, until_s))

    def plans_at_last(self) -> dict[str, list[Mapping[str, Rule]]]:
        """What each plan that was ever applied may say at the end."""
        return {
            plan: _possible(writes, _is_later_done, _END_S, _END_S)
            for plan, writes in self._features_of.items()
            if len(writes) > 1
        }

    def own_limits_at_last(self) -> dict[tuple[str, str], list[int | str]]:
        """What each organization's own limit of a feature may be at the end."""
        return {own: _possible(writes, _is_later_done, _END_S, _END_S) for own, writes in self._own.items()}

    def touched_s(self, organization: str, feature: str, until_s: float) -> float:
        """When something was last done that may have changed what holds."""
        writes: list[_Write[Any]] = [*self._plan_of[organization], *self._own[organization, feature]]
        for plan in _possible(self._plan_of[organization], _is_later_said, until_s, until_s):
            writes += self._features_of[plan or ""]
        return max((each.done.ended_at_s for each in writes if each.done and each.is_begun(until_s)), default=0.0)

    def _possible_features(self, plan: str | None, since_s: float, until_s: float) -> list[_Features]:
        return [{}] if plan is None else _possible(self._features_of[plan], _is_later_done, since_s, until_s)


def stamp(event: Mapping[str, Any]) -> tuple[datetime, str]:
    """What decides which of two events on a subscription is the later one."""
    detail = event["detail"]
    return datetime.fromisoformat(detail["payload"]["changedAt"]), detail["id"]


def _possible(
    writes: list[_Write[T]], is_later: Callable[[Done, Done], bool], since_s: float, until_s: float
) -> list[T]:
    begun = [write for write in writes if write.is_begun(until_s)]
    ended = [write.done for write in begun if write.done is not None and write.done.ended_at_s < since_s]
    return [
        write.value for write in begun if not any(write.done is None or is_later(other, write.done) for other in ended)
    ]


def _is_later_done(one: Done, other: Done) -> bool:
    return one.began > other.ended


def _is_later_said(one: Done, other: Done) -> bool:
    assert isinstance(one.deed, EventSent)
    assert isinstance(other.deed, EventSent)
    return stamp(one.deed.event) > stamp(other.deed.event)


def _planned(members: Mapping[str, Any]) -> Rule:
    limit = members["limit"]
    return Rule(_limit(limit), members["enforcement"] == "hard", tuple(members["warnAt"]))


def _rule(planned: Rule | None, own: int | str) -> Rule | None:
    if own == _AS_PLANNED:
        return planned
    return Rule(_limit(own)) if planned is None else Rule(_limit(own), planned.hard, planned.warn_at)


def _limit(limit: int | str) -> int | None:
    return None if limit == "unlimited" else int(limit)
