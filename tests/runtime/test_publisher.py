"""The publisher's bundle under AWS's own runtime client."""

import json

from tests.runtime.conftest import Start
from tests.runtime.proxy import Proxy
from tests.testing.local_stack import LocalStack
from tests.testing.payloads import payload

HANDLER = "metering.publisher.handler"


def test_new_usage_is_published(start: Start, aws: Proxy, own_bus: str) -> None:
    batch = payload("stream-new.json")
    with start(HANDLER, BUS_NAME=own_bus) as environment:
        outcome = environment.invoke(batch)
    assert (outcome.kind, outcome.body) == ("response", {"batchItemFailures": []})
    ((operation, body),) = aws.calls
    assert operation == "PutEvents"
    published = [json.loads(entry["Detail"])["id"] for entry in json.loads(body)["Entries"]]
    assert published == [record["dynamodb"]["NewImage"]["eventId"]["S"] for record in batch["Records"]]


def test_a_record_that_can_never_be_published_goes_to_the_failure_bucket(
    stack: LocalStack, start: Start, own_bus: str, own_bucket: str
) -> None:
    with start(HANDLER, BUS_NAME=own_bus, FAILURE_BUCKET=own_bucket) as environment:
        outcome = environment.invoke(payload("stream-malformed.json"))
    assert (outcome.kind, outcome.body) == ("response", {"batchItemFailures": []})
    kept = stack.access.s3().list_objects_v2(Bucket=own_bucket)["Contents"]
    assert [one["Key"].partition("/")[0] for one in kept] == ["unpublishable"]


def test_an_unhandled_error_fails_its_invocation_and_the_environment_goes_on(start: Start, own_bus: str) -> None:
    with start(HANDLER, BUS_NAME=own_bus) as environment:
        failed = environment.invoke({"not": "a batch of the stream"})
        assert (failed.kind, failed.body["errorType"]) == ("error", "NotAStreamBatch")
        assert "[ERROR] NotAStreamBatch" in environment.log()
        assert environment.invoke(payload("stream-new.json")).kind == "response"
