"""The checker sees what is wrong with a batch: in the evidence of a real run, spoilt in one respect."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checker import violations
from tests.faults.crash_points import EVERY_BATCH
from tests.faults.driver import Stage, run
from tests.faults.evidence import BatchAttempt, Evidence
from tests.faults.workload import secret_of

pytestmark = pytest.mark.verify

# The first batch's records, by their place.
_NEW, _OF_BEFORE, _GB, _AGAIN, _HARD, _NOT_FITTING, _OTHER, _FLAWED, _MORE_GB = range(9)


@pytest.fixture(scope="module")
def true_evidence(on: Stage) -> Evidence:
    return run(EVERY_BATCH, on).evidence


def test_the_evidence_of_batches_is_accepted(true_evidence: Evidence) -> None:
    assert violations(true_evidence) == []
    assert [batch.operation for batch in true_evidence.batches] == [1, 2, 3, 4, 5]


Change = Callable[[dict[str, Any]], None]


def _answered(evidence: Evidence, operation: int, change: Change) -> Evidence:
    """The evidence with the body of that batch's answer changed, its totals in step."""
    batches = list(evidence.batches)
    body = copy.deepcopy(batches[operation - 1].body)
    change(body)
    # Another object, so that nothing of the true answer is remembered.
    batches[operation - 1] = replace(batches[operation - 1], body=body)
    return replace(evidence, batches=batches)


def _result(place: int, **members: Any) -> Change:
    """Other members in the result at this place; one that is `...` is taken out."""

    def change(body: dict[str, Any]) -> None:
        result = body["results"][place]
        body["totals"][result["status"]] -= 1
        result.update(members)
        body["results"][place] = {name: value for name, value in result.items() if value is not ...}
        body["totals"][result["status"]] = body["totals"].get(result["status"], 0) + 1

    return change


def _swap_results(body: dict[str, Any]) -> None:
    body["results"].reverse()


def _lose_result(body: dict[str, Any]) -> None:
    body["totals"][body["results"].pop()["status"]] -= 1


def _tell_nothing(body: dict[str, Any]) -> None:
    body.clear()


def _tell_in_words(body: dict[str, Any]) -> None:
    body["results"] = ["recorded"] * 9


def _miscount(body: dict[str, Any]) -> None:
    body["totals"]["recorded"] += 1


def _leave_out_a_total(body: dict[str, Any]) -> None:
    del body["totals"]["unavailable"]


def _forget_the_issues(body: dict[str, Any]) -> None:
    body["results"][_FLAWED]["problem"]["issues"] = []


def _another_problem(body: dict[str, Any]) -> None:
    body["results"][_OTHER]["problem"] |= {"status": 503, "code": "SERVICE_UNAVAILABLE"}


def _show_anothers(body: dict[str, Any]) -> None:
    body["results"][_OTHER]["problem"]["detail"] = f"The key stands for {secret_of('bolt')}."


