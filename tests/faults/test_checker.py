"""The checker finds each kind of broken promise in the evidence of a real run with one corruption."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

import pytest

from tests.faults.checker import violations
from tests.faults.crash_points import EVERY_LIMIT, EVERY_PATH
from tests.faults.driver import Stage, run
from tests.faults.evidence import Attempt, Done, Evidence
from tests.faults.workload import FEATURES, EventSent, LimitsPut, StatusPut, secret_of

pytestmark = pytest.mark.verify

_PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.fixture(scope="module")
def true_evidence(on: Stage) -> Evidence:
    return run(EVERY_PATH, on).evidence


def test_the_evidence_of_a_run_without_faults_is_accepted(true_evidence: Evidence) -> None:
    assert violations(true_evidence) == []


def _record(evidence: Evidence, of: str = "request-5.0") -> list[dict[str, Any]]:
    """One usage record in every snapshot that holds it."""
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


def _with_status(evidence: Evidence, organization: str, status: Literal["active", "inactive"]) -> Evidence:
    """The evidence, but every change of this organization's status sets `status`."""
    done = [
        replace(each, action=replace(each.action, status=status))
        if isinstance(each.action, StatusPut) and each.action.organization == organization
        else each
        for each in evidence.done
    ]
    return replace(evidence, done=done)


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
    # A record of the last phase, so that it has not expired.
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
    # Move the second record of the key to a time before the first one expires.
    for item in _record(evidence, "request-9.0"):
        item["recordedAt"] = {"S": "2026-12-01T00:00:00.000Z"}


def _forget_damaged_items(evidence: Evidence) -> None:
    evidence.kept.clear()


def _forget_unpublishable_events(evidence: Evidence) -> None:
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
    ("corrupt", "expected"),
    [
        (_lose_event, "was never published"),
        (_invent_event, "belongs to no record or notice"),
        (_change_event, "differs from its stored item"),
        (_change_repeat, "was delivered with different contents"),
        (_break_schema, "breaks its schema"),
        (_date_event_otherwise, "has another time than its stored item"),
        (_add_to_counter, "the counter is"),
        (_count_once_more, "the counter's count is"),
        (_move_to_another_shard, "the counter's shard is"),
        (_lose_record, "was answered as recorded, but has no record"),
        (_lose_record_at_last, "disappeared before it expired"),
        (_change_record_later, "was changed after it was written"),
        (_give_two_records_one_id, "share one event id"),
        (_change_record, "differs from what attempt 5.0 sent"),
        (_leave_out_metadata, "differs from what attempt 5.0 sent"),
        (_give_record_to_another, "differs from what attempt 5.0 sent"),
        (_take_record_from_everybody, "belongs to no request"),
        (_put_in_another_period, "is in the period 2026-09"),
        (_date_record_otherwise, "before or after attempt 5.0"),
        (_expire_early, "expires at"),
        (_count_again_before_expiry, "before its key expired"),
        (_forget_damaged_items, "the damaged item usage#acme#18 damaged-0-0 is not in the failure bucket"),
        (_forget_unpublishable_events, "the unpublishable event"),
        (_keep_without_reason, "was kept without a reason"),
        (_keep_what_is_good, "was kept, but its item is valid"),
        (_keep_twice, "was kept before under another name"),
        (_keep_elsewhere, "was kept under an unexpected key"),
        (_publish_as_another, "has the source saas.other"),
        (_leave_a_strange_item, "has an unknown kind"),
        (_give_up, "was never completed"),
        (_hang, "record 0.0 did not end"),
    ],
)
def test_the_checker_reports_the_violation(
    corrupt: Callable[[Evidence], None], expected: str, true_evidence: Evidence
) -> None:
    evidence = copy.deepcopy(true_evidence)
    corrupt(evidence)
    assert any(expected in violation for violation in violations(evidence))


