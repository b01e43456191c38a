import json
from datetime import datetime
from typing import Any

import jsonschema
import pytest
from metering.http.models import MAX_METADATA_BYTES
from metering.http.strict_json import compact
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


def test_an_event_has_what_the_caller_sent_with_the_usage() -> None:
    assert found(stream_record("stream-new.json", 1)).payload == {
        "organizationId": "demo-org",
        "feature": "storage_gb",
        "quantity": 250,
        "billingPeriod": "2026-11",
        "recordedAt": "2026-11-23T00:20:05.123Z",
        "idempotencyKey": "nightly-2026-11-23",
        "sourceId": "req-7f3a",
        "sourceType": "request",
        "metadata": {"region": "eu-central-1"},
    }


@pytest.mark.parametrize("name", ["sourceId", "sourceType", "metadata"])
def test_an_event_has_only_the_members_that_the_record_has(name: str) -> None:
    record = stream_record("stream-new.json", 1)
    everything = found(record).payload
    del record["dynamodb"]["NewImage"][name]
    assert found(record).payload == {each: value for each, value in everything.items() if each != name}


def test_a_source_that_is_empty_was_sent() -> None:
    record = stream_record("stream-new.json")
    record["dynamodb"]["NewImage"] |= {"sourceId": {"S": ""}, "sourceType": {"S": ""}, "metadata": {"S": "{}"}}
    payload_ = found(record).payload
    assert (payload_["sourceId"], payload_["sourceType"], payload_["metadata"]) == ("", "", {})


@pytest.mark.parametrize(
    "metadata",
    ["", '{"a":"\\ud800"}', "{", "[]", "7", "null", '"x"', '{"a":1', "[" * 100_000, '{"n":' + "9" * 5000 + "}"],
)
def test_metadata_that_is_no_object_is_malformed(metadata: str) -> None:
    record = stream_record("stream-new.json")
    record["dynamodb"]["NewImage"]["metadata"] = {"S": metadata}
    with pytest.raises(MalformedItem, match="metadata"):
        new_fact(record)


@pytest.mark.parametrize(
    "metadata",
    [{"a": [1.0, 1e300, -0.5, True, None, "\u2028\u00fc\U0001f600\x00\x7f"]}, {"n": 10**4000}, {"\x00": {"": ""}}],
)
def test_metadata_is_published_as_it_was_sent(metadata: dict[str, Any]) -> None:
    record = stream_record("stream-new.json")
    record["dynamodb"]["NewImage"]["metadata"] = {"S": compact(metadata)}
    detail = entry(found(record), "metering", "saas.billing")["Detail"]
    assert json.loads(detail)["payload"]["metadata"] == metadata


@pytest.mark.parametrize(
    "name", ["quantity", "organizationId", "feature", "billingPeriod", "recordedAt", "idempotencyKey"]
)
def test_the_schema_asks_for_the_members_that_each_usage_has(name: str) -> None:
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


def _longest(character: str) -> str:
    """A metadata text that is as long as the API accepts, with one member whose text repeats this character."""
    each = len(compact(character).encode()) - len('""')
    return compact({"a": character * ((MAX_METADATA_BYTES - len('{"a":""}')) // each)})


# A control character takes six bytes in a text. With ASCII escapes, U+007F would take six bytes, too, and other
# characters two or three times their UTF-8. Spaces would add half to an array of numbers.
@pytest.mark.parametrize("character", ["\U0001f600", "\u00fc", "\uffff", "\x00", "\x7f", '"', "x"])
@pytest.mark.parametrize("is_array", [False, True], ids=["text", "array"])
def test_the_largest_envelope_fits_ten_times_into_one_call(character: str, is_array: bool) -> None:
    metadata = compact({"a": [0] * 2044}) if is_array else _longest(character)
    assert MAX_METADATA_BYTES - 6 < len(metadata.encode()) <= MAX_METADATA_BYTES
    record = stream_record("stream-new.json")
    record["dynamodb"]["NewImage"] |= {
        **usage_key("o" * 64, '"' * 255),
        "organizationId": {"S": "o" * 64},
        "feature": {"S": "f" * 64},
        "quantity": {"N": str(MAX_QUANTITY)},
        "traceId": {"S": '"' * 128},
        "sourceId": {"S": character * 255},
        "sourceType": {"S": character * 255},
        "metadata": {"S": metadata},
    }
    sent = entry(found(record), "b" * 256, "s" * 256)
    # 14 bytes for Time, and the UTF-8 bytes of the texts. Source: EventBridge user guide, "Calculating event entry
    # size".
    size = 14 + sum(len(text.encode()) for text in (sent["Source"], sent["DetailType"], sent["Detail"]))
    assert 10 * size < MOST_BYTES_OF_A_CALL