_RECORDED: dict[str, Any] = {"status": "recorded", "currentUsage": 24, "limitReached": False, "problem": ...}
_REUSED = {"status": 422, "code": "IDEMPOTENCY_KEY_REUSED"}
_CONFLICT: dict[str, Any] = {"status": "conflict", "problem": _REUSED, "currentUsage": ..., "limitReached": ...}
_BUSY = {"status": 503, "code": "SERVICE_UNAVAILABLE", "retryable": True}
_UNAVAILABLE: dict[str, Any] = {**_CONFLICT, "status": "unavailable", "problem": _BUSY}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_swap_results, "attempt 1.0 of 9 records was answered on [8, 7,"),
        (_lose_result, "attempt 1.0 of 9 records was answered on [0, 1,"),
        (_tell_nothing, "attempt 1.0 of 9 records was answered on []"),
        (_tell_in_words, "attempt 1.0 of 9 records was answered on []"),
        (_result(_NEW, status="done"), "with a status that there is not: {'done'}"),
        (_miscount, "was told the totals"),
        (_leave_out_a_total, "was told the totals"),
        (_result(_FLAWED, **_RECORDED), "attempt 1.0[7] breaks the contract, and was answered"),
        (_forget_the_issues, "attempt 1.0[7] was not told what breaks the contract"),
        (_result(_NEW, problem=_REUSED), "attempt 1.0[0] was recorded, and told of a problem"),
        (_result(_NEW, currentUsage=..., limitReached=...), "attempt 1.0[0] was told no total, and there was time"),
        (_result(_NEW, currentUsage=...), "attempt 1.0[0] was told of a limit, and not of the total"),
        (_result(_OTHER, currentUsage=24), "attempt 1.0[6] was not counted, and told a total"),
        (_another_problem, "attempt 1.0[6] is conflict, and its problem another one"),
        (_result(_OTHER, **_UNAVAILABLE), "attempt 1.0[6] is unavailable, and its problem another one"),
        (_result(_OTHER, problem=...), "attempt 1.0[6] is conflict, and its problem another one: None"),
        (_show_anothers, "attempt 1.0 of acme was shown data of bolt"),
        # Each record for itself.
        (_result(_NEW, status="replayed"), "attempt 1.0[0] was recorded by itself and told that it is a replay"),
        (_result(_NEW, status="refused"), "attempt 1.0[0] was told that it was refused, and was recorded"),
        (_result(_NEW, **_CONFLICT), "attempt 1.0[0] was told that its key was reused, and it was not"),
        (_result(_NEW, limit=900), "attempt 1.0[0] was told the limit 900"),
        (_result(_HARD, limitReached=True), "attempt 1.0[4] was told that a limit is reached"),
        (_result(_OF_BEFORE, status="recorded"), "attempt 1.0[1] was told that it was recorded, and was not"),
        (_result(_OF_BEFORE, status="refused"), "attempt 1.0[1] was refused although its usage had been counted"),
        (_result(_AGAIN, status="recorded"), "attempt 1.0[3] was told that it was recorded, and was not"),
        (_result(_AGAIN, **_CONFLICT), "attempt 1.0[3] was told that its key was reused, and it was not"),
        (_result(_OTHER, **_RECORDED), "attempt 1.0[6] was told that it was recorded, and was not"),
        (_result(_OTHER, **{**_RECORDED, "status": "replayed"}), "attempt 1.0[6] was told that it is a replay, and"),
        (_result(_NOT_FITTING, status="recorded"), "attempt 1.0[5] was told that it was recorded, and was not"),
        (_result(_NOT_FITTING, limit=901), "and hard limits can only have been {900}"),
        (_result(_NOT_FITTING, limitReached=False), "and hard limits can only have been {900}"),
        (_result(_NOT_FITTING, currentUsage=356), "attempt 1.0[5] of 544 was refused although it fits"),
        # The total is that after the whole batch, with what was there before.
        (_result(_NEW, currentUsage=13), "attempt 1.0[0] was told a total of 13, and it can only have been 24 to 24"),
        (_result(_GB, currentUsage=569), "attempt 1.0[2] was told a total of 569, and it can only have been 635 to"),
        (_result(_GB, currentUsage=636), "attempt 1.0[2] was told a total of 636, and it can only have been 635 to"),
        (_result(_NOT_FITTING, currentUsage=489), "attempt 1.0[5] was told a total of 489, and it can only have been"),
    ],
)
def test_it_sees_a_wrong_answer(change: Change, expected: str, true_evidence: Evidence) -> None:
    found = violations(_answered(true_evidence, 1, change))
    assert any(expected in violation for violation in found), found


def test_a_total_that_could_not_be_read_in_time_may_be_missing(true_evidence: Evidence) -> None:
    evidence = _answered(true_evidence, 1, _result(_NEW, currentUsage=..., limitReached=...))
    late = replace(evidence.batches[0], ended_at_s=evidence.batches[0].began_at_s + 7)
    assert violations(replace(evidence, batches=[late, *evidence.batches[1:]])) == []


def test_what_is_unavailable_may_have_been_recorded_or_not(true_evidence: Evidence) -> None:
    problem = {**_BUSY, "retryAfter": 1}
    for place in (_GB, _NOT_FITTING):
        change = _result(place, **{**_UNAVAILABLE, "problem": problem, "limit": ...})
        evidence = _answered(true_evidence, 1, change)
        # Only what was answered for good must be in the sum that clients were told of.
        assert [each for each in violations(evidence) if "clients were told of" not in each] == []


def test_it_sees_that_a_later_record_was_preferred(true_evidence: Evidence) -> None:
    """The one that does not fit comes before the one that took its room."""
    batches = copy.deepcopy(true_evidence.batches)
    results, records = batches[0].body["results"], list(batches[0].records)
    for each in (results, records):
        each[_HARD], each[_NOT_FITTING] = each[_NOT_FITTING], each[_HARD]
    results[_HARD]["index"], results[_NOT_FITTING]["index"] = _HARD, _NOT_FITTING
    batches[0] = replace(batches[0], records=tuple(records))
    expected = "attempt 1.0[4] of 544 was refused although it fits, before what comes after it"
    assert any(expected in violation for violation in violations(replace(true_evidence, batches=batches)))


def _whole(evidence: Evidence, operation: int, **changes: Any) -> Evidence:
    batches: list[BatchAttempt] = list(evidence.batches)
    batches[operation - 1] = replace(batches[operation - 1], **changes)
    return replace(evidence, batches=batches)


def _problem(status: int, code: str) -> dict[str, Any]:
    return {
        "status": status,
        "headers": {"Content-Type": "application/problem+json"},
        "body": {"status": status, "code": code},
    }