@pytest.mark.parametrize(
    ("operation", "changes", "expected"),
    [
        (0, {"status": 500}, "was answered 500"),
        (0, {"headers": {"Idempotent-Replayed": "true"}}, "was recorded, but was answered as a replay"),
        (1, {"headers": {}}, "was answered as recorded, but has no record"),
        (1, {"status": 422, "body": {"code": "IDEMPOTENCY_KEY_REUSED"}}, "was answered as a conflict"),
        (2, {"status": 422, "body": {"code": "VALIDATION_FAILED"}}, "was answered {'code': 'VALIDATION_FAILED'}"),
        (2, {"status": 200, "body": {"recorded": True, "currentUsage": 1, "limitReached": False}}, "has no record"),
        (2, {"headers": {"Content-Type": "application/json"}}, "without a problem"),
        (2, {"body": {"code": "IDEMPOTENCY_KEY_REUSED"}}, "without a problem"),
        (2, {"status": 503, "headers": _PROBLEM, "body": {"status": 503, "retryable": True}}, "without a time to try"),
        (3, {"status": 200, "body": {"recorded": False, "currentUsage": 1, "limitReached": True}}, "was refused with"),
        (3, {"status": 200, "body": {"currentUsage": 1, "limitReached": False}}, "was answered {"),
        (3, {"body": {"recorded": True, "currentUsage": 1, "limitReached": False}}, "got a total of 1,"),
        (3, {"body": {"recorded": True, "limitReached": False}}, "got a total of None,"),
        (4, {"status": 403}, "of leaving was wrongly answered 403"),
        (4, {"status": 404}, "of leaving was wrongly answered 404"),
        (6, {"status": 403}, "was answered 403 although its usage had been counted"),
        (7, {"status": 200, "body": {"recorded": True, "currentUsage": 1, "limitReached": False}}, "has no record"),
        (8, {"body": {"detail": f"it belongs to {secret_of('acme')}."}}, "of nobody was shown data of acme"),
        (8, {"body": {"detail": json.dumps({"sourceId": secret_of("bolt")})}}, "of nobody was shown data of bolt"),
        (8, {"headers": {"X-Owner": "acme-eu"}}, "of nobody was shown data of acme-eu"),
        (0, {"body": {"detail": "the key belongs to acme- already"}}, "of acme was shown data of acme-"),
        (-1, {"body": {"recorded": True, "currentUsage": 1, "limitReached": False}}, "at the end"),
        (-1, {"status": None}, "sent again at the end"),
    ],
)
def test_the_checker_reports_a_wrong_answer(
    operation: int, changes: dict[str, Any], expected: str, true_evidence: Evidence
) -> None:
    evidence = _with_attempt(true_evidence, operation, **changes)
    assert any(expected in violation for violation in violations(evidence))


def test_a_replay_in_the_records_own_millisecond_is_not_too_early(true_evidence: Evidence) -> None:
    (first,) = (item for item in true_evidence.snapshots[0].items if item.get("traceId", {}).get("S") == "request-0.0")
    moment_s = datetime.fromisoformat(first["recordedAt"]["S"]).timestamp()
    # A binary fraction may be slightly below the stored millisecond.
    evidence = _with_attempt(true_evidence, 1, began_at_s=moment_s - 1e-6, ended_at_s=moment_s - 1e-6)
    assert violations(evidence) == []


@pytest.mark.parametrize(("is_under_way", "is_seen"), [(True, False), (False, True)])
@pytest.mark.parametrize("status", [403, 404, 422])
def test_an_error_answer_settles_nothing_while_a_copy_of_the_request_runs(
    status: int, is_under_way: bool, is_seen: bool, true_evidence: Evidence
) -> None:
    attempt = next(each for each in true_evidence.attempts if each.operation == 5)
    lost = replace(attempt, status=None, body={}, headers={}, ended=attempt.ended + 2 * is_under_way)
    began, ended = attempt.ended + 1, attempt.ended + 3
    # A conflict is not final for the copy either, because the key may have expired since then.
    body = {"code": "IDEMPOTENCY_KEY_REUSED"} if status == 422 else {}
    again = replace(attempt, number=1, trace_id="request-5.1", status=status, body=body, began=began, ended=ended)
    # Leave out the request at the end that acknowledges the record.
    others = [each for each in true_evidence.attempts if each.operation >= 0 and each is not attempt]
    found = violations(replace(true_evidence, attempts=[*others, lost, again]))
    assert any("but answers acknowledged" in violation for violation in found) is is_seen


_MAY_NOT = "record acme k was recorded for an unknown or inactive organization"


