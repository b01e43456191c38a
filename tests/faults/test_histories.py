"""A few seeds with everything going wrong; `make soak` runs many."""

import os

import pytest

from tests.faults.checker import violations
from tests.faults.driver import Stage, run
from tests.faults.faults import KILLS
from tests.faults.history import generate
from tests.faults.reproduction import reproduction

# Who only wants to know whether it fails sets this to 0.
_SHRINKING_S = float(os.environ.get("SHRINKING_S", "30"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_and_nothing_counted_twice_whatever_fails(seed: int, on: Stage) -> None:
    history = generate(seed, operations=400)
    ran = run(history, on)
    if found := violations(ran.evidence):
        smaller = [reproduction(history, ran, on, _SHRINKING_S)] if _SHRINKING_S else []
        pytest.fail("\n".join([*found, *smaller]))
    # Something did happen.
    kinds = {kind for _, kind in ran.faults.tally}
    assert {*KILLS, "answer lost", "conflict", "slow and lost", "throttled"} <= kinds
    statuses = [attempt.status for attempt in ran.evidence.attempts]
    assert {200, 403, 404, 422, None} <= set(statuses)
    assert sum(attempt.replayed for attempt in ran.evidence.attempts) > 50
    assert len({event["detail"]["id"] for event in ran.evidence.events}) < len(ran.evidence.events)


def test_a_function_that_forgets_usage_is_found_out_and_the_history_made_small(on: Stage) -> None:
    history = generate(4, operations=150)
    forgetful = "tests.faults.variations:forgetful"
    ran = run(history, on, record=forgetful)
    found = violations(ran.evidence)
    assert any("was told that it was recorded, and was not" in violation for violation in found)
    said = reproduction(history, ran, on, within_s=30, record=forgetful)
    assert "seed 4: 1 operations and 0 faults break it again: make soak HISTORY=build/faults/seed-4.json" in said
