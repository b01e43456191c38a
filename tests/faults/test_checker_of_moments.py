"""The checker finds results that combine an organization and a plan of two different moments.

The tests add actions to the evidence of a real run. In one order of these actions the run was correct. In another order
its results follow from no state that ever existed.
"""

import copy
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checker import violations
from tests.faults.crash_points import EVERY_LIMIT
from tests.faults.driver import Stage, run
from tests.faults.evidence import Done, Evidence
from tests.faults.workload import FEATURES, Action, EventSent, LimitsPut, PlanApplied

pytestmark = pytest.mark.verify

_LONG = FEATURES[-1]
# The first usage of the feature is 490 under a hard limit of 900. The last one reaches the own limit of 1034.
_FIRST, _LAST = 4, 11


@pytest.fixture(scope="module")
def true_evidence(on: Stage) -> Evidence:
    return run(EVERY_LIMIT, on).evidence


def _began_s(evidence: Evidence, operation: int) -> float:
    return next(each.began_at_s for each in evidence.attempts if each.operation == operation)


def _plan(evidence: Evidence, **members: Any) -> PlanApplied:
    """The plan of the run, with these members changed in the feature."""
    (applied,) = (each.action for each in evidence.done if isinstance(each.action, PlanApplied))
    return replace(applied, features={**applied.features, _LONG: {**applied.features[_LONG], **members}})


def _moved(evidence: Evidence, plan: str, event_id: str) -> EventSent:
    """A later event of the run's subscription, with this plan."""
    first = next(
        each.action
        for each in evidence.done
        if isinstance(each.action, EventSent) and each.action.event["detail"]["payload"].get("newPlan") == "free"
    )
    event = copy.deepcopy(first.event)
    event["detail"]["id"] = event_id
    event["detail"]["payload"] |= {"newPlan": plan, "changedAt": f"2026-11-10T12:30:0{event_id}Z"}
    return replace(first, event=event)


def _with(evidence: Evidence, *actions: tuple[Action, float, float], changes: dict[str, Any] | None = None) -> Evidence:
    """The evidence with more actions, each as (action, start, end), and with `changes` to the last usage's request."""
    # One millisecond is one tick of the clients' clock, after all actions of the run.
    last, start_s = max(done.ended for done in evidence.done), min(began_s for _, began_s, _ in actions)
    moments = [
        [last + 1 + round((at_s - start_s) * 1000) for at_s in (began_s, ended_s)] for _, began_s, ended_s in actions
    ]
    done = [
        Done(action, began, ended, began_s, ended_s)
        for (action, began_s, ended_s), (began, ended) in zip(actions, moments, strict=True)
    ]
    attempts = [replace(each, **changes or {}) if each.operation == _LAST else each for each in evidence.attempts]
    return replace(copy.deepcopy(evidence), done=[*evidence.done, *done], attempts=attempts)


# The organization moves to another plan, and its old plan changes. Each action has a start and an end, in seconds
# before the request. The last value says whether the changed plan never applied to the organization.
_ORDERS = [
    ((-30.0, -30.0), (-20.0, -20.0), True),
    ((-30.0, -25.0), (-24.0, -20.0), True),
    ((-20.0, -20.0), (-30.0, -30.0), False),
    ((-30.0, -20.0), (-25.0, -15.0), False),
    ((-25.0, -15.0), (-30.0, -20.0), False),
]


@pytest.mark.parametrize(("moves", "changes", "is_mixture"), _ORDERS)
def test_the_checker_reports_a_limit_of_a_plan_that_the_organization_had_left(
    moves: tuple[float, float], changes: tuple[float, float], is_mixture: bool, true_evidence: Evidence
) -> None:
    """The limit is answered, counted under, and noticed."""
    at_s = _began_s(true_evidence, _FIRST)
    evidence = _with(
        true_evidence,
        (_plan(true_evidence, limit=400), at_s - 1000, at_s - 1000),
        (_moved(true_evidence, "pro", "1"), at_s + moves[0], at_s + moves[1]),
        (_plan(true_evidence), at_s + changes[0], at_s + changes[1]),
        # Move the organization back, after the notices of this usage and before the next usage.
        (_moved(true_evidence, "free", "2"), at_s + 60, at_s + 60),
    )
    found = violations(evidence)
    if not is_mixture:
        assert found == []
        return
    for expected in (
        f"attempt {_FIRST}.0 got the limit 900, expected one of ",
        "was increased to 490 under a hard limit of at most 400",
        f"'{_LONG}', '2026-11') has a threshold that was not set at 2026-11-10T13:",
    ):
        assert any(expected in violation for violation in found), found


