"""The code accepts events of other services exactly as the contract says."""

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metering.inbound.consumed_events import (
    CONSUMED,
    EVENT_ID_PATTERN,
    ORG_CREATED,
    ORG_DELETED,
    SUBSCRIPTION_CHANGED,
    VERSION_PATTERN,
    Change,
    EventMalformed,
    change_of,
)
from metering.model.moments import MOMENT_PATTERN
from metering.model.names import ORGANIZATION_NAME_PATTERN, PLAN_NAME_PATTERN, PLAN_PATTERN, SUBSCRIPTION_ID_PATTERN
from metering.model.organizations import SUBSCRIPTION_STATUSES

from tests.testing.payloads import payload
from tests.testing.service import NOW


def _change_of(event: Any) -> Change:
    return change_of(event, NOW)


def _changed(**members: Any) -> Any:
    event = payload("billing.subscription.changed.json")
    event["detail"]["payload"] |= members
    event["detail"]["payload"] = {name: value for name, value in event["detail"]["payload"].items() if value is not ...}
    return event


def test_a_changed_subscription_sets_every_field_of_its_event() -> None:
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


def test_fields_that_the_event_omits_are_not_changed() -> None:
    least = _changed(
        subscriptionId=..., planName=..., currentPeriodStart=..., currentPeriodEnd=..., cancelAtPeriodEnd=...
    )
    assert _change_of(least).fields == {
        "planId": {"S": "pro"},
        "subscriptionStatus": {"S": "ACTIVE"},
    }


@pytest.mark.parametrize("spelled", [str.upper, str.lower, str.title])
@pytest.mark.parametrize("status", SUBSCRIPTION_STATUSES)
def test_a_status_in_any_case_is_stored_in_upper_case(status: str, spelled: Callable[[str], str]) -> None:
    change = _change_of(_changed(newStatus=spelled(status)))
    assert change.fields["subscriptionStatus"] == {"S": status}


def test_moments_become_utc_and_stamps_keep_microseconds() -> None:
    moment = "2026-11-23T01:20:04.1234567+01:00"
    change = _change_of(_changed(changedAt=moment, trialEndsAt="2026-12-01T00:00:00-02:00"))
    assert change.stamp.startswith("2026-11-23T00:20:04.123456Z#")
    assert change.fields["trialEndsAt"] == {"S": "2026-12-01T02:00:00.000Z"}


@pytest.mark.parametrize("fraction", ["9995", "9996", "9999999"])
def test_moments_are_cut_and_not_rounded(fraction: str) -> None:
    moment = f"2026-11-30T23:59:59.{fraction}Z"
    change = _change_of(_changed(changedAt="2026-11-22T23:59:59.9999996Z", currentPeriodEnd=moment))
    assert change.stamp.startswith("2026-11-22T23:59:59.999999Z#")
    assert change.fields["currentPeriodEnd"] == {"S": "2026-11-30T23:59:59.999Z"}


def test_a_trial_may_have_no_end_any_more() -> None:
    assert _change_of(_changed(trialEndsAt=None)).fields["trialEndsAt"] is None


@pytest.mark.parametrize(
    "name", ["subscriptionId", "planName", "currentPeriodStart", "currentPeriodEnd", "cancelAtPeriodEnd"]
)
def test_other_optional_members_that_are_null_count_as_omitted(name: str) -> None:
    assert _change_of(_changed(**{name: None})) == _change_of(_changed(**{name: ...}))


@pytest.mark.parametrize(
    ("name", "member"),
    [(SUBSCRIPTION_CHANGED, "changedAt"), (ORG_CREATED, "createdAt"), (ORG_DELETED, "deletedAt")],
)
def test_an_event_from_more_than_a_day_ahead_is_malformed(name: str, member: str) -> None:
    event = payload(f"{name}.json")
    event["detail"]["payload"][member] = (NOW + timedelta(days=1)).isoformat()
    _change_of(event)
    for moment in ((NOW + timedelta(days=1, microseconds=1)).isoformat(), "9999-12-31T23:59:59Z"):
        event["detail"]["payload"][member] = moment
        with pytest.raises(
            EventMalformed,
            match=rf"{member} is more than a day ahead of this service's clock, 2026-11-23T00:20:04\.123Z",
        ):
            _change_of(event)