def test_the_checker_reports_a_record_for_an_inactive_organization(true_evidence: Evidence) -> None:
    assert _MAY_NOT in violations(_with_status(true_evidence, "acme", "inactive"))


# An environment's clock may run ahead of the shared time for as long as a request may take.
@pytest.mark.parametrize(("ago_s", "is_seen"), [(60 + 2 + 16, True), (59.0, False)])
def test_the_checker_allows_a_status_cached_for_a_minute(ago_s: float, is_seen: bool, true_evidence: Evidence) -> None:
    attempt = next(each for each in true_evidence.attempts if each.operation == 0)
    moments = (0.0, attempt.began_at_s - ago_s, attempt.ended_at_s + 0.5)
    active, inactive = StatusPut(-9, -1, "acme", "active"), StatusPut(-9, -1, "acme", "inactive")
    actions = zip((active, inactive, active), moments, strict=True)
    puts = [Done(action, number, number, at_s, at_s) for number, (action, at_s) in enumerate(actions)]
    others = [each for each in true_evidence.done if each.action != StatusPut(each.action.id, -1, "acme", "active")]
    assert (_MAY_NOT in violations(replace(true_evidence, done=[*others, *puts]))) is is_seen


# The following tests are about limits and about events on organizations.


@pytest.fixture(scope="module")
def evidence_of_limits(on: Stage) -> Evidence:
    return run(EVERY_LIMIT, on).evidence


def test_the_evidence_of_limits_that_hold_is_accepted(evidence_of_limits: Evidence) -> None:
    assert violations(evidence_of_limits) == []


def _notices(evidence: Evidence, sk: str) -> list[dict[str, Any]]:
    """One notice in every snapshot that holds it."""
    items = [item for snapshot in evidence.snapshots for item in snapshot.items]
    return [item for item in items if item["pk"]["S"].startswith("notice#") and item["sk"]["S"] == sk]


def _event(evidence: Evidence, key: str) -> dict[str, Any]:
    return next(event["detail"] for event in evidence.events if event["detail"]["key"] == key)


def _lose_notice(evidence: Evidence) -> None:
    (event_id,) = {item["eventId"]["S"] for item in _notices(evidence, "api_calls#280#100")}
    for snapshot in evidence.snapshots:
        snapshot.items[:] = [item for item in snapshot.items if item.get("eventId", {}).get("S") != event_id]
    evidence.events[:] = [event for event in evidence.events if event["detail"]["id"] != event_id]


def _notice_twice(evidence: Evidence) -> None:
    for item in _notices(evidence, "api_calls#280#100")[-1:]:
        item["eventId"] = {"S": "another"}


def _lose_event_of_notice(evidence: Evidence) -> None:
    evidence.events[:] = [event for event in evidence.events if event["detail"]["key"] != "billing.limit.reached"]


def _publish_notice_as_another(evidence: Evidence) -> None:
    _event(evidence, "billing.limit.reached")["payload"]["currentUsage"] += 1


def _trace_notice(evidence: Evidence) -> None:
    _event(evidence, "billing.limit.approaching")["traceId"] = "request-1.0"


def _notice_of_nobodys_limit(evidence: Evidence) -> None:
    for item in _notices(evidence, "api_calls#280#80"):
        item["sk"] = {"S": "api_calls#281#80"}


def _notice_of_nobodys_threshold(evidence: Evidence) -> None:
    for item in _notices(evidence, "api_calls#280#80"):
        item["sk"] = {"S": "api_calls#280#81"}


def _notice_too_early(evidence: Evidence) -> None:
    for item in _notices(evidence, "api_calls#280#100"):
        item["currentUsage"] = {"N": "279"}


def _notice_more_than_there_is(evidence: Evidence) -> None:
    for item in _notices(evidence, "storage_gb#500#100"):
        item["currentUsage"] = {"N": "636"}


def _change_notice_later(evidence: Evidence) -> None:
    _notices(evidence, "api_calls#280#100")[-1]["currentUsage"] = {"N": "300"}


def _notice_of_a_limit_of_before(evidence: Evidence) -> None:
    # A limit of 900 was in force an hour before, so only the time of the notice is wrong.
    for item in _notices(evidence, f"{FEATURES[-1]}#1034#100"):
        item["sk"] = {"S": f"{FEATURES[-1]}#900#100"}