@pytest.mark.parametrize(
    ("operation", "changes", "expected"),
    [
        (1, _problem(403, "FORBIDDEN"), "attempt 1.0[0] of acme was refused with 403"),
        (1, _problem(404, "NOT_FOUND"), "attempt 1.0[0] of acme was refused with 404"),
        (1, _problem(422, "VALIDATION_FAILED"), "attempt 1.0[0] was answered {'status': 422"),
        (1, _problem(500, "INTERNAL_ERROR"), "attempt 1.0[0] was answered 500"),
        (1, _problem(503, "SERVICE_UNAVAILABLE"), "attempt 1.0 was not told when to try again"),
        (2, {"status": 400, "body": {"detail": "malformed"}}, "attempt 2.0 was answered 400 without a problem"),
        # Some of it was recorded before the organization was set inactive.
        (4, _problem(403, "FORBIDDEN"), "attempt 4.0[0] was refused although its usage had been counted"),
        (5, {"headers": {"X-Owner": "bolt"}}, "attempt 5.0 of acme was shown data of bolt"),
    ],
)
def test_it_sees_a_wrong_answer_to_the_whole(
    operation: int, changes: dict[str, Any], expected: str, true_evidence: Evidence
) -> None:
    found = violations(_whole(true_evidence, operation, **changes))
    assert any(expected in violation for violation in found), found


def test_it_sees_a_batch_that_nobody_may_record_answered_as_one_that_somebody_may(true_evidence: Evidence) -> None:
    problem = true_evidence.batches[4].body
    results = [{"index": index, "status": "invalid", "problem": problem} for index in range(2)]
    totals = {"recorded": 0, "replayed": 0, "refused": 0, "conflict": 0, "invalid": 2, "unavailable": 0}
    evidence = _whole(true_evidence, 5, status=200, headers={}, body={"results": results, "totals": totals})
    assert violations(evidence) == ["attempt 5.0 was answered 200, and nobody may record"]


def _records(evidence: Evidence, key: str) -> list[dict[str, Any]]:
    """One usage record, in every snapshot that has it."""
    items = [item for snapshot in evidence.snapshots for item in snapshot.items]
    return [item for item in items if item["pk"]["S"] == f"usage#acme#{key}"]


def _lose_one_of_a_batch(evidence: Evidence) -> None:
    for snapshot in evidence.snapshots:
        snapshot.items[:] = [item for item in snapshot.items if item["pk"]["S"] != "usage#acme#m"]


def _record_it_again(evidence: Evidence) -> None:
    _records(evidence, "m")[-1]["eventId"] = {"S": "another"}


def _change_one_of_a_batch(evidence: Evidence) -> None:
    for item in _records(evidence, "m"):
        item["sourceType"] = {"S": "another"}


def _record_what_was_not_in_it(evidence: Evidence) -> None:
    for item in _records(evidence, "m"):
        item["pk"] = {"S": "usage#acme#m2"}


def _record_the_flawed(evidence: Evidence) -> None:
    # As if the record of a neighbour were that of the flawed one.
    for item in _records(evidence, "m"):
        item["pk"] = {"S": "usage#acme#c"}
        item["feature"] = {"S": "api_calls"}


def _date_it_to_the_next_batch(evidence: Evidence) -> None:
    for item in _records(evidence, "m"):
        item["recordedAt"] = {"S": "2026-11-10T14:00:00.000Z"}


def _count_beyond_the_limit(evidence: Evidence) -> None:
    for item in _records(evidence, "a"):
        item["quantity"] = {"N": "901"}


@pytest.mark.parametrize(
    ("corrupt", "expected"),
    [
        (_lose_one_of_a_batch, "attempt 1.0[8] was told that it was recorded, and was not"),
        (_record_it_again, "attempt 1.0[8] was recorded more than once"),
        (_change_one_of_a_batch, "record acme m is not what attempt 1.0[8] sent"),
        (_record_what_was_not_in_it, "record acme m2 is not what attempt 1.0[0] sent"),
        (_record_the_flawed, "record acme c is not what attempt 1.0[0] sent"),
        (_date_it_to_the_next_batch, "when attempt 1.0[8] was not under way"),
        (_count_beyond_the_limit, "beyond its hard limit"),
    ],
)
def test_it_sees(corrupt: Callable[[Evidence], None], expected: str, true_evidence: Evidence) -> None:
    evidence = copy.deepcopy(true_evidence)
    corrupt(evidence)
    found = violations(evidence)
    assert any(expected in violation for violation in found), found


def test_it_sees_records_of_one_batch_that_exceed_a_hard_limit_only_together(true_evidence: Evidence) -> None:
    """490 of 900, and as if what was refused beside it had been recorded with it."""
    evidence = copy.deepcopy(true_evidence)
    for snapshot in evidence.snapshots:
        beside = [copy.deepcopy(item) for item in snapshot.items if item["pk"]["S"] == "usage#acme#a"]
        for item in beside:
            item |= {"pk": {"S": "usage#acme#f"}, "quantity": {"N": "544"}, "eventId": {"S": "beside"}}
        snapshot.items.extend(beside)
    found = violations(evidence)
    assert any("record acme a took" in violation and "to 1034, beyond its hard" in violation for violation in found), (
        found
    )