def test_members_that_the_contract_does_not_name_are_ignored() -> None:
    assert _change_of(_changed(more="than we know")) == _change_of(_changed())


def _of_organization(name: str, **members: Any) -> Any:
    event = payload(f"{name}.json")
    del event["detail"]["payload"]["orgId"]
    event["detail"]["payload"] |= members
    return event


def test_a_created_organization_sets_no_fields() -> None:
    change = _change_of(payload("org.created.json"))
    assert (change.key, change.organization, change.fields) == ("org.created", "newcomer", {})


def test_an_organization_that_was_deleted_is_inactive() -> None:
    change = _change_of(payload("org.deleted.json"))
    assert (change.key, change.organization) == ("org.deleted", "newcomer")
    assert change.fields == {"status": {"S": "inactive"}}
    assert change.stamp == "2026-11-22T16:30:00.000000Z#3f6c1f0e-7d1a-4b43-9a5e-6a1b2c3d4e5f"


@pytest.mark.parametrize("name", [ORG_CREATED, ORG_DELETED])
@pytest.mark.parametrize(
    "members",
    [
        {"orgId": "acme"},
        {"organizationId": "acme"},
        {"organizationId": "acme", "orgId": "acme"},
        {"organizationId": "acme", "orgId": None},
        {"organizationId": None, "orgId": "acme"},
    ],
)
def test_an_organization_is_named_in_either_spelling(name: str, members: dict[str, Any]) -> None:
    assert _change_of(_of_organization(name, **members)).organization == "acme"


@pytest.mark.parametrize("name", [ORG_CREATED, ORG_DELETED])
@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "organizationId and orgId are missing"),
        ({"organizationId": None, "orgId": None}, "organizationId and orgId are missing"),
        ({"orgId": "a b"}, "orgId is missing or malformed"),
        ({"orgId": 7}, "orgId is missing or malformed"),
        ({"orgId": "null"}, "orgId is missing or malformed"),
        ({"organizationId": "acme", "orgId": ""}, "orgId is missing or malformed"),
        ({"organizationId": "acme", "orgId": "bolt"}, "organizationId and orgId differ"),
        ({"organizationId": "acme", "orgId": "Acme"}, "organizationId and orgId differ"),
    ],
)
def test_an_organization_without_one_name_is_malformed(name: str, members: dict[str, Any], said: str) -> None:
    with pytest.raises(EventMalformed, match=said):
        _change_of(_of_organization(name, **members))


@pytest.mark.parametrize(
    ("moment", "stored"),
    [
        ("2026-10-31t23:59:60z", "2026-10-31T23:59:59.000Z"),
        ("2026-10-31T23:59:60.25+00:00", "2026-10-31T23:59:59.250Z"),
    ],
)
def test_every_moment_of_rfc_3339_is_accepted(moment: str, stored: str) -> None:
    change = _change_of(_changed(changedAt=moment, currentPeriodStart=moment, trialEndsAt=moment))
    assert change.stamp.startswith(stored[:-1])
    assert change.fields["currentPeriodStart"] == change.fields["trialEndsAt"] == {"S": stored}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"organizationId": ...}, "organizationId is missing"),
        ({"organizationId": "a#b"}, "organizationId is missing or malformed"),
        ({"organizationId": "null"}, "organizationId is missing or malformed"),
        ({"organizationId": "true"}, "organizationId is missing or malformed"),
        ({"organizationId": "false"}, "organizationId is missing or malformed"),
        ({"organizationId": 7}, "organizationId"),
        ({"newPlan": ...}, "newPlan"),
        ({"newPlan": "a plan"}, "newPlan"),
        ({"newStatus": "gone"}, "newStatus is 'gone', not one of TRIALING"),
        ({"newStatus": "active "}, "newStatus is 'active ', not one of TRIALING"),
        ({"newStatus": "past due"}, "newStatus is 'past due', not one of TRIALING"),
        # Unicode's capitals of these letters are S and I.
        ({"newStatus": "pau\u017fed"}, "newStatus is 'pau\u017fed', not one of TRIALING"),
        ({"newStatus": "act\u0131ve"}, "newStatus is 'act\u0131ve', not one of TRIALING"),
        ({"newStatus": ...}, "newStatus"),
        ({"changedAt": ...}, "changedAt"),
        ({"changedAt": "2026-11-23"}, "changedAt"),
        ({"changedAt": "2026-11-23T00:20:04"}, "changedAt is missing or is not a moment with an offset"),
        ({"changedAt": "2026-11-23T24:00:00Z"}, "changedAt"),
        ({"changedAt": "2026-11-23T00:20:04Z\n"}, "changedAt"),
        ({"changedAt": "2026-02-30T00:20:04Z"}, "changedAt is missing or is not a moment that exists"),
        ({"changedAt": "0001-01-01T00:00:00+02:00"}, "changedAt is missing or is not a moment that exists"),
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


