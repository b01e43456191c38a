"""Settings returns the limits and states of each moment, for every possible order of overlapping actions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, Literal, NamedTuple

import pytest

from tests.faults.evidence import Done
from tests.faults.settings import Rule, Settings, State
from tests.faults.workload import Action, EventSent, LimitsPut, PlanApplied, StatusPut

pytestmark = pytest.mark.verify

_FEATURE = "api_calls"
_OWN: Sequence[int | str] = (7, "plan", "unlimited")


class _During(NamedTuple):
    """The start and end of an action, in seconds."""

    began_s: float
    ended_s: float


def _at(at_s: float) -> _During:
    return _During(at_s, at_s)


def _moves(plan: str, said_at_s: int = 0, status: str = "ACTIVE") -> EventSent:
    payload = {
        "organizationId": "acme",
        "newPlan": plan,
        "newStatus": status,
        "changedAt": datetime.fromtimestamp(said_at_s, UTC).isoformat(),
    }
    detail = {"id": f"{plan} {said_at_s} {status}", "payload": payload}
    return EventSent(0, 0, {"detail-type": "billing.subscription.changed", "detail": detail})


def _applied(plan: str, limit: int, enforcement: str = "hard") -> PlanApplied:
    return PlanApplied(0, 0, plan, {_FEATURE: {"limit": limit, "enforcement": enforcement, "warnAt": []}})


def _own(limit: int | str) -> LimitsPut:
    return LimitsPut(0, 0, "acme", {_FEATURE: limit})


def _put(status: Literal["active", "inactive"]) -> StatusPut:
    return StatusPut(0, 0, "acme", status)


def _settings(*actions: tuple[Action, _During]) -> Settings:
    return Settings(
        Done(action, int(during.began_s * 1000), int(during.ended_s * 1000), during.began_s, during.ended_s)
        for action, during in actions
    )


def _limits(settings: Settings, since_s: float, until_s: float) -> set[int | None]:
    return {rule.limit for rule in settings.rules("acme", _FEATURE, since_s, until_s)}


_BEFORE = ((_applied("a", 1), _at(0)), (_applied("b", 2), _at(1)), (_moves("a", 2), _at(2)))


def test_a_plan_change_after_the_organization_left_never_applies_to_it() -> None:
    settings = _settings(*_BEFORE, (_moves("b", 10), _at(10)), (_applied("a", 3), _at(20)))
    assert _limits(settings, 5, 30) == {1, 2}


def test_a_plan_change_before_the_organization_leaves_applies_to_it() -> None:
    settings = _settings(*_BEFORE, (_moves("b", 20), _at(20)), (_applied("a", 3), _at(10)))
    assert _limits(settings, 5, 30) == {1, 2, 3}


def test_a_plan_version_from_before_the_organization_joined_never_applies_to_it() -> None:
    settings = _settings(*_BEFORE, (_applied("b", 3), _at(10)), (_moves("b", 20), _at(20)))
    assert _limits(settings, 5, 30) == {1, 3}


@pytest.mark.parametrize(
    ("moves", "changes"),
    [
        (_During(10, 20), _During(15, 25)),
        (_During(15, 25), _During(10, 20)),
        (_During(10, 30), _During(15, 20)),
        (_During(15, 20), _During(10, 30)),
    ],
)
def test_overlapping_changes_may_apply_in_either_order(moves: _During, changes: _During) -> None:
    settings = _settings(*_BEFORE, (_moves("b", 10), moves), (_applied("a", 3), changes))
    assert _limits(settings, 5, 40) == {1, 2, 3}


def test_a_read_between_changes_finds_only_settings_possible_at_that_time() -> None:
    settings = _settings(*_BEFORE, (_moves("b", 10), _During(10, 20)), (_applied("a", 3), _During(15, 25)))
    assert _limits(settings, 5, 9) == {1}
    assert _limits(settings, 11, 14) == {1, 2}
    assert _limits(settings, 16, 17) == {1, 2, 3}
    assert _limits(settings, 21, 40) == {2}


def test_an_own_limit_combines_with_the_plan_of_the_same_moment() -> None:
    settings = _settings(*_BEFORE, (_own(5), _at(10)), (_applied("a", 3, "soft"), _at(20)), (_own("plan"), _at(30)))
    assert settings.rules("acme", _FEATURE, 5, 25) == {
        Rule(1, hard=True, warn_at=()),
        Rule(5, hard=True, warn_at=()),
        Rule(5, warn_at=()),
    }
    assert _limits(settings, 25, 40) == {5, 3}


def test_a_status_combines_with_the_rule_of_the_same_moment() -> None:
    settings = _settings(*_BEFORE, (_put("inactive"), _at(10)), (_applied("a", 3), _at(20)), (_put("active"), _at(30)))
    states = settings.states("acme", _FEATURE, 5, 25)
    assert {(state.rule and state.rule.limit, state.is_active) for state in states} == {
        (1, True),
        (1, False),
        (3, False),
    }


def test_a_plan_and_a_subscription_that_one_event_sets_go_together() -> None:
    settings = _settings(*_BEFORE, (_moves("b", 10, "PAUSED"), _During(10, 20)))
    states = settings.states("acme", _FEATURE, 5, 30)
    assert {(state.rule and state.rule.limit, state.has_access) for state in states} == {(1, True), (2, False)}


def test_an_event_that_is_outdated_when_it_comes_changes_nothing() -> None:
    settings = _settings(*_BEFORE, (_moves("b", 10), _at(10)), (_moves("a", 9), _During(11, 30)))
    assert _limits(settings, 5, 9) == {1}
    assert _limits(settings, 5, 40) == {1, 2}
    assert _limits(settings, 11, 40) == {2}


@pytest.mark.parametrize("seed", range(100))
def test_every_state_stored_at_some_moment_is_accepted(seed: int) -> None:
    """Actions run at any time. Each one takes effect once or twice while it runs."""
    random = Random(seed)
    actions = [(_drawn(random), _drawn_during(random)) for _ in range(random.randint(2, 10))]
    settings = _settings(*actions)
    effects = sorted(
        (random.uniform(*during), number)
        for number, (_, during) in enumerate(actions)
        for _ in range(random.choice([1, 2]))
    )
    for _ in range(20):
        at_s = random.uniform(-1, 60)
        state = _stored([actions[number][0] for effect_s, number in effects if effect_s <= at_s])
        states = settings.states("acme", _FEATURE, at_s - random.choice([0, 5]), at_s + random.choice([0, 5]))
        assert state in states, (actions, effects, at_s)


def _drawn(random: Random) -> Action:
    plan, own = random.choice("ab"), random.choice(_OWN)
    actions: list[Action] = [
        _applied(plan, random.randint(1, 5), random.choice(["soft", "hard"])),
        _moves(plan, random.randint(0, 50), random.choice(["ACTIVE", "PAUSED"])),
        _own(own),
        _put("active" if random.random() < 0.5 else "inactive"),
    ]
    return random.choice(actions)


def _drawn_during(random: Random) -> _During:
    began_s = random.randint(0, 50)
    return _During(began_s, began_s + random.choice([0, 3, 10, 30]))


def _stored(actions: Sequence[Action]) -> State:
    """The state after these actions took effect in this order."""
    plans: dict[str, Any] = {}
    stamped: list[tuple[str, str, str | None, str | None]] = [("", "", None, None)]
    own: int | str = "plan"
    status = "active"
    for action in actions:
        match action:
            case PlanApplied(plan=plan, features=features):
                plans[plan] = features[_FEATURE]
            case LimitsPut(limits=limits):
                own = limits[_FEATURE]
            case StatusPut(status=put):
                status = put
            case EventSent(event=event):
                payload, event_id = event["detail"]["payload"], event["detail"]["id"]
                stamped.append((payload["changedAt"], event_id, payload["newPlan"], payload["newStatus"]))
    _, _, on_plan, subscription = max(stamped, key=lambda each: each[:2])
    members = plans.get(str(on_plan))
    rule = None if members is None else Rule(members["limit"], members["enforcement"] == "hard", ())
    if own != "plan":
        limit = None if own == "unlimited" else int(own)
        rule = Rule(limit) if rule is None else Rule(limit, rule.hard, rule.warn_at)
    return State(rule, status, subscription)


@pytest.mark.parametrize(
    ("comes", "changes", "until_s"),
    [
        # The index holds the organization by then.
        (_at(10), _at(15.5), None),
        # The watcher looked at the organization itself after the plan had changed.
        (_at(10), _at(9), None),
        (_at(10), _at(14.5), 14.5),
        (_During(10, 20), _During(15, 17), 20),
    ],
)
def test_an_organization_new_on_a_plan_may_be_missed_when_the_plan_changes(
    comes: _During, changes: _During, until_s: float | None
) -> None:
    settings = _settings((_applied("a", 1), _at(0)), (_moves("a", 10), comes), (_applied("a", 3), changes))
    assert settings.overlooked_until_s("acme", 100, 5) == (float("-inf") if until_s is None else until_s)
    assert settings.overlooked_until_s("acme", 100, 0) == float("-inf")
    assert settings.overlooked_until_s("acme", 9, 5) == float("-inf")
