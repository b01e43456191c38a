"""The checker sees each kind of broken promise: in the evidence of a real run, spoilt in one respect."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from tests.faults.checker import violations
from tests.faults.crash_points import EVERY_WAY
from tests.faults.driver import Stage, run
from tests.faults.evidence import Attempt, Evidence
from tests.faults.history import secret_of

_PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.fixture(scope="module")
def true_evidence(on: Stage) -> Evidence:
    return run(EVERY_WAY, on).evidence


def test_the_evidence_of_a_run_without_faults_is_accepted(true_evidence: Evidence) -> None:
    assert violations(true_evidence) == []


def _record(evidence: Evidence, of: str = "request-5.0") -> list[dict[str, Any]]:
    """One usage record, in every snapshot that has it."""
    items = [item for snapshot in evidence.snapshots for item in snapshot.items]
    return [item for item in items if item.get("traceId", {}).get("S") == of]


def _remove(evidence: Evidence, item: dict[str, Any]) -> None:
    for snapshot in evidence.snapshots:
        while item in snapshot.items:
            snapshot.items.remove(item)


def _counter(evidence: Evidence) -> dict[str, Any]:
    return next(item for item in evidence.snapshots[-1].items if item["pk"]["S"].startswith("counter#acme#"))


def _with_attempt(evidence: Evidence, operation: int, **changes: Any) -> Evidence:
    index = next(at for at, attempt in enumerate(evidence.attempts) if attempt.operation == operation)
    attempts: list[Attempt] = list(evidence.attempts)
    attempts[index] = replace(attempts[index], **changes)
    return replace(evidence, attempts=attempts)


def _lose_event(evidence: Evidence) -> None:
    evidence.events.pop()


def _invent_event(evidence: Evidence) -> None:
    evidence.events.append(copy.deepcopy(evidence.events[0]))
    evidence.events[-1]["detail"]["id"] = "invented"


def _change_event(evidence: Evidence) -> None:
    evidence.events[0]["detail"]["payload"]["quantity"] += 1


def _change_repeat(evidence: Evidence) -> None:
    evidence.events.append(copy.deepcopy(evidence.events[0]))
    evidence.events[-1]["detail"]["payload"]["quantity"] += 1


def _break_schema(evidence: Evidence) -> None:
    evidence.events[0]["detail"]["more"] = "than there is"


def _date_event_otherwise(evidence: Evidence) -> None:
    evidence.events[0]["detail"]["occurredAt"] = "2026-01-01T00:00:00.000Z"


def _add_to_counter(evidence: Evidence) -> None:
    _counter(evidence)["total"]["N"] = str(int(_counter(evidence)["total"]["N"]) + 1)


def _count_once_more(evidence: Evidence) -> None:
    _counter(evidence)["count"]["N"] = str(int(_counter(evidence)["count"]["N"]) + 1)


def _move_to_another_shard(evidence: Evidence) -> None:
    _counter(evidence)["sk"]["S"] = _counter(evidence)["sk"]["S"][:-1] + "7"


def _lose_record(evidence: Evidence) -> None:
    _remove(evidence, _record(evidence)[0])


def _lose_record_at_last(evidence: Evidence) -> None:
    # Of the last phase, so that it has not expired.
    evidence.snapshots[-1].items.remove(_record(evidence, "request-9.0")[-1])


def _change_record_later(evidence: Evidence) -> None:
    _record(evidence)[-1]["quantity"] = {"N": "1"}


def _give_two_records_one_id(evidence: Evidence) -> None:
    for item in _record(evidence):
        item["eventId"] = _record(evidence, "request-3.0")[0]["eventId"]


def _change_record(evidence: Evidence) -> None:
    for item in _record(evidence):
        item["feature"] = {"S": "another"}


def _leave_out_metadata(evidence: Evidence) -> None:
    for item in _record(evidence):
        del item["metadata"]


def _give_record_to_another(evidence: Evidence) -> None:
    for item in _record(evidence):
        item["pk"] = {"S": item["pk"]["S"].replace("#acme#", "#bolt#")}
        item["organizationId"] = {"S": "bolt"}


def _take_record_from_everybody(evidence: Evidence) -> None:
    for item in _record(evidence):
        item["traceId"] = {"S": "nobody's"}


def _put_in_another_period(evidence: Evidence) -> None:
    for item in _record(evidence):
        item["billingPeriod"] = {"S": "2026-09"}


def _date_record_otherwise(evidence: Evidence) -> None:
    for item in _record(evidence):
        item["recordedAt"] = {"S": "2026-10-30T00:00:00.000Z"}


def _expire_early(evidence: Evidence) -> None:
    for item in _record(evidence):
        item["expiresAt"] = {"N": str(int(item["expiresAt"]["N"]) - 1)}


def _count_again_before_expiry(evidence: Evidence) -> None:
    # The record that took the key over, as if it had come before the first one expired.
    for item in _record(evidence, "request-9.0"):
        item["recordedAt"] = {"S": "2026-12-01T00:00:00.000Z"}


def _forget_what_was_spoilt(evidence: Evidence) -> None:
    evidence.kept.clear()


def _forget_what_was_refused(evidence: Evidence) -> None:
    for key, body in list(evidence.kept.items()):
        if "damaged" not in body.decode():
            del evidence.kept[key]


def _keep_without_reason(evidence: Evidence) -> None:
    for key, body in evidence.kept.items():
        evidence.kept[key] = json.dumps({**json.loads(body), "reason": ""}).encode()


def _keep_what_is_good(evidence: Evidence) -> None:
    record = {"dynamodb": {"NewImage": _record(evidence, "request-0.0")[0]}}
    evidence.kept["good"] = json.dumps({"reason": "none", "record": record}).encode()


def _keep_twice(evidence: Evidence) -> None:
    evidence.kept["failures/unpublishable/" + "0" * 64 + ".json"] = next(iter(evidence.kept.values()))


def _keep_elsewhere(evidence: Evidence) -> None:
    key = next(iter(evidence.kept))
    evidence.kept["elsewhere/" + key] = evidence.kept.pop(key)


def _publish_as_another(evidence: Evidence) -> None:
    evidence.events[0]["source"] = "saas.other"


def _leave_a_strange_item(evidence: Evidence) -> None:
    evidence.snapshots[-1].items.append({"pk": {"S": "cache#acme"}, "sk": {"S": "x"}})


def _hang(evidence: Evidence) -> None:
    evidence.hung.append("record 0.0")


def _give_up(evidence: Evidence) -> None:
    evidence.abandoned.append("12")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_lose_event, "was never published"),
        (_invent_event, "tells of no record"),
        (_change_event, "does not tell what its record holds"),
        (_change_repeat, "was delivered with two contents"),
        (_break_schema, "breaks its schema"),
        (_date_event_otherwise, "occurred at another time"),
        (_add_to_counter, "the counter is"),
        (_count_once_more, "the counter's count is"),
        (_move_to_another_shard, "the counter's shard is"),
        (_lose_record, "was told that it was recorded, and was not"),
        (_lose_record_at_last, "is gone before it expired"),
        (_change_record_later, "was changed after it was written"),
        (_give_two_records_one_id, "have one event id"),
        (_change_record, "is not what attempt 5.0 sent"),
        (_leave_out_metadata, "is not what attempt 5.0 sent"),
        (_give_record_to_another, "is not what attempt 5.0 sent"),
        (_take_record_from_everybody, "nobody asked for it"),
        (_put_in_another_period, "is in the period 2026-09"),
        (_date_record_otherwise, "was not under way"),
        (_expire_early, "expires at"),
        (_count_again_before_expiry, "was counted again:"),
        (_forget_what_was_spoilt, "the spoilt record usage#acme#damaged-0-0 is nowhere"),
        (_forget_what_was_refused, "the refused event"),
        (_keep_without_reason, "was kept without a reason"),
        (_keep_what_is_good, "was kept, and nothing is wrong with it"),
        (_keep_twice, "was kept before under another name"),
        (_keep_elsewhere, "was kept where nobody looks for it"),
        (_publish_as_another, "comes from saas.other"),
        (_leave_a_strange_item, "is of no kind that is known"),
        (_give_up, "was never done"),
        (_hang, "record 0.0 did not end"),
    ],
)
def test_it_sees(spoil: Callable[[Evidence], None], said: str, true_evidence: Evidence) -> None:
    evidence = copy.deepcopy(true_evidence)
    spoil(evidence)
    assert any(said in violation for violation in violations(evidence))


@pytest.mark.parametrize(
    ("operation", "changes", "said"),
    [
        (0, {"status": 500}, "was answered 500"),
        (0, {"headers": {"Idempotent-Replayed": "true"}}, "was recorded by itself and told that it is a replay"),
        (1, {"headers": {}}, "was told that it was recorded, and was not"),
        (1, {"status": 422, "body": {"code": "IDEMPOTENCY_KEY_REUSED"}}, "was told that its key was reused"),
        (2, {"status": 422, "body": {"code": "VALIDATION_FAILED"}}, "was answered {'code': 'VALIDATION_FAILED'}"),
        (2, {"status": 200, "body": {"recorded": True, "currentUsage": 1, "limitReached": False}}, "and was not"),
        (2, {"headers": {"Content-Type": "application/json"}}, "without a problem"),
        (2, {"body": {"code": "IDEMPOTENCY_KEY_REUSED"}}, "without a problem"),
        (2, {"status": 503, "headers": _PROBLEM, "body": {"status": 503, "retryable": True}}, "when to try again"),
        (3, {"status": 200, "body": {"recorded": False, "currentUsage": 1, "limitReached": True}}, "was answered {"),
        (3, {"body": {"recorded": True, "currentUsage": 1, "limitReached": False}}, "was told a total of 1,"),
        (3, {"body": {"recorded": True, "limitReached": False}}, "was told a total of None,"),
        (4, {"status": 403}, "of leaving was refused with 403"),
        (4, {"status": 404}, "of leaving was refused with 404"),
        (6, {"status": 403}, "was refused although its usage had been counted"),
        (7, {"status": 200, "body": {"recorded": True, "currentUsage": 1, "limitReached": False}}, "and was not"),
        (8, {"body": {"detail": f"it belongs to {secret_of('acme')}."}}, "of nobody was shown data of acme"),
        (8, {"body": {"detail": json.dumps({"sourceId": secret_of("bolt")})}}, "of nobody was shown data of bolt"),
        (8, {"headers": {"X-Owner": "acme-eu"}}, "of nobody was shown data of acme-eu"),
        (0, {"body": {"detail": "the key belongs to acme- already"}}, "of acme was shown data of acme-"),
        (-1, {"body": {"recorded": True, "currentUsage": 1, "limitReached": False}}, "at the end"),
        (-1, {"status": None}, "sent again at the end"),
    ],
)
def test_it_sees_a_wrong_answer(operation: int, changes: dict[str, Any], said: str, true_evidence: Evidence) -> None:
    evidence = _with_attempt(true_evidence, operation, **changes)
    assert any(said in violation for violation in violations(evidence))


def test_a_replay_in_the_very_moment_of_the_record_is_none_too_early(true_evidence: Evidence) -> None:
    (first,) = (item for item in true_evidence.snapshots[0].items if item.get("traceId", {}).get("S") == "request-0.0")
    moment_s = datetime.fromisoformat(first["recordedAt"]["S"]).timestamp()
    # A binary fraction may lie a hair below the millisecond that is stored.
    evidence = _with_attempt(true_evidence, 1, began_at_s=moment_s - 1e-6, ended_at_s=moment_s - 1e-6)
    assert violations(evidence) == []


def test_a_record_for_an_inactive_organization_is_seen(true_evidence: Evidence) -> None:
    evidence = replace(true_evidence, inactive=[("acme",), ("leaving",), ()])
    assert any("may not record" in violation for violation in violations(evidence))