@pytest.mark.parametrize(
    ("event", "detail", "more"),
    [
        ({"detail-type": "t" * 10**5}, {}, {}),
        ({"detail-type": ["t"] * 10**5}, {"key": "k" * 10**5}, {}),
        ({"detail-type": "k" * 10**5}, {"key": "k" * 10**5}, {}),
        ({}, {"version": f"2.0.{'0' * 10**5}"}, {}),
        ({}, {}, {"newStatus": "s" * 10**5}),
    ],
)
def test_a_reason_repeats_only_the_start_of_a_long_value(
    event: dict[str, Any], detail: dict[str, Any], more: dict[str, Any]
) -> None:
    whole = _changed(**more) | event
    whole["detail"] |= detail
    with pytest.raises(EventMalformed, match="…") as malformed:
        _change_of(whole)
    assert len(str(malformed.value)) < 300


@pytest.mark.parametrize("event", [None, [], "text", {}, {"detail": "text"}, {"detail": {}}])
def test_input_that_is_not_an_event_is_malformed(event: Any) -> None:
    with pytest.raises(EventMalformed):
        _change_of(event)


def test_an_event_of_another_kind_is_malformed() -> None:
    event = payload("billing.usage.recorded.json")
    with pytest.raises(EventMalformed, match=r"does not consume the event 'billing\.usage\.recorded'"):
        _change_of(event)


# --- the schemas -----------------------------------------------------------------------------------------------------

_SCHEMAS = {name: payload(f"{name}.schema.json") for name in CONSUMED}
_FORMATS = jsonschema.FormatChecker()
_STRICTER = _FORMATS.checkers["date-time"][0]


@_FORMATS.checks("date-time")
def _is_moment(value: object) -> bool:
    # The library rejects leap seconds and lower case, which RFC 3339 allows.
    return _STRICTER(value.upper().replace(":60", ":59") if isinstance(value, str) else value) is True


