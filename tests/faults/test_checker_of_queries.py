"""The checker finds wrong answers of queries. The tests add correct and wrong answers to the evidence of a real run."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checker import violations
from tests.faults.crash_points import EVERY_LIMIT
from tests.faults.driver import Stage, run
from tests.faults.evidence import Asked, Attempt, Evidence
from tests.faults.stored import fact_in
from tests.faults.workload import FEATURES, UNKNOWN_ORGANIZATION

pytestmark = pytest.mark.verify

_LONG = FEATURES[-1]
_PROBLEM = {"Content-Type": "application/problem+json"}
# The usage at the end. The limits are a soft 300, a hard 500 that does not apply, and a hard 1034.
_API, _GB, _LAST = 1187, 635, 1034


@pytest.fixture(scope="module")
def true_evidence(on: Stage) -> Evidence:
    return run(EVERY_LIMIT, on).evidence


def _record(evidence: Evidence) -> dict[str, Any]:
    """The correct answer of `usage.get` for the last record."""
    item = next(item for item in evidence.snapshots[-1].items if item["sk"]["S"] == "f")
    sent = next(each for each in evidence.attempts if each.operation == 11).content
    texts = {name: item[name]["S"] for name in ("billingPeriod", "recordedAt", "eventId")}
    return {"idempotencyKey": "f", **sent, **texts}


def _list(evidence: Evidence, feature: str | None = None) -> dict[str, Any]:
    """The correct answer of `usage.list` for all records of acme, or of one feature."""
    records = []
    for item in evidence.snapshots[-1].items:
        if not item["pk"]["S"].startswith("usage#acme#") or feature not in (None, item["feature"]["S"]):
            continue
        names = ("feature", "billingPeriod", "recordedAt", "eventId", "sourceId", "sourceType")
        record: dict[str, Any] = {name: item[name]["S"] for name in names if name in item}
        record |= {"idempotencyKey": item["sk"]["S"], "quantity": int(item["quantity"]["N"])}
        records.append(record | ({"metadata": json.loads(item["metadata"]["S"])} if "metadata" in item else {}))
    return {"records": records}


def _asked(evidence: Evidence, query: str, body: Mapping[str, Any], /, **changes: Any) -> Asked:
    """A query after all other requests."""
    last = max(evidence.attempts, key=lambda each: each.ended)
    parameters = {"feature.check": {"feature": _LONG}, "usage.get": {"idempotencyKey": "f"}}.get(query, {})
    asked = Asked(
        number=1,
        query=query,
        organization="acme",
        began=last.ended + 1,
        ended=last.ended + 2,
        began_at_s=last.ended_at_s,
        ended_at_s=last.ended_at_s,
        parameters=parameters,
        status=200,
        body=dict(body),
    )
    return replace(asked, **changes)


def _summary(**used: int) -> dict[str, Any]:
    usage = [
        {"feature": "api_calls", "used": used.get("api", _API), "limit": 300, "percentage": 395.7},
        {"feature": _LONG, "used": used.get("last", _LAST), "limit": 1034, "percentage": 100.0},
        {"feature": "storage_gb", "used": used.get("gb", _GB), "limit": 500, "percentage": 127.0},
    ]
    bounds = {"periodStart": "2026-11-01T00:00:00.000Z", "periodEnd": "2026-12-01T00:00:00.000Z"}
    return {"billingPeriod": "2026-11", **bounds, "usage": usage}


def _by_day(evidence: Evidence) -> dict[str, Any]:
    """The correct answer by day: the sums of the records of each date."""
    facts = [fact for item in evidence.snapshots[-1].items if (fact := fact_in(item)) is not None]
    summary = _summary()
    for usage in summary["usage"]:
        days: Counter[str] = Counter()
        for fact in facts:
            if (fact.organization, fact.feature) == ("acme", usage["feature"]):
                days[fact.date] += fact.quantity
        usage["days"] = [{"date": date, "used": used} for date, used in sorted(days.items())]
    return summary


def _found(evidence: Evidence, *asked: Asked) -> list[str]:
    return violations(replace(evidence, asked=list(asked)))


_REACHED = {
    "hasAccess": False,
    "reason": "limit_reached",
    "used": _LAST,
    "limit": 1034,
    "remaining": 0,
    "resetsAt": "2026-12-01T00:00:00.000Z",
}
_NOT_IN_PLAN = {"hasAccess": False, "reason": "not_in_plan"}
_AVAILABLE = {**_REACHED, "hasAccess": True, "reason": "limit_available"}
_OF_DAYS = {"parameters": {"by": "day"}}
_NOT_FOUND = {"status": 404, "headers": _PROBLEM, "body": {"status": 404, "code": "NOT_FOUND"}}


def test_correct_query_answers_are_accepted(true_evidence: Evidence) -> None:
    found = _found(
        true_evidence,
        _asked(true_evidence, "usage.summary", _summary()),
        _asked(true_evidence, "usage.summary", _summary(), parameters={"billingPeriod": "2026-11"}),
        _asked(true_evidence, "usage.summary", _by_day(true_evidence), **_OF_DAYS),
        _asked(true_evidence, "feature.check", _REACHED),
        _asked(true_evidence, "feature.check", _REACHED, parameters={"feature": _LONG, "quantity": "1"}),
        _asked(true_evidence, "feature.check", _NOT_IN_PLAN, parameters={"feature": "x"}),
        _asked(true_evidence, "usage.get", _record(true_evidence)),
        _asked(true_evidence, "usage.get", {}, parameters={"idempotencyKey": "e"}, **_NOT_FOUND),
        _asked(true_evidence, "usage.get", {}, organization=UNKNOWN_ORGANIZATION, **_NOT_FOUND),
        _asked(true_evidence, "usage.get", {}, status=None),
        _asked(true_evidence, "usage.list", _list(true_evidence)),
        _asked(true_evidence, "usage.list", _list(true_evidence, _LONG), parameters={"feature": _LONG}),
        _asked(true_evidence, "usage.list", {"records": []}, parameters={"billingPeriod": "2026-10"}),
    )
    assert found == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda days: days.clear(), "add up to 0, not 1187"),
        (lambda days: days[0].update(used=days[0]["used"] - 1), "for api_calls on 2026-11-"),
        (lambda days: days.append({"date": "2026-11-31", "used": 0}), "that are not in order, or without usage"),
        (lambda days: days.append(dict(days[0])), "that are not in order, or without usage"),
        (lambda days: days[0].update(date="2026-11-30"), "for api_calls on 2026-11-30, expected 0 to 0"),
    ],
)
def test_the_checker_reports_wrong_days(
    change: Callable[[list[dict[str, Any]]], None], expected: str, true_evidence: Evidence
) -> None:
    body = _by_day(true_evidence)
    change(body["usage"][0]["days"])
    found = _found(true_evidence, _asked(true_evidence, "usage.summary", body, **_OF_DAYS))
    assert any(expected in violation for violation in found), found
    unasked = _found(true_evidence, _asked(true_evidence, "usage.summary", _by_day(true_evidence)))
    assert any("got api_calls with the wrong members" in violation for violation in unasked), unasked


@pytest.mark.parametrize(
    ("query", "body", "changes", "expected"),
    [
        ("usage.summary", _summary(api=_API - 1), {}, "got a usage of 1186 for api_calls, expected 1187 to 1187"),
        ("usage.summary", _summary(gb=_GB + 1), {}, "got a usage of 636 for storage_gb, expected 635 to 635"),
        ("usage.summary", {**_summary(), "usage": _summary()["usage"][:2]}, {}, "got a usage of 0 for storage_gb"),
        ("usage.summary", {**_summary(), "usage": _summary()["usage"] * 2}, {}, "got a feature twice"),
        (
            "usage.summary",
            {**_summary(), "billingPeriod": "2026-10"},
            {},
            "asked for the period current, but got 2026-10",
        ),
        (
            "usage.summary",
            {**_summary(), "usage": [{**each, "limit": 301} for each in _summary()["usage"]]},
            {},
            "got the limit 301 for storage_gb, expected one of {500}",
        ),
        ("usage.summary", {**_summary(), "periodEnd": "2026-11-30T00:00:00.000Z"}, {}, "got the bounds ("),
        ("usage.summary", _summary(), _OF_DAYS, "got api_calls with the wrong members"),
        ("feature.check", _AVAILABLE, {}, f"for 1 of {_LONG}, expected one of [{{'hasAccess': False"),
        ("feature.check", {**_REACHED, "hasAccess": True}, {}, "got {'hasAccess': True"),
        (
            "feature.check",
            {**_REACHED, "reason": "not_in_plan"},
            {},
            "got {'hasAccess': False, 'reason': 'not_in_plan'",
        ),
        ("feature.check", _NOT_IN_PLAN, {}, "got {'hasAccess': False, 'reason': 'not_in_plan'}"),
        ("feature.check", {**_REACHED, "used": _LAST + 1}, {}, "expected one of [] for a usage in [(1034, 1034)]"),
        ("feature.check", {**_REACHED, "limit": 1035}, {}, "'limit': 1035"),
        ("feature.check", {**_REACHED, "remaining": 1}, {}, "'remaining': 1"),
        ("feature.check", {**_REACHED, "resetsAt": "2027-01-01T00:00:00.000Z"}, {}, "'resetsAt': '2027-01-01"),
        (
            "feature.check",
            _REACHED,
            {"parameters": {"feature": "x"}},
            "expected one of [{'hasAccess': False, 'reason': ",
        ),
        ("usage.get", {}, _NOT_FOUND, "got 404, but a record was stored under f"),
        ("usage.summary", {}, _NOT_FOUND, "was answered 404"),
        ("usage.summary", {}, {"status": 500, "headers": _PROBLEM, "body": {"status": 500}}, "was answered 500"),
        ("usage.summary", {}, {"status": 503}, "was answered 503 without a problem"),
        ("usage.summary", {**_summary(), "more": "bolt"}, {}, "of acme was shown data of bolt"),
    ],
)
def test_the_checker_reports_the_violation(
    query: str, body: dict[str, Any], changes: dict[str, Any], expected: str, true_evidence: Evidence
) -> None:
    found = _found(true_evidence, replace(_asked(true_evidence, query, body), **changes))
    assert any(expected in violation for violation in found), found


def test_the_checker_reports_a_record_with_other_content(true_evidence: Evidence) -> None:
    asked = _asked(true_evidence, "usage.get", _record(true_evidence) | {"quantity": 1})
    assert any("got a record that was never stored under f" in each for each in _found(true_evidence, asked))


@pytest.mark.parametrize(
    ("change", "parameters", "expected"),
    [
        (lambda records: records[1:], {}, "did not get the record under"),
        (lambda records: [*records, records[0]], {}, "2 times"),
        (lambda records: [{**records[0], "quantity": 77}, *records[1:]], {}, "got a record that was never stored"),
        (lambda records: records, {"billingPeriod": "2026-10"}, "asked for {'billingPeriod': '2026-10'}, but got"),
        (lambda records: records, {"feature": "none"}, "asked for {'feature': 'none'}, but got"),
        (lambda _: [], {"feature": _LONG}, "did not get the record under f"),
    ],
)
def test_the_checker_reports_a_wrong_list(
    true_evidence: Evidence, change: Callable[[Any], Any], parameters: dict[str, str], expected: str
) -> None:
    body = {"records": change(_list(true_evidence)["records"])}
    found = _found(true_evidence, _asked(true_evidence, "usage.list", body, parameters=parameters))
    assert any(expected in violation for violation in found), found


def _unanswered(evidence: Evidence) -> Evidence:
    """The evidence without the answer to the last record, and without the requests at the end."""
    attempts = [
        replace(each, status=None, headers={}, body={}) if each.operation == 11 else each
        for each in evidence.attempts
        if each.operation >= 0
    ]
    return replace(evidence, attempts=attempts)


def test_an_unacknowledged_record_may_be_missing(true_evidence: Evidence) -> None:
    evidence = _unanswered(true_evidence)
    asked = _asked(evidence, "usage.summary", _summary(last=490), number=2)
    assert _found(evidence, asked) == []


def test_a_record_that_a_query_returned_must_not_be_missing_later(true_evidence: Evidence) -> None:
    evidence = _unanswered(true_evidence)
    shown = _asked(evidence, "usage.get", _record(evidence))
    later = _asked(evidence, "usage.summary", _summary(last=490), began=shown.ended + 1, ended=shown.ended + 2)
    times = {"began": shown.ended + 1, "ended": shown.ended + 2}
    absent = _asked(evidence, "usage.get", {}, **times, **_NOT_FOUND)
    listed = {"records": [each for each in _list(evidence)["records"] if each["idempotencyKey"] != "f"]}
    unlisted = _asked(evidence, "usage.list", listed, **times)
    for asked, expected in (
        (later, "got a usage of 490 for"),
        (absent, "got 404, but a record was stored under f"),
        (unlisted, "did not get the record under f"),
    ):
        found = _found(evidence, shown, asked)
        assert any(expected in violation for violation in found), found


def _last(evidence: Evidence) -> Attempt:
    return next(each for each in evidence.attempts if each.operation == 11)


def test_a_query_may_include_or_lack_a_concurrent_record(true_evidence: Evidence) -> None:
    began, ended = _last(true_evidence).began, _last(true_evidence).ended
    for used in (490, 1034):
        asked = _asked(true_evidence, "usage.summary", _summary(last=used), began=began, ended=ended + 1)
        assert _found(true_evidence, asked) == []
