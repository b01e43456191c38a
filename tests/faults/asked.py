"""Whether queries tell what there is: at least what was acknowledged before they were asked, and nothing that is not.

What a query may have known of organizations and plans is remembered for a minute; usage is read as it is.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.faults.evidence import Asked
from tests.faults.settings import State
from tests.faults.stored import Counted, Fact, period_of

_ACCESS = {"included": True, "limit_available": True, "limit_reached": False, "not_in_plan": False}


class Known(NamedTuple):
    """What the rest of the evidence says of the time of one query."""

    periods: set[str]
    """Those that may have been the present one."""
    range_of: Callable[[Counted], tuple[int, int]]
    """What a counter must have come to when it was asked, and what it can have come to when it was answered."""
    counters: Sequence[Counted]
    """All on which something was ever counted."""
    states: Callable[[str], Collection[State]]
    """The states of a feature that may have been known."""
    may_be_unknown: bool
    under_key: Callable[[str], list[Fact]]
    """The records that may have held this idempotency key meanwhile."""
    must_hold: Callable[[Fact], bool]
    """Whether the record was acknowledged before it was asked, and held its key all the while."""


def wrong_in(asked: Asked, known: Known) -> Iterator[str]:
    """Every way in which the answer is not true, in words."""
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
        case _:
            found = iter([f"was answered {asked.status}: {asked.body}"])
    yield from (f"{asked.name} {wrong}" for wrong in found)


def shown(asked: Asked) -> str | None:
    """The event id of the record that the answer shows."""
    return str(asked.body.get("eventId")) if asked.query == "usage.get" and asked.status == 200 else None


def _wrong_in_summary(asked: Asked, known: Known) -> Iterator[str]:
    period = asked.body.get("billingPeriod")
    wanted = asked.parameters.get("billingPeriod", asked.parameters.get("period", "current"))
    if period not in (known.periods if wanted == "current" else {wanted}):
        yield f"for {wanted} was told of {period}"
        return
    usage: Mapping[str, Any] = {each["feature"]: each for each in asked.body["usage"]}
    if len(usage) != len(asked.body["usage"]):
        yield f"was told of a feature twice: {asked.body['usage']}"
    counted = {feature for owner, feature, when in known.counters if (owner, when) == (asked.organization, period)}
    for feature in sorted(usage.keys() | counted):
        told = usage.get(feature, {"used": 0})
        least, most = known.range_of((asked.organization, feature, str(period)))
        if not least <= told["used"] <= most:
            yield f"was told that {told['used']} of {feature} is used, and it can only have been {least} to {most}"
        limits = {state.rule and state.rule.limit for state in known.states(feature)}
        if told.get("limit") not in limits:
            yield f"was told the limit {told.get('limit')} of {feature}, and it can only have been one of {limits}"


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
        yield f"was told that {feature} is {reason}, and it can only have been {sorted(possible)} with {ranges} used"


def _wrong_in_record(asked: Asked, known: Known) -> Iterator[str]:
    told = asked.body
    key = asked.parameters["idempotencyKey"]
    if told not in [_content(fact) for fact in known.under_key(key)]:
        yield f"was shown what is not recorded under {key}: {told}"


def _wrong_in_absence(asked: Asked, known: Known) -> Iterator[str]:
    key = asked.parameters["idempotencyKey"]
    if any(known.must_hold(fact) for fact in known.under_key(key)):
        yield f"was not shown what had been recorded under {key}"


def _content(fact: Fact) -> dict[str, Any]:
    return fact.content | {
        "idempotencyKey": fact.key,
        "billingPeriod": fact.period,
        "recordedAt": fact.recorded_at,
        "eventId": fact.event_id,
    }


def periods_of(asked: Asked, skew_s: float) -> set[str]:
    """The billing periods that may have been the present one, by a clock that may differ so much."""
    return {period_of(asked.began_at_s - skew_s), period_of(asked.ended_at_s + skew_s)}