def _lift(evidence: Evidence) -> None:
    last = [change for change in evidence.changes if change.sk == f"{_LONG}#0"][-1]
    del (last.after or {})["hard"]


# The organization gets its own limit, and the plan loses its limit. Each action has a start and an end, in seconds
# before the request's end. The last value says whether only a mixture of two moments has no hard limit.
_TURNS = [
    ((-4.0, -4.0), (-3.0, -3.0), True),
    ((-3.0, -3.0), (-4.0, -4.0), False),
    ((-4.0, -2.0), (-3.0, -1.0), False),
    ((-3.0, -1.0), (-4.0, -2.0), False),
]


@pytest.mark.parametrize(("own", "plan", "is_mixture"), _TURNS)
def test_the_checker_reports_a_hard_limit_lifted_by_settings_of_two_moments(
    own: tuple[float, float], plan: tuple[float, float], is_mixture: bool, true_evidence: Evidence
) -> None:
    """Only the organization before and the plan after the actions have no limit. Every real state has a hard limit."""
    at_s = _began_s(true_evidence, _LAST)
    evidence = _with(
        true_evidence,
        (LimitsPut(0, 0, "acme", {_LONG: "plan"}), at_s - 1000, at_s - 1000),
        (LimitsPut(0, 0, "acme", {_LONG: 1034}), at_s + own[0], at_s + own[1]),
        (_plan(true_evidence, limit="unlimited"), at_s + plan[0], at_s + plan[1]),
        (_plan(true_evidence), at_s + 0.5, at_s + 0.5),
        changes={"began_at_s": at_s - 5},
    )
    assert violations(evidence) == []
    _lift(evidence)
    lifted = [found for found in violations(evidence) if "lost its hard limit because of a cached rule" in found]
    assert bool(lifted) is is_mixture


def _lose(evidence: Evidence, sk: str) -> None:
    """Remove a notice and its event."""
    for snapshot in evidence.snapshots:
        lost = {item["eventId"]["S"] for item in snapshot.items if item["sk"]["S"] == sk}
        snapshot.items[:] = [item for item in snapshot.items if item["sk"]["S"] != sk]
        evidence.events[:] = [event for event in evidence.events if event["detail"]["id"] not in lost]


@pytest.mark.parametrize(
    ("comes_s", "changes_s", "lag_s", "is_due"),
    [
        (1.0, 2.0, 5.0, False),
        (1.0, 2.0, 0.5, True),
        (1.0, 2.0, 0.0, True),
        (-1.0, 2.0, 5.0, False),
        (-2.0, -1.0, 5.0, True),
    ],
)
def test_an_organization_new_on_a_changed_plan_gets_its_notice_with_the_next_usage(
    comes_s: float, changes_s: float, lag_s: float, is_due: bool, true_evidence: Evidence
) -> None:
    """The organization joins the plan before or after the last request that uses the feature."""
    at_s = _began_s(true_evidence, 8)
    evidence = _with(
        true_evidence,
        (_moved(true_evidence, "free", "1"), at_s + comes_s, at_s + comes_s),
        (_plan(true_evidence), at_s + changes_s, at_s + changes_s),
    )
    evidence = replace(evidence, index_lag_s=lag_s)
    assert violations(evidence) == []
    _lose(evidence, "storage_gb#500#100")
    assert any("but has no notice" in found for found in violations(evidence)) is is_due
