"""From an HTTPS call to an event on the bus, on the deployed stack."""

import time
from typing import Any

import jsonschema
from metering.storage.usage_records import deletable_at, usage_key

from ops import organizations
from tests.testing.local_stack import LocalStack, at_once, ids
from tests.testing.payloads import example, payload
from tests.testing.table import counted, records


def test_the_contracts_example_and_99_more_are_counted_and_published(stack: LocalStack) -> None:
    organization = stack.new_organization()
    first = stack.record(organization, example())
    assert first.status_code == 200
    assert first.headers["content-type"] == "application/json"
    assert first.json() == {"recorded": True, "currentUsage": 1, "limitReached": False}
    for number in range(98):
        stack.record(organization, example(idempotencyKey=f"more-{number}")).raise_for_status()
    assert stack.record(organization, example(idempotencyKey="the-100th")).json()["currentUsage"] == 100

    events = stack.events(organization, at_least=100)
    stored = records(stack.dynamodb, stack.table, organization)
    assert ids(events) == {item["eventId"]["S"]: 1 for item in stored}
    keys = {item["eventId"]["S"]: item["sk"]["S"] for item in stored}
    schema = payload("billing.usage.recorded.schema.json")
    for event in events:
        jsonschema.validate(event, schema)
        assert event["source"] == "saas.billing"
        assert event["detail"]["payload"] == {
            "organizationId": organization,
            "feature": "api_calls",
            "quantity": 1,
            "billingPeriod": event["detail"]["occurredAt"][:7],
            "recordedAt": event["detail"]["occurredAt"],
            "idempotencyKey": keys[event["detail"]["id"]],
        }
        # EventBridge delivers the Time that the publisher sets. The emulator delivers the time at which it got the
        # event.
        assert event["time"] >= event["detail"]["occurredAt"][:19] + "Z"


def test_the_same_call_100_times_at_once_counts_once_and_is_one_event(stack: LocalStack) -> None:
    organization = stack.new_organization()
    answers = at_once(lambda body: _until_answered(stack, organization, body), [example(quantity=7)] * 100)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["currentUsage"] for answer in answers} == {7}
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert counted(stack.dynamodb, stack.table, organization) == (7, 1)
    (stored,) = records(stack.dynamodb, stack.table, organization)
    assert ids(stack.events(organization, at_least=1)).keys() == {stored["eventId"]["S"]}


def test_200_distinct_calls_at_once_add_up_everywhere(stack: LocalStack) -> None:
    organization = stack.new_organization()
    bodies = [example(idempotencyKey=f"k-{number}") for number in range(200)]
    answers = at_once(lambda body: _until_answered(stack, organization, body), bodies)
    assert {answer.status_code for answer in answers} == {200}
    assert counted(stack.dynamodb, stack.table, organization) == (200, 200)
    stored = records(stack.dynamodb, stack.table, organization)
    assert sum(int(item["quantity"]["N"]) for item in stored) == 200
    published = {event["detail"]["id"]: event for event in stack.events(organization, at_least=200)}
    assert published.keys() == {item["eventId"]["S"] for item in stored}
    assert sum(event["detail"]["payload"]["quantity"] for event in published.values()) == 200


def test_a_key_belongs_to_one_content_per_organization(stack: LocalStack) -> None:
    organization, other = stack.new_organization(), stack.new_organization()
    stack.record(organization, example(metadata={"a": 1, "b": 2})).raise_for_status()
    reordered = {"metadata": {"b": 2, "a": 1}, "idempotencyKey": "abc-123", "quantity": 1, "feature": "api_calls"}
    replay = stack.record(organization, reordered)
    assert (replay.status_code, replay.headers["idempotent-replayed"]) == (200, "true")
    reused = stack.record(organization, example(quantity=2, metadata={"a": 1, "b": 2}))
    assert (reused.status_code, reused.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert "idempotent-replayed" not in stack.record(other, example(quantity=5)).headers
    assert counted(stack.dynamodb, stack.table, organization) == (1, 1)
    assert counted(stack.dynamodb, stack.table, other) == (5, 1)


def test_a_replay_is_answered_after_the_organization_became_inactive(stack: LocalStack) -> None:
    organization = stack.new_organization()
    stack.record(organization, example()).raise_for_status().raise_for_status()
    organizations.put(stack.dynamodb, stack.table, organization, "inactive")
    replay = stack.record(organization, example())
    assert (replay.status_code, replay.headers["idempotent-replayed"]) == (200, "true")


def test_an_inactive_organization_records_nothing_new(stack: LocalStack) -> None:
    organization = stack.new_organization("inactive")
    refused = stack.record(organization, example())
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    assert records(stack.dynamodb, stack.table, organization) == []


def test_an_expired_key_is_recorded_and_published_again(stack: LocalStack) -> None:
    organization = stack.new_organization()
    stack.record(organization, example()).raise_for_status().raise_for_status()
    (first,) = records(stack.dynamodb, stack.table, organization)

    def expire_at(epoch_s: int) -> None:
        stack.dynamodb.update_item(
            TableName=stack.table,
            Key=usage_key(organization, "abc-123"),
            UpdateExpression="SET expiresAt = :at",
            ExpressionAttributeValues={":at": {"N": str(deletable_at(epoch_s))}},
        )

    expire_at(int(time.time()) + 30)
    assert stack.record(organization, example()).headers["idempotent-replayed"] == "true"
    # The record expires in the current second, so its key is free from the start of that second.
    expire_at(int(time.time()))
    again = stack.record(organization, example(quantity=4))
    assert (again.status_code, again.json()["currentUsage"]) == (200, 5)
    (second,) = records(stack.dynamodb, stack.table, organization)
    # The changes of its expiry published nothing. Overwriting the record did.
    assert ids(stack.events(organization, at_least=2)) == {first["eventId"]["S"]: 1, second["eventId"]["S"]: 1}


def test_the_events_trace_id_is_the_requests_id(stack: LocalStack) -> None:
    organization = stack.new_organization()
    stack.record(organization, example()).raise_for_status().raise_for_status()
    (event,) = stack.events(organization, at_least=1)
    (stored,) = records(stack.dynamodb, stack.table, organization)
    assert event["detail"]["traceId"] == stored["traceId"]["S"]


def test_a_malformed_record_reaches_the_failure_bucket_and_its_neighbours_the_bus(stack: LocalStack) -> None:
    organization = stack.new_organization()
    stack.record(organization, example(idempotencyKey="before")).raise_for_status()
    key = usage_key(organization, "by-hand")
    stack.dynamodb.put_item(TableName=stack.table, Item={**key, "eventId": {"S": "by-hand"}, "feature": {"N": "1"}})
    stack.record(organization, example(idempotencyKey="after")).raise_for_status()
    assert len(stack.events(organization, at_least=2)) == 2
    kept = [each for each in _failures(stack) if key["pk"]["S"] in each]
    assert len(kept) == 1
    assert "organizationId" in kept[0]


def _until_answered(stack: LocalStack, organization: str, body: Any) -> Any:
    """Send the same usage until the answer is no 503, at most ten times."""
    for _ in range(10):
        answer = stack.record(organization, body)
        if answer.status_code != 503:
            return answer
    return answer


def _failures(stack: LocalStack) -> list[str]:
    s3 = stack.access.s3()
    bucket = next(
        output["OutputValue"]
        for output in stack.access.cloudformation().describe_stacks(StackName="usage-metering-local-data")["Stacks"][0][
            "Outputs"
        ]
        if output["OutputKey"] == "FailureBucket"
    )
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="unpublishable/").get("Contents", [])
    return [s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read().decode() for each in listed]
