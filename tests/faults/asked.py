"""Checks the answers of queries against the rest of the evidence.

An answer includes all usage that was acknowledged before the query, and no usage that does not exist. Organizations and
plans may come from a cache of up to a minute. Usage is always read consistently.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.faults.evidence import Asked
from tests.faults.settings import State
from tests.faults.stored import Counted, Fact, period_of

_ACCESS = {"included": True, "limit_available": True, "limit_reached": False, "not_in_plan": False}


class Known(NamedTuple):
    """The facts that the rest of the evidence allows for the time of one query."""

    periods: set[str]
    """The billing periods that may have been the current one."""
    range_of: Callable[[Counted], tuple[int, int]]
    """Returns the lowest and the highest total of a counter that the answer may hold."""
    counters: Sequence[Counted]
    """All counters that ever held usage."""
    states: Callable[[str], Collection[State]]
    """Returns the states of a feature that the function may have read or cached."""
    may_be_unknown: bool
    under_key: Callable[[str], list[Fact]]
    """Returns the records that may have held this idempotency key during the query."""
    records: Sequence[Fact]
    """All records that the organization ever had."""
    must_hold: Callable[[Fact], bool]
    """Returns whether the record was acknowledged before the query and held its key until the answer."""


def wrong_in(asked: Asked, known: Known) -> Iterator[str]:
    """Describe every fact in the answer that the evidence contradicts."""
    if asked.status in (None, 503):
        return
    if asked.status == 404 and known.may_be_unknown:
        return
    match asked.query, asked.status:
        case "usage.summary", 200:
            found = _wrong_in_summary(asked, known)
        case "feature.check", 200:
            found = _wrong_in_check(asked, known)
        case "usage.get", 200:
            found = _wrong_in_record(asked, known)
        case "usage.get", 404:
            found = _wrong_in_absence(asked, known)
        case "usage.list", 200:
            found = _wrong_in_list(asked, known)
        case _:
            found = iter([f"was answered {asked.status}: {asked.body}"])
    yield from (f"{asked.name} {wrong}" for wrong in found)


def shown(asked: Asked) -> str | None:
    """The event id of the record in the answer; None if the answer holds no record."""
    return str(asked.body.get("eventId")) if asked.query == "usage.get" and asked.status == 200 else None


def _wrong_in_summary(asked: Asked, known: Known) -> Iterator[str]:
    period = asked.body.get("billingPeriod")
    wanted = asked.parameters.get("billingPeriod", asked.parameters.get("period", "current"))
    if period not in (known.periods if wanted == "current" else {wanted}):
        yield f"asked for the period {wanted}, but got {period}"
        return
    usage: Mapping[str, Any] = {each["feature"]: each for each in asked.body["usage"]}
    if len(usage) != len(asked.body["usage"]):
        yield f"got a feature twice: {asked.body['usage']}"
    counted = {feature for owner, feature, when in known.counters if (owner, when) == (asked.organization, period)}
    for feature in sorted(usage.keys() | counted):
        answered = usage.get(feature, {"used": 0})
        least, most = known.range_of((asked.organization, feature, str(period)))
        if not least <= answered["used"] <= most:
            yield f"got a usage of {answered['used']} for {feature}, expected {least} to {most}"
        limits = {state.rule and state.rule.limit for state in known.states(feature)}
        if answered.get("limit") not in limits:
            yield f"got the limit {answered.get('limit')} for {feature}, expected one of {limits}"


def _wrong_in_check(asked: Asked, known: Known) -> Iterator[str]:
    reason = asked.body.get("reason")
    if asked.body.get("hasAccess") is not _ACCESS.get(str(reason)):
        yield f"was answered {asked.body}"
        return
    feature = asked.parameters["feature"]
    ranges = [known.range_of((asked.organization, feature, period)) for period in known.periods]
    possible = set()
    for state in known.states(feature):
        if state.rule is None or not state.has_access:
            possible.add("not_in_plan")
        elif state.rule.limit is None:
            possible.add("included")
        else:
            possible |= {"limit_reached" for _, most in ranges if most >= state.rule.limit}
            possible |= {"limit_available" for least, _ in ranges if least < state.rule.limit}
    if reason not in possible:
        yield f"got the reason {reason} for {feature}, expected one of {sorted(possible)} for a usage in {ranges}"


def _wrong_in_record(asked: Asked, known: Known) -> Iterator[str]:
    key = asked.parameters["idempotencyKey"]
    if asked.body not in [_content(fact) for fact in known.under_key(key)]:
        yield f"got a record that was never stored under {key}: {asked.body}"


def _wrong_in_absence(asked: Asked, known: Known) -> Iterator[str]:
    key = asked.parameters["idempotencyKey"]
    if any(known.must_hold(fact) for fact in known.under_key(key)):
        yield f"got 404, but a record was stored under {key}"


def _wrong_in_list(asked: Asked, known: Known) -> Iterator[str]:
    """The list holds each record once that was there all the time, and no record that never was."""
    listed: Sequence[Mapping[str, Any]] = asked.body["records"]
    for key, times in Counter(str(record.get("idempotencyKey")) for record in listed).items():
        if times > 1:
            yield f"got the record under {key} {times} times"
    for record in listed:
        if record not in [_content(fact) for fact in known.under_key(str(record.get("idempotencyKey")))]:
            yield f"got a record that was never stored: {record}"
        if not _is_wanted(record, asked.parameters):
            yield f"asked for {asked.parameters}, but got {record}"
    event_ids = {record.get("eventId") for record in listed}
    for fact in known.records:
        if fact.event_id not in event_ids and _is_wanted(_content(fact), asked.parameters) and known.must_hold(fact):
            yield f"did not get the record under {fact.key}, although it was there all the time"


def _is_wanted(record: Mapping[str, Any], parameters: Mapping[str, str]) -> bool:
    return all(parameters.get(name, record.get(name)) == record.get(name) for name in ("billingPeriod", "feature"))


def _content(fact: Fact) -> dict[str, Any]:
    return fact.content | {
        "idempotencyKey": fact.key,
        "billingPeriod": fact.period,
        "recordedAt": fact.recorded_at,
        "eventId": fact.event_id,
    }


def periods_of(asked: Asked, skew_s: float) -> set[str]:
    """The billing periods that may have been the current one, by a clock with up to `skew_s` of skew."""
    return {period_of(asked.began_at_s - skew_s), period_of(asked.ended_at_s + skew_s)}
