"""Both checks of events against their schemas find the same errors."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults import schemas
from tests.testing.payloads import payload

pytestmark = pytest.mark.verify

_GOOD: dict[str, Any] = payload("billing.usage.recorded.json")


@pytest.mark.parametrize("errors", [schemas.errors, schemas.errors_by_shape])
@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"quantity": 0}, "0 is less than the minimum of 1"),
        ({"quantity": 10_000_000_000}, "10000000000 is greater than the maximum"),
        ({"quantity": 1.5}, "1.5 is not"),
        ({"quantity": "11"}, "'11' is not of type 'integer'"),
        ({"billingPeriod": "November"}, "'November' does not match"),
        ({"recordedAt": "2026-11-23 00:20:04"}, "'2026-11-23 00:20:04' "),
        ({"feature": "api#calls"}, "'api#calls' does not match"),
        ({"more": 1}, "'more' was unexpected"),
    ],
)
def test_an_event_that_breaks_its_schema_is_reported(
    members: dict[str, Any], expected: str, errors: Callable[[Any], list[str]]
) -> None:
    assert errors(_GOOD) == []
    event = copy.deepcopy(_GOOD)
    event["detail"]["payload"].update(members)
    assert any(expected in error for error in errors(event)), errors(event)


def test_events_that_differ_only_in_ids_dates_and_small_numbers_are_validated_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert schemas.errors_by_shape(_GOOD) == []
    monkeypatch.setattr(schemas, "errors", lambda _: ["it was checked again"])
    event = copy.deepcopy(_GOOD)
    event["detail"] |= {"id": "ffffffff-6a05-4b3f-9a39-3f0a2d3c1a10", "occurredAt": "2027-01-02T03:04:05.678Z"}
    event["detail"]["payload"] |= {"quantity": 123, "billingPeriod": "2027-01"}
    assert schemas.errors_by_shape(event) == []
    assert schemas.errors_by_shape({**event, "more": 1}) == ["it was checked again"]
