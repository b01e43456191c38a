"""What others publish is understood as the contract says, and nothing else is."""

from typing import Any

import pytest
from metering.consumed import change_of
from metering.errors import EventMalformed

from tests.payloads import payload


def _changed(**members: Any) -> Any:
    event = payload("billing.subscription.changed.json")
    event["detail"]["payload"] |= members
    event["detail"]["payload"] = {name: value for name, value in event["detail"]["payload"].items() if value is not ...}
    return event


def test_a_subscription_that_changed_says_all_that_it_says() -> None:
    change = change_of(payload("billing.subscription.changed.json"))
    assert (change.organization, change.event_id) == ("demo-org", "0c2f4b7e-8f55-4b0c-9a1e-2f6f1f0a9b11")
    assert change.stamp == "2026-11-23T00:20:04.123Z#0c2f4b7e-8f55-4b0c-9a1e-2f6f1f0a9b11"
    assert change.fields == {
        "planId": {"S": "pro"},
        "planName": {"S": "Pro"},
        "subscriptionStatus": {"S": "ACTIVE"},
        "subscriptionId": {"S": "sub-42"},
        "currentPeriodStart": {"S": "2026-11-01T00:00:00.000Z"},
        "currentPeriodEnd": {"S": "2026-12-01T00:00:00.000Z"},
        "cancelAtPeriodEnd": {"BOOL": False},
    }


def test_what_the_event_does_not_say_is_not_changed_but_for_the_plans_name() -> None:
    least = _changed(
        subscriptionId=..., planName=..., currentPeriodStart=..., currentPeriodEnd=..., cancelAtPeriodEnd=...
    )
    assert change_of(least).fields == {
        "planId": {"S": "pro"},
        "planName": None,
        "subscriptionStatus": {"S": "ACTIVE"},
    }


def test_moments_are_taken_to_utc() -> None:
    change = change_of(_changed(changedAt="2026-11-23T01:20:04.1+01:00", trialEndsAt="2026-12-01T00:00:00-02:00"))
    assert change.stamp.startswith("2026-11-23T00:20:04.100Z#")
    assert change.fields["trialEndsAt"] == {"S": "2026-12-01T02:00:00.000Z"}


def test_a_trial_may_have_no_end_any_more() -> None:
    assert change_of(_changed(trialEndsAt=None)).fields["trialEndsAt"] is None


def test_members_that_the_contract_does_not_name_are_ignored() -> None:
    assert change_of(_changed(more="than we know")) == change_of(_changed())


def test_an_organization_that_was_created_says_that_it_is_there() -> None:
    change = change_of(payload("org.created.json"))
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
        ({"changedAt": "2026-11-23T00:20:04"}, "changedAt has no offset"),
        ({"changedAt": "2026-02-30T00:20:04Z"}, "changedAt is not a moment"),
        ({"changedAt": "0001-01-01T00:00:00+02:00"}, "changedAt is not a moment"),
        ({"changedAt": 1795393204}, "changedAt"),
        ({"subscriptionId": ""}, "subscriptionId"),
        ({"planName": 7}, "planName"),
        ({"currentPeriodEnd": "soon"}, "currentPeriodEnd"),
        ({"cancelAtPeriodEnd": "false"}, "cancelAtPeriodEnd"),
    ],
)
def test_a_payload_that_breaks_the_contract_is_malformed(members: dict[str, Any], said: str) -> None:
    with pytest.raises(EventMalformed, match=said):
        change_of(_changed(**members))


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
        change_of(event)


@pytest.mark.parametrize("event", [None, [], "text", {}, {"detail": "text"}, {"detail": {}}])
def test_what_is_no_event_at_all_is_malformed(event: Any) -> None:
    with pytest.raises(EventMalformed):
        change_of(event)


def test_an_event_of_another_kind_is_malformed() -> None:
    event = payload("billing.usage.recorded.json")
    with pytest.raises(EventMalformed, match="is not an event that is consumed here"):
        change_of(event)