def _notice_for_an_hour(evidence: Evidence) -> None:
    for item in _notices(evidence, "api_calls#280#100"):
        item["expiresAt"] = {"N": str(int(item["expiresAt"]["N"]) - 399 * 86_400)}


def _notice_long_ago(evidence: Evidence) -> None:
    for item in _notices(evidence, "api_calls#280#100"):
        item["noticedAt"] = {"S": "1970-01-01T00:00:00.000Z"}


def _spread_under_a_hard_limit(evidence: Evidence) -> None:
    item = _hard_counter(evidence)
    half = {**item, "sk": {"S": item["sk"]["S"][:-1] + "1"}, "total": {"N": "1"}, "count": {"N": "0"}}
    item["total"] = {"N": str(int(item["total"]["N"]) - 1)}
    evidence.snapshots[-1].items.append(half)


def _keep_the_mark_of_a_hard_limit(evidence: Evidence) -> None:
    _counter_of(evidence, "storage_gb")["hard"] = {"BOOL": True}


def _hard_counter(evidence: Evidence) -> dict[str, Any]:
    return _counter_of(evidence, FEATURES[-1])


def _counter_of(evidence: Evidence, feature: str) -> dict[str, Any]:
    return next(
        item
        for item in evidence.snapshots[-1].items
        if item["pk"]["S"].startswith("counter#acme#") and item["sk"]["S"].startswith(f"{feature}#")
    )


def _lose_a_plans_limit(evidence: Evidence) -> None:
    plan = next(item for item in evidence.snapshots[-1].items if item["pk"]["S"] == "plan#free")
    plan["features"]["M"]["api_calls"]["M"]["limit"] = {"NULL": True}


def _listed(evidence: Evidence) -> dict[str, Any]:
    return next(item for item in evidence.snapshots[-1].items if item["pk"]["S"] == "features")


def _forget_a_feature(evidence: Evidence) -> None:
    _listed(evidence)["known"]["SS"].remove("api_calls")


def _forget_a_plan(evidence: Evidence) -> None:
    _listed(evidence)["plans"] = {"SS": ["pro"]}


def _lose_an_own_limit(evidence: Evidence) -> None:
    del _organization(evidence)["limits"]["M"][FEATURES[-1]]


def _believe_the_outdated_event(evidence: Evidence) -> None:
    _organization(evidence)["planId"] = {"S": "pro"}


def _set_inactive(evidence: Evidence) -> None:
    _organization(evidence)["status"] = {"S": "inactive"}


def _lose_organization(evidence: Evidence) -> None:
    evidence.snapshots[-1].items.remove(_organization(evidence, "newcomer"))


def _organization(evidence: Evidence, name: str = "acme") -> dict[str, Any]:
    return next(item for item in evidence.snapshots[-1].items if item["pk"]["S"] == f"organization#{name}")


def _lose_rejected(evidence: Evidence) -> None:
    evidence.queued.clear()


def _reject_without_reason(evidence: Evidence) -> None:
    evidence.queued[0] = json.dumps({**json.loads(evidence.queued[0]), "reason": ""})


def _reject_what_is_good(evidence: Evidence) -> None:
    good = next(
        done.action for done in evidence.done if isinstance(done.action, EventSent) and not done.action.malformed
    )
    evidence.queued.append(json.dumps({"reason": "none", "event": good.event}))


def _exceed_hard_limit(evidence: Evidence) -> None:
    # Raise the recorded 490 to 901, beyond the hard limit of 900.
    for item in _record(evidence, "request-4.0"):
        item["quantity"] = {"N": "901"}
    _with_counter(evidence, FEATURES[-1], 901 - 490)


def _with_counter(evidence: Evidence, feature: str, more: int) -> None:
    for snapshot in evidence.snapshots:
        for item in snapshot.items:
            if item["pk"]["S"].startswith("counter#acme#") and item["sk"]["S"].startswith(feature):
                item["total"] = {"N": str(int(item["total"]["N"]) + more)}


