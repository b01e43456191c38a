"""The checker finds hard limits that were lifted, ignored or exceeded, in single changes and in corrupted evidence."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.faults import hardness
from tests.faults.checker import violations
from tests.faults.crash_points import EVERY_LIMIT
from tests.faults.driver import Stage, run
from tests.faults.evidence import Change, Done, Evidence, Snapshot
from tests.faults.hardness import Writer
from tests.faults.settings import Rule
from tests.faults.workload import FEATURES, LimitsPut, PlanApplied

pytestmark = pytest.mark.verify

_PK, _SK = "counter#acme#2026-11", "api_calls#0"
_COUNTER = "('acme', 'api_calls', '2026-11')"
_HARD, _SOFT, _NONE = Rule(100, hard=True), Rule(100), Rule(None, hard=True)
_LIFTED = f"{_COUNTER} lost its hard limit because of a cached rule"
_BEGUN_SOFT = f"{_COUNTER} was created without a hard limit, but its request must have known one"
_CAME_BACK = f"{_COUNTER} got a hard limit after it was created without one"


def _shard(total: int, count: int, *, hard: bool) -> dict[str, Any]:
    item: dict[str, Any] = {"pk": {"S": _PK}, "sk": {"S": _SK}, "total": {"N": str(total)}, "count": {"N": str(count)}}
    return item | {"hard": {"BOOL": True}} if hard else item


_HARD_70, _SOFT_70 = _shard(70, 2, hard=True), _shard(70, 2, hard=False)


def _found(before: dict[str, Any] | None, after: dict[str, Any], *writers: Writer) -> list[str]:
    return list(hardness.wrong_in([Change(_PK, _SK, before, after)], {(_PK, _SK): writers}))


def _writer(known: set[Rule], found: set[Rule], *quantities: int) -> Writer:
    return Writer(list(quantities) or [1], known, found)


@pytest.mark.parametrize("rule", [_SOFT, _NONE])
def test_a_writer_that_reads_no_hard_limit_may_lift_one(rule: Rule) -> None:
    assert _found(_HARD_70, _shard(71, 3, hard=False), _writer({rule}, {rule})) == []


def test_a_writer_that_only_remembers_no_hard_limit_must_not_lift_one() -> None:
    assert _found(_HARD_70, _shard(71, 3, hard=False), _writer({_SOFT, _HARD}, {_HARD})) == [_LIFTED]


def test_only_a_record_added_with_the_change_can_have_lifted_the_limit() -> None:
    others = [_writer({_SOFT}, {_SOFT}, 2), _writer({_SOFT}, {_SOFT}, 5, 6)]
    assert _found(_HARD_70, _shard(71, 3, hard=False), _writer({_SOFT}, {_HARD}), *others) == [_LIFTED]


def test_some_records_of_a_batch_may_lift_a_hard_limit() -> None:
    assert _found(_HARD_70, _shard(78, 4, hard=False), _writer({_SOFT}, {_SOFT}, 5, 1, 3)) == []


def test_a_writer_that_remembers_no_hard_limit_may_start_a_counter_without_one() -> None:
    assert _found(None, _shard(1, 1, hard=False), _writer({_HARD, _SOFT}, {_HARD})) == []


def test_a_writer_that_knows_only_a_hard_limit_must_start_a_counter_with_it() -> None:
    assert _found(None, _shard(1, 1, hard=False), _writer({_HARD}, {_HARD})) == [_BEGUN_SOFT]


def test_a_counter_without_a_hard_limit_never_gets_one() -> None:
    assert _found(_SOFT_70, _shard(71, 3, hard=True), _writer({_HARD}, {_HARD})) == [_CAME_BACK]
    assert _found(_SOFT_70, _shard(71, 3, hard=False), _writer({_HARD}, {_HARD})) == []


def test_no_usage_exceeds_every_hard_limit_that_its_request_may_know() -> None:
    larger = Rule(101, hard=True)
    assert _found(_HARD_70, _shard(101, 3, hard=True), _writer({_HARD, larger}, {_HARD}, 31)) == []
    assert _found(_HARD_70, _shard(101, 3, hard=True), _writer({_HARD, Rule(999)}, {_HARD}, 31)) == [
        f"{_COUNTER} was increased to 101 under a hard limit of at most 100"
    ]


def test_two_snapshots_show_a_lifted_hard_limit_without_the_stream() -> None:
    moments = [Snapshot(0.0, [_HARD_70], settled=True), Snapshot(1.0, [_SOFT_70], settled=True)]
    known = {(_PK, _SK): [_writer({_SOFT}, {_HARD})]}
    assert list(hardness.wrong_between(moments, known)) == [_LIFTED]
    assert list(hardness.wrong_between(moments, {(_PK, _SK): [_writer({_SOFT}, {_SOFT})]})) == []
    assert list(hardness.wrong_between(moments[::-1], known)) == [_CAME_BACK]


# The following tests corrupt the evidence of a real run.


@pytest.fixture(scope="module")
def true_evidence(on: Stage) -> Evidence:
    return run(EVERY_LIMIT, on).evidence


def _changes(evidence: Evidence) -> list[Change]:
    """The changes of the first shard of the counter under a hard limit: to 490, and to its later limit of 1034."""
    return [change for change in evidence.changes if change.sk == f"{FEATURES[-1]}#0"]


def test_the_evidence_of_a_real_run_is_accepted(true_evidence: Evidence) -> None:
    assert violations(true_evidence) == []
    assert [(change.after or {})["total"]["N"] for change in _changes(true_evidence)] == ["490", "1034"]


def _lift(evidence: Evidence) -> None:
    del (_changes(evidence)[-1].after or {})["hard"]


def _lift_in_the_table(evidence: Evidence) -> None:
    for item in evidence.snapshots[-1].items:
        if item["sk"]["S"] == f"{FEATURES[-1]}#0":
            del item["hard"]


def _begin_without(evidence: Evidence) -> None:
    del (_changes(evidence)[0].after or {})["hard"]


def _harden(evidence: Evidence) -> None:
    del (_changes(evidence)[-1].before or {})["hard"]


def _exceed(evidence: Evidence) -> None:
    (_changes(evidence)[0].after or {})["total"]["N"] = "901"


@pytest.mark.parametrize(
    ("corrupt", "expected"),
    [
        (_lift, "lost its hard limit because of a cached rule"),
        (_lift_in_the_table, "lost its hard limit because of a cached rule"),
        (_begin_without, "was created without a hard limit, but its request must have known one"),
        (_harden, "got a hard limit after it was created without one"),
        (_exceed, "was increased to 901 under a hard limit of at most 0"),
    ],
)
def test_the_checker_reports_the_violation(
    corrupt: Callable[[Evidence], None], expected: str, true_evidence: Evidence
) -> None:
    evidence = copy.deepcopy(true_evidence)
    corrupt(evidence)
    assert any(expected in violation for violation in violations(evidence))


@pytest.mark.parametrize(("ago_s", "is_seen"), [(30.0, True), (-0.001, False)])
def test_a_plan_that_was_soft_before_the_request_lifts_no_hard_limit(
    ago_s: float, is_seen: bool, true_evidence: Evidence
) -> None:
    """The last record's plan was soft until `ago_s` before its request."""
    evidence = copy.deepcopy(true_evidence)
    _lift(evidence)
    last = next(each for each in evidence.attempts if each.operation == 11)
    hard = next(each for each in evidence.done if isinstance(each.action, PlanApplied))
    own = next(
        each for each in evidence.done if isinstance(each.action, LimitsPut) and FEATURES[-1] in each.action.limits
    )
    assert isinstance(hard.action, PlanApplied)
    softened = {name: {**members, "enforcement": "soft"} for name, members in hard.action.features.items()}
    soft = replace(hard, action=replace(hard.action, features=softened))
    at_s = last.began_at_s - ago_s
    later = Done(hard.action, own.ended + 2, own.ended + 2, at_s, at_s)
    before = Done(soft.action, own.ended + 1, own.ended + 1, own.ended_at_s + 1, own.ended_at_s + 1)
    found = violations(replace(evidence, done=[*evidence.done, before, later]))
    assert any("lost its hard limit because of a cached rule" in each for each in found) is is_seen, found
