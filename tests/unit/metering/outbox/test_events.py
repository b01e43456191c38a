import json
from datetime import datetime
from typing import Any

import jsonschema
import pytest
from metering.model.notices import Notice
from metering.model.usage import MAX_LIMIT, MAX_QUANTITY
from metering.outbox.events import Fact, entry, envelope, new_fact
from metering.storage.notice_items import notice_item
from metering.storage.signals import MalformedItem
from metering.storage.usage_records import usage_key

from tests.testing.payloads import payload

# PutEvents accepts 256 KB per call. Source: EventBridge API reference, PutEvents.
MOST_BYTES_OF_A_CALL = 256 * 1024


def stream_record(file: str, position: int = 0) -> dict[str, Any]:
    record: dict[str, Any] = payload(file)["Records"][position]
    return record


def found(record: dict[str, Any]) -> Fact:
    fact = new_fact(record)
    assert fact is not None
    return fact


def noticed(percentage: int, **members: Any) -> Any:
    """The stream record of the notice whose event is the published example."""
    example = payload(f"billing.limit.{'reached' if percentage == 100 else 'approaching'}.json")["detail"]
    event = example["payload"]
    facts = {
        "organization": event["organizationId"],
        "feature": event["feature"],
        "billing_period": "2026-11",
        "limit": event["limit"],
        "percentage": percentage,
        "current_usage": event["currentUsage"],
        "noticed_at": datetime.fromisoformat(event["reachedAt"]),
        "event_id": example["id"],
        "expires_at": 1829953205,
    }
    return {"eventName": "INSERT", "dynamodb": {"NewImage": notice_item(Notice(**{**facts, **members}))}}


def test_a_new_record_is_the_published_example() -> None:
    published = payload("billing.usage.recorded.json")
    fact = found(stream_record("stream-new.json"))
    sent = entry(fact, "metering", "saas.billing")
    assert json.loads(sent["Detail"]) == published["detail"]
    assert (sent["DetailType"], sent["Source"]) == (published["detail-type"], published["source"])
    assert sent["EventBusName"] == "metering"
    assert sent["Time"] == fact.occurred_at


def test_an_overwritten_expired_record_is_a_new_usage() -> None:
    assert found(stream_record("stream-expired-overwritten.json")).id == "1f0c9a52-7c1e-4b0e-9d0a-3a8f6b5f2c10"


def test_a_record_that_ttl_removed_is_not_a_new_usage() -> None:
    assert new_fact(stream_record("stream-ttl-removed.json")) is None


def test_a_record_touched_by_hand_is_not_a_new_usage() -> None:
    record = stream_record("stream-new.json")
    old = record["dynamodb"]["NewImage"]
    record["eventName"] = "MODIFY"
    record["dynamodb"] |= {"OldImage": old, "NewImage": old | {"expiresAt": {"N": "1900000000"}}}
    assert new_fact(record) is None


@pytest.mark.parametrize("pk", ["counter#demo-org#2026-11", "organization#demo-org", "plan#pro", "usages#x"])
def test_other_items_are_no_usage(pk: str) -> None:
    record = stream_record("stream-new.json")
    record["dynamodb"]["NewImage"] = {"pk": {"S": pk}, "sk": {"S": "x"}}
    assert new_fact(record) is None


@pytest.mark.parametrize("change", [{}, {"NewImage": None}, {"NewImage": {}}, {"NewImage": {"pk": {"S": "usage#a#b"}}}])
def test_a_record_that_cannot_be_read_is_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedItem):
        new_fact({"eventName": "INSERT", "dynamodb": change})


def test_the_event_has_no_trace_id_where_the_record_has_none() -> None:
    record = stream_record("stream-new.json")
    del record["dynamodb"]["NewImage"]["traceId"]
    assert "traceId" not in envelope(found(record))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_events_fit_their_schema(position: int) -> None:
    schema = payload("billing.usage.recorded.schema.json")
    event = payload("billing.usage.recorded.json")
    jsonschema.validate(event, schema)
    event["detail"] = envelope(found(stream_record("stream-new.json", position)))
    jsonschema.validate(event, schema)


@pytest.mark.parametrize("name", ["quantity", "organizationId", "feature", "billingPeriod", "recordedAt"])
def test_the_schema_asks_for_all_five_members_of_the_payload(name: str) -> None:
    event = payload("billing.usage.recorded.json")
    del event["detail"]["payload"][name]
    with pytest.raises(jsonschema.ValidationError, match=name):
        jsonschema.validate(event, payload("billing.usage.recorded.schema.json"))


@pytest.mark.parametrize(("percentage", "name"), [(100, "billing.limit.reached"), (80, "billing.limit.approaching")])
def test_a_notice_is_the_published_example_and_fits_its_schema(percentage: int, name: str) -> None:
    published = payload(f"{name}.json")
    sent = entry(found(noticed(percentage)), "metering", "saas.billing")
    assert json.loads(sent["Detail"]) == published["detail"]
    assert sent["DetailType"] == name
    jsonschema.validate(published, payload(f"{name}.schema.json"))


def test_a_notice_that_ttl_removed_or_that_was_edited_by_hand_is_not_new() -> None:
    record = noticed(100)
    assert new_fact({**record, "eventName": "REMOVE"}) is None
    image = record["dynamodb"]["NewImage"]
    touched = {"eventName": "MODIFY", "dynamodb": {"OldImage": image, "NewImage": {**image, "expiresAt": {"N": "1"}}}}
    assert new_fact(touched) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pk", {"S": "notice#demo-org"}),
        ("sk", {"S": "api_calls#1000"}),
        ("sk", {"S": "api_calls#1000#101"}),
        ("sk", {"S": f"api_calls#{2**53}#100"}),
        ("currentUsage", {"S": "many"}),
        ("noticedAt", {"S": "now"}),
        ("eventId", None),
    ],
)
def test_a_notice_that_cannot_be_read_is_malformed(name: str, value: Any) -> None:
    record = noticed(100)
    record["dynamodb"]["NewImage"][name] = value
    with pytest.raises(MalformedItem):
        new_fact(record)


def test_a_notice_of_the_largest_limit_can_be_read_again() -> None:
    fact = found(noticed(100, limit=MAX_LIMIT, current_usage=10**16 - 1))
    assert (fact.payload["limit"], fact.payload["currentUsage"]) == (MAX_LIMIT, 10**16 - 1)


def test_the_largest_envelope_fits_ten_times_into_one_call() -> None:
    record = stream_record("stream-new.json")
    record["dynamodb"]["NewImage"] |= {
        **usage_key("o" * 64, "k" * 255),
        "organizationId": {"S": "o" * 64},
        "feature": {"S": "f" * 64},
        "quantity": {"N": str(MAX_QUANTITY)},
        "traceId": {"S": "t" * 128},
    }
    sent = entry(found(record), "b" * 256, "s" * 256)
    # 14 bytes for Time, and the UTF-8 bytes of the texts. Source: EventBridge user guide, "Calculating event entry
    # size".
    size = 14 + sum(len(text.encode()) for text in (sent["Source"], sent["DetailType"], sent["Detail"]))
    assert 10 * size < MOST_BYTES_OF_A_CALL