@pytest.mark.parametrize(
    ("corrupt", "expected"),
    [
        (_lose_notice, "but has no notice"),
        (_notice_twice, "was noticed 2 times"),
        (_lose_event_of_notice, "was never published"),
        (_publish_notice_as_another, "differs from its stored item"),
        (_trace_notice, "has the trace id of another request"),
        (_notice_of_nobodys_limit, "has a threshold that was not set at 2026-11-10T13:"),
        (_notice_of_nobodys_threshold, "has a threshold that was not set at 2026-11-10T13:"),
        (_notice_of_a_limit_of_before, "has a threshold that was not set at 2026-11-10T15:"),
        (_notice_long_ago, "has a threshold that was not set at 1970-"),
        (_notice_for_an_hour, "expires at"),
        (_spread_under_a_hard_limit, "is under a hard limit, but has 2 items"),
        (_keep_the_mark_of_a_hard_limit, "is under a hard limit, but holds usage that was counted without one"),
        (_lose_a_plans_limit, "but the last apply wrote one of"),
        (_forget_a_feature, "are listed as"),
        (_forget_a_plan, "are listed as ['pro']"),
        (_lose_an_own_limit, "but the last write was one of [1034]"),
        (_notice_too_early, "has a usage of 279, below its threshold"),
        (_notice_more_than_there_is, "has a usage of 636, but the counter is 635"),
        (_change_notice_later, "was changed after it was written"),
        (_believe_the_outdated_event, "but the latest events say"),
        (_set_inactive, "but the latest events say"),
        (_lose_organization, "but the latest events say"),
        (_lose_rejected, "the malformed event c is not in the queue"),
        (_reject_without_reason, "was rejected without a reason"),
        (_reject_what_is_good, "was rejected, but is valid"),
        (_exceed_hard_limit, "beyond its hard limit"),
    ],
)
def test_the_checker_reports_the_violated_limit(
    corrupt: Callable[[Evidence], None], expected: str, evidence_of_limits: Evidence
) -> None:
    evidence = copy.deepcopy(evidence_of_limits)
    corrupt(evidence)
    assert any(expected in violation for violation in violations(evidence))


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        (2, {"limit": 280}, "got the limit 280, expected one of {300}"),
        (2, {"limit": None}, "got the limit None"),
        (0, {"limit": 300}, "got the limit 300, expected one of {None}"),
        (2, {"limitReached": True}, "got a wrong limitReached, expected False"),
        (10, {"limitReached": False}, "got a wrong limitReached, expected True"),
        # Operation 5 is refused in the transaction, operation 6 before it.
        (5, {"limit": 901}, "but the possible hard limits are {900}"),
        (5, {"limitReached": False}, "but the possible hard limits are {900}"),
        (5, {"currentUsage": 356}, "of 544 was refused although it fits"),
        (5, {"currentUsage": 491}, "got a total of 491, expected one within [(490, 490)]"),
        (5, {"recorded": True}, "was answered as recorded, but has no record"),
        (6, {"recorded": True}, "was answered as recorded, but has no record"),
        # Refused in the answer, although it was recorded, was a replay, or its counter has no hard limit.
        (4, {"recorded": False, "limitReached": True}, "was answered as refused, but was recorded"),
        (7, {"recorded": False, "limitReached": True}, "was refused although its usage had been counted"),
        (8, {"recorded": False}, "was refused, but no hard limit can apply in its period"),
        (3, {"recorded": False, "limitReached": True}, "but the possible hard limits are set()"),
    ],
)
def test_the_checker_reports_a_wrong_answer_about_a_limit(
    operation: int, body: dict[str, Any], expected: str, evidence_of_limits: Evidence
) -> None:
    attempt = next(each for each in evidence_of_limits.attempts if each.operation == operation)
    evidence = _with_attempt(evidence_of_limits, operation, body={**attempt.body, **body})
    assert any(expected in violation for violation in violations(evidence))


def test_the_checker_reports_records_that_together_exceed_a_hard_limit(evidence_of_limits: Evidence) -> None:
    # 490 and 544 fill the limit of 1034. Under a limit of 1033 only their sum is wrong, not one of the records.
    done = [
        replace(each, action=replace(each.action, limits={**each.action.limits, FEATURES[-1]: 1033}))
        if isinstance(each.action, LimitsPut) and FEATURES[-1] in each.action.limits
        else each
        for each in evidence_of_limits.done
    ]
    expected = violations(replace(evidence_of_limits, done=done))
    assert any("is 1034, beyond its hard limit 1033" in violation for violation in expected)
