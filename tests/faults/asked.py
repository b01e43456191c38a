"""Checks the answers of queries against the rest of the evidence.

An answer includes all usage that was acknowledged before the query, and no usage that does not exist. Organizations and
plans may come from a cache of up to a minute. Usage is always read consistently.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.faults.evidence import Asked
from tests.faults.settings import State
from tests.faults.stored import Counted, Fact, date_of, end_of, period_of, start_of


class Known(NamedTuple):
    """The facts that the rest of the evidence allows for the time of one query."""

    periods: set[str]
    """The billing periods that may have been the current one."""
    range_of: Callable[[Counted], tuple[int, int]]
    """Returns the lowest and the highest total of a counter that the answer may hold."""
    days_of: Callable[[Counted], Mapping[str, tuple[int, int]]]
    """Returns the same for each date on which the counter ever held usage."""
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
    bounds = asked.body.get("periodStart"), asked.body.get("periodEnd")
    if bounds != (_moment(start_of(period)), _moment(end_of(period))):
        yield f"got the bounds {bounds} of the period {period}"
    usage: Mapping[str, Any] = {each["feature"]: each for each in asked.body["usage"]}
    if len(usage) != len(asked.body["usage"]):
        yield f"got a feature twice: {asked.body['usage']}"
    counted = {feature for owner, feature, when in known.counters if (owner, when) == (asked.organization, period)}
    for feature in sorted(usage.keys() | counted):
        answered = usage.get(feature, {"used": 0})
        least, most = known.range_of((asked.organization, feature, str(period)))
        if not least <= answered["used"] <= most:
            yield f"got a usage of {answered['used']} for {feature}, expected {least} to {most}"
        if feature in usage:
            yield from _wrong_in_days(asked, answered, known.days_of((asked.organization, feature, str(period))))
        limits = {state.rule and state.rule.limit for state in known.states(feature)}
        if answered.get("limit") not in limits:
            yield f"got the limit {answered.get('limit')} for {feature}, expected one of {limits}"


def _wrong_in_days(asked: Asked, usage: Mapping[str, Any], ranges: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    feature = usage["feature"]
    if ("days" in usage) is not (asked.parameters.get("by") == "day"):
        yield f"got {feature} with the wrong members: {sorted(usage)}"
    days = [(each["date"], each["used"]) for each in usage.get("days", [])]
    used = dict(days)
    if [date for date, _ in days] != sorted(used) or not all(used.values()):
        yield f"got days of {feature} that are not in order, or without usage: {days}"
    if "days" in usage and sum(used.values()) != usage["used"]:
        yield f"got days of {feature} that add up to {sum(used.values())}, not {usage['used']}"
    for date in sorted(used.keys() | ranges.keys()) if "days" in usage else ():
        least, most = ranges.get(date, (0, 0))
        if not least <= used.get(date, 0) <= most:
            yield f"got a usage of {used.get(date, 0)} for {feature} on {date}, expected {least} to {most}"


def _wrong_in_check(asked: Asked, known: Known) -> Iterator[str]:
    feature = asked.parameters["feature"]
    quantity, used = int(asked.parameters.get("quantity", "1")), asked.body.get("used", 0)
    possible: list[dict[str, Any]] = []
    for state in known.states(feature):
        if state.rule is None or not state.has_access:
            possible.append({"hasAccess": False, "reason": "not_in_plan"})
        elif state.rule.limit is None:
            possible.append({"hasAccess": True, "reason": "included"})
        else:
            limit = state.rule.limit
            fits = used + quantity <= limit
            access = {"hasAccess": fits, "reason": "limit_available" if fits else "limit_reached"}
            for period in known.periods:
                least, most = known.range_of((asked.organization, feature, period))
                resets_at = _moment(end_of(period))
                numbers = {"used": used, "limit": limit, "remaining": max(0, limit - used), "resetsAt": resets_at}
                possible += [{**access, **numbers}] if least <= used <= most else []
    if {name: value for name, value in asked.body.items() if name != "upgradeUrl"} not in possible:
        ranges = [known.range_of((asked.organization, feature, period)) for period in known.periods]
        yield f"got {asked.body} for {quantity} of {feature}, expected one of {possible} for a usage in {ranges}"


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


def _moment(at_s: float) -> str:
    return f"{date_of(at_s)}T00:00:00.000Z"