_VALIDATORS = {
    name: jsonschema.Draft202012Validator(schema, format_checker=_FORMATS) for name, schema in _SCHEMAS.items()
}
_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [..., None, True, False, 0, 7, 1.5, "", [], {}, "pro", "a b", "ü", "\ud800", "\x7f", "#", "two\nlines"]
    ),
    st.sampled_from(["1.0.0", "1.20.3", "1.0", "2.0.0", "01.0.0", *CONSUMED]),
    st.sampled_from([*SUBSCRIPTION_STATUSES, "active", "Past_Due", "past-due", "act\u0131ve", "GONE"]),
    st.sampled_from([64, 65, 128, 129, 255, 256]).map(lambda length: "x" * length),
    st.sampled_from(
        [
            "2026-11-23",
            "2026-11-23T00:20:04",
            "2026-11-23 00:20:04Z",
            "2026-11-23T00:20Z",
            "2026-11-23T00:20:04z",
            "2026-11-23T00:20:04.Z",
            "2026-11-23T00:20:04,5Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T23:59:60Z",
            "2026-11-23T00:20:04+0100",
            "2026-11-23T00:20:04+24:00",
            "2026-02-30T00:00:00Z",
            "0000-01-01T00:00:00Z",
        ]
    ),
)
_MOMENTS = st.sampled_from(
    [
        "2026-11-01T00:00:00Z",
        "2026-11-10T05:45:00.123456789+05:45",
        "2026-11-20T00:00:00.5-00:00",
        "2026-11-20t12:30:60z",
    ]
)
_NO_OTHER_NAME = st.sampled_from([..., None, 7, "", "a b", "null"])
_PAYLOADS = {
    # No schema can require that two names are equal, so no variant has two valid names.
    ORG_CREATED: {"orgId": _VALUES, "organizationId": _NO_OTHER_NAME, "createdAt": _VALUES | _MOMENTS},
    ORG_DELETED: {"orgId": _VALUES, "organizationId": _NO_OTHER_NAME, "deletedAt": _VALUES | _MOMENTS},
    SUBSCRIPTION_CHANGED: {
        **dict.fromkeys(["organizationId", "newPlan", "newStatus", "subscriptionId", "planName"], _VALUES),
        **dict.fromkeys(["previousPlan", "previousStatus", "cancelAtPeriodEnd", "more"], _VALUES),
        **dict.fromkeys(["changedAt", "currentPeriodStart", "trialEndsAt"], _VALUES | _MOMENTS),
        # No schema can require that the end is after the start.
        "currentPeriodEnd": _VALUES | st.just("2026-12-01T00:00:00+01:00"),
    },
}
_ENVELOPE = dict.fromkeys(["id", "occurredAt", "traceId", "key", "version", "payload", "more"], _VALUES)
_DELIVERY = dict.fromkeys(["id", "detail-type", "detail", "more"], _VALUES)


@st.composite
def _variants(draw: st.DrawFn) -> tuple[str, Any]:
    """The name of an event and a variant of it, with up to two members changed."""
    name = draw(st.sampled_from(CONSUMED))
    event = payload(f"{name}.json")
    places: Any = [(event["detail"]["payload"], _PAYLOADS[name]), (event["detail"], _ENVELOPE), (event, _DELIVERY)]
    for members, possible in draw(st.lists(st.sampled_from(places), max_size=2)):
        member = draw(st.sampled_from(sorted(possible)))
        members[member] = draw(possible[member])
        if members[member] is ...:
            del members[member]
    return name, copy.deepcopy(event)


@settings(max_examples=1000)
@given(variant=_variants())
def test_the_schemas_accept_exactly_the_events_that_the_code_accepts(variant: tuple[str, Any]) -> None:
    name, event = variant
    try:
        _change_of(event)
        understood = True
    except EventMalformed:
        understood = False
    assert _VALIDATORS[name].is_valid(event) == understood


def _in_any_case(word: str) -> str:
    # Patterns of JSON Schema have no flag that ignores case.
    return "".join(f"[{letter}{letter.lower()}]" if letter.isalpha() else letter for letter in word)


@pytest.mark.parametrize(
    ("member", "pattern"),
    [
        ("organizationId", ORGANIZATION_NAME_PATTERN),
        ("newPlan", PLAN_PATTERN),
        ("subscriptionId", SUBSCRIPTION_ID_PATTERN),
        ("planName", PLAN_NAME_PATTERN),
        ("newStatus", f"({'|'.join(_in_any_case(status) for status in SUBSCRIPTION_STATUSES)})"),
        *((name, MOMENT_PATTERN) for name in ("changedAt", "currentPeriodStart", "currentPeriodEnd", "trialEndsAt")),
    ],
)
def test_the_schemas_have_the_codes_own_patterns(member: str, pattern: str) -> None:
    detail = _SCHEMAS[SUBSCRIPTION_CHANGED]["properties"]["detail"]["properties"]
    assert detail["payload"]["properties"][member]["pattern"] == f"^{pattern}$"


def test_the_schemas_have_one_envelope() -> None:
    envelopes = [
        {name: said for name, said in schema["properties"]["detail"]["properties"].items() if name in ("id", "version")}
        for schema in _SCHEMAS.values()
    ]
    assert envelopes == [envelopes[0]] * len(CONSUMED)
    assert envelopes[0]["id"]["pattern"] == f"^{EVENT_ID_PATTERN}$"
    assert envelopes[0]["version"]["pattern"] == f"^{VERSION_PATTERN}$"
