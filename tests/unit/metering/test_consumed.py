"""What others publish is understood as the contract says, and nothing else is."""

from datetime import timedelta
from typing import Any

import pytest
from metering.consumed import ORG_CREATED, SUBSCRIPTION_CHANGED, Change, change_of
from metering.errors import EventMalformed

from tests.payloads import payload
from tests.service import NOW


def _change_of(event: Any) -> Change:
    return change_of(event, NOW)


def _changed(**members: Any) -> Any:
    event = payload("billing.subscription.changed.json")
    event["detail"]["payload"] |= members
    event["detail"]["payload"] = {name: value for name, value in event["detail"]["payload"].items() if value is not ...}
    return event


def test_a_subscription_that_changed_says_all_that_it_says() -> None:
    change = _change_of(payload("billing.subscription.changed.json"))
    assert (change.organization, change.event_id) == ("demo-org", "0c2f4b7e-8f55-4b0c-9a1e-2f6f1f0a9b11")
    assert change.stamp == "2026-11-23T00:20:04.123000Z#0c2f4b7e-8f55-4b0c-9a1e-2f6f1f0a9b11"
    assert change.fields == {
        "planId": {"S": "pro"},
        "planName": {"M": {"plan": {"S": "pro"}, "name": {"S": "Pro"}}},
        "subscriptionStatus": {"S": "ACTIVE"},
        "subscriptionId": {"S": "sub-42"},
        "currentPeriodStart": {"S": "2026-11-01T00:00:00.000Z"},
        "currentPeriodEnd": {"S": "2026-12-01T00:00:00.000Z"},
        "cancelAtPeriodEnd": {"BOOL": False},
    }


def test_what_the_event_does_not_say_is_not_changed() -> None:
    least = _changed(
        subscriptionId=..., planName=..., currentPeriodStart=..., currentPeriodEnd=..., cancelAtPeriodEnd=...
    )
    assert _change_of(least).fields == {
        "planId": {"S": "pro"},
        "subscriptionStatus": {"S": "ACTIVE"},
    }


def test_moments_are_taken_to_utc_and_changes_told_apart_to_the_microsecond() -> None:
    moment = "2026-11-23T01:20:04.1234567+01:00"
    change = _change_of(_changed(changedAt=moment, trialEndsAt="2026-12-01T00:00:00-02:00"))
    assert change.stamp.startswith("2026-11-23T00:20:04.123456Z#")
    assert change.fields["trialEndsAt"] == {"S": "2026-12-01T02:00:00.000Z"}


def test_a_trial_may_have_no_end_any_more() -> None:
    assert _change_of(_changed(trialEndsAt=None)).fields["trialEndsAt"] is None


@pytest.mark.parametrize(
    "name", ["subscriptionId", "planName", "currentPeriodStart", "currentPeriodEnd", "cancelAtPeriodEnd"]
)
def test_another_optional_member_that_is_null_is_not_said(name: str) -> None:
    assert _change_of(_changed(**{name: None})) == _change_of(_changed(**{name: ...}))


@pytest.mark.parametrize(("name", "member"), [(SUBSCRIPTION_CHANGED, "changedAt"), (ORG_CREATED, "createdAt")])
def test_what_happens_in_more_than_a_day_is_malformed(name: str, member: str) -> None:
    event = payload(f"{name}.json")
    event["detail"]["payload"][member] = (NOW + timedelta(days=1)).isoformat()
    _change_of(event)
    for moment in ((NOW + timedelta(days=1, microseconds=1)).isoformat(), "9999-12-31T23:59:59Z"):
        event["detail"]["payload"][member] = moment
        with pytest.raises(
            EventMalformed, match=rf"{member} is more than a day ahead: it is 2026-11-23T00:20:04\.123Z"
        ):
            _change_of(event)


def test_members_that_the_contract_does_not_name_are_ignored() -> None:
    assert _change_of(_changed(more="than we know")) == _change_of(_changed())


def test_an_organization_that_was_created_says_that_it_is_there() -> None:
    change = _change_of(payload("org.created.json"))
    assert (change.key, change.organization, change.fields) == ("org.created", "newcomer", {})


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"organizationId": ...}, "organizationId is missing"),
        ({"organizationId": "a#b"}, "organizationId is missing or does not have its form"),
        ({"organizationId": 7}, "organizationId"),
        ({"newPlan": ...}, "newPlan"),
        ({"newPlan": "a plan"}, "newPlan"),
        ({"newStatus": "active"}, "newStatus is 'active' and not one of TRIALING"),
        ({"newStatus": ...}, "newStatus"),
        ({"changedAt": ...}, "changedAt"),
        ({"changedAt": "2026-11-23"}, "changedAt"),
        ({"changedAt": "2026-11-23T00:20:04"}, "changedAt is missing or is not a moment with its offset"),
        ({"changedAt": "2026-11-23T24:00:00Z"}, "changedAt"),
        ({"changedAt": "2026-11-23T00:20:04Z\n"}, "changedAt"),
        ({"changedAt": "2026-02-30T00:20:04Z"}, "changedAt is not a moment that there is"),
        ({"changedAt": "0001-01-01T00:00:00+02:00"}, "changedAt is not a moment that there is"),
        ({"changedAt": 1795393204}, "changedAt"),
        ({"subscriptionId": ""}, "subscriptionId"),
        ({"subscriptionId": "sub 42"}, "subscriptionId"),
        ({"subscriptionId": "s" * 256}, "subscriptionId"),
        ({"planName": 7}, "planName"),
        ({"planName": "half a character: \ud800"}, "planName"),
        ({"planName": "two\nlines"}, "planName"),
        ({"planName": "p" * 256}, "planName"),
        ({"currentPeriodEnd": "soon"}, "currentPeriodEnd"),
        ({"currentPeriodEnd": "2026-10-01T00:00:00Z"}, "currentPeriodEnd is not after currentPeriodStart"),
        ({"currentPeriodEnd": "2026-11-01T01:00:00+01:00"}, "currentPeriodEnd is not after currentPeriodStart"),
        ({"cancelAtPeriodEnd": "false"}, "cancelAtPeriodEnd"),
    ],
)
def test_a_payload_that_breaks_the_contract_is_malformed(members: dict[str, Any], said: str) -> None:
    with pytest.raises(EventMalformed, match=said):
        _change_of(_changed(**members))


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ({"id": ""}, "id is missing"),
        ({"id": "two words"}, "id is missing"),
        ({"key": "org.created"}, "detail-type is"),
        ({"key": None}, "key is missing"),
        ({"version": "2.0.0"}, "version 2.0.0 of billing.subscription.changed"),
        ({"version": 1}, "version is missing"),
        ({"payload": []}, "payload is missing"),
    ],
)
def test_an_envelope_that_breaks_the_contract_is_malformed(detail: dict[str, Any], said: str) -> None:
    event = payload("billing.subscription.changed.json")
    event["detail"] |= detail
    with pytest.raises(EventMalformed, match=said):
        _change_of(event)


@pytest.mark.parametrize("event", [None, [], "text", {}, {"detail": "text"}, {"detail": {}}])
def test_what_is_no_event_at_all_is_malformed(event: Any) -> None:
    with pytest.raises(EventMalformed):
        _change_of(event)


def test_an_event_of_another_kind_is_malformed() -> None:
    event = payload("billing.usage.recorded.json")
    with pytest.raises(EventMalformed, match="is not an event that is consumed here"):
        _change_of(event)
