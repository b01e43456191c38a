"""Every event against its table: a published event has exactly these fields, and a consumed event needs them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.metrics import EphemeralMetrics
from metering import limit_watcher, publisher, subscriptions
from metering.inbound import consumed_events
from metering.inbound.organization_changes import SubscriptionDeps
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.outbox import events
from metering.outbox.publishing import PublisherDeps
from metering.outbox.thresholds import WatcherDeps
from metering.storage.organization_items import organization_key

from tests.contract.conftest import Api
from tests.contract.schemas import breaking, check, plain, schema_of
from tests.contract.tables import ALWAYS, BY_KEY, CONSUMED, ENVELOPE, PUBLISHED, Event, Field
from tests.testing.aws import SESSION
from tests.testing.logs import logger
from tests.testing.payloads import example, payload
from tests.testing.service import Context
from tests.testing.table import items, put_on_plan

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def _instruments() -> dict[str, Any]:
    return {
        "logger": logger(),
        "metrics": EphemeralMetrics(),
    }


# --- published -------------------------------------------------------------------------------------------------------


@dataclass
class Bus:
    """A bus that keeps its entries as EventBridge would deliver them."""

    delivered: list[dict[str, Any]] = field(default_factory=list)

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
        self.delivered += Entries
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}] * len(Entries)}


@pytest.fixture
def published(api: Api) -> Mapping[str, dict[str, Any]]:
    """The PutEvents entries that one record with all its fields, beyond its limit, causes, by detail type."""
    client, clock = api.record.client, api.record.clock
    put_on_plan(client, "usage", Organization("demo-org"), Plan("pro", "Pro", {"api_calls": Entitlement(limit=5)}))
    api(BY_KEY["usage.record"], example(quantity=7, sourceId="req-7f3a", sourceType="request", metadata={"a": [1]}))
    context: Any = Context(clock, timeout_s=300)
    watcher_deps = WatcherDeps(client, "usage", timedelta(days=400), clock.now, **_instruments())
    limit_watcher.respond({"Records": _stream(client, "counter#")}, context, watcher_deps)
    bus: Any = Bus()
    store: Any = None
    publisher_deps = PublisherDeps(
        bus, "metering", "saas.billing", store, "failures", 4, clock.sleep, Random(1), **_instruments()
    )
    changes = [*_stream(client, "usage#"), *_stream(client, "notice#")]
    assert publisher.respond({"Records": changes}, context, publisher_deps) == {"batchItemFailures": []}
    assert len(bus.delivered) == len(PUBLISHED)
    return {entry["DetailType"]: entry for entry in bus.delivered}


def _stream(client: "DynamoDBClient", prefix: str) -> list[Any]:
    """The stream records of the new items."""
    return [
        {
            "eventName": "INSERT",
            "dynamodb": {"Keys": {"pk": item["pk"], "sk": item["sk"]}, "NewImage": item, "SequenceNumber": str(number)},
        }
        for number, item in enumerate(items(client, "usage", prefix), start=1)
    ]


each_published = pytest.mark.parametrize("event", PUBLISHED, ids=lambda event: event.key)


def test_the_events_are_those_of_the_tables(published: Mapping[str, Any]) -> None:
    named = {events.USAGE_RECORDED, events.LIMIT_REACHED, events.LIMIT_APPROACHING}
    assert {event.key for event in PUBLISHED} == published.keys() == named
    assert {event.key for event in CONSUMED} == set(consumed_events.CONSUMED)


@each_published
def test_a_published_event_has_the_tables_fields_and_no_others(published: Mapping[str, Any], event: Event) -> None:
    detail = json.loads(published[event.key]["Detail"])
    check(detail, schema_of(_envelope(event)))
    assert detail["payload"].keys() == {each.name for each in event.payload}
    assert (detail["key"], detail["version"]) == (event.key, "1.0.0")
    # One request causes a usage event. Many requests or none cause a notice, so its event has no trace id.
    assert ("traceId" in detail) is (event.key == "billing.usage.recorded")


@each_published
def test_the_example_of_an_event_is_what_its_table_says(event: Event) -> None:
    delivered = payload(f"{event.key}.json")
    assert delivered["detail-type"] == event.key
    check(delivered["detail"], schema_of(_envelope(event)))


@each_published
def test_the_schema_of_an_event_says_what_its_table_says(event: Event) -> None:
    schema = payload(f"{event.key}.schema.json")["properties"]["detail"]
    expected = schema_of(_envelope(event))
    # Only a usage event can have a trace id, so the other schemas may omit it.
    if event.key != "billing.usage.recorded":
        del expected["properties"]["traceId"]
    _assert_says(plain(schema, {}), plain(expected, {}))
    assert schema["additionalProperties"] is schema["properties"]["payload"]["additionalProperties"] is False


def _envelope(event: Event) -> list[Field]:
    return [replace(each, parts=event.payload) if each.name == "payload" else each for each in ENVELOPE]


def _assert_says(schema: Any, expected: Any, at: str = "detail") -> None:
    """The schema has the same fields and constrains each at least as `expected` does."""
    if not isinstance(expected, dict):
        assert schema == expected, at
        return
    assert expected.keys() - schema.keys() <= ({"type"} if "const" in schema else set()), at
    if "properties" in expected:
        assert schema["properties"].keys() == expected["properties"].keys(), at
    for name in expected.keys() & schema.keys():
        _assert_says(schema[name], expected[name], f"{at}.{name}")


# --- consumed --------------------------------------------------------------------------------------------------------

# The state of a subscription does not depend on these fields, so the function does not check them.
NOT_READ = {"occurredAt", "traceId", "previousPlan", "previousStatus", "name", "slug", "createdBy", "deletedBy"}

# Each field of `billing.subscription.changed`, with the field of `subscription.get` that returns it.
RETURNED_AS = {
    "organizationId": "organizationId",
    "newPlan": "planId",
    "newStatus": "status",
    "subscriptionId": "id",
    "planName": "planName",
    "currentPeriodStart": "currentPeriodStart",
    "currentPeriodEnd": "currentPeriodEnd",
    "trialEndsAt": "trialEndsAt",
    "cancelAtPeriodEnd": "cancelAtPeriodEnd",
}
FIELDS = [(event, each) for event in CONSUMED for each in event.payload]
NEEDED = [(event, each) for event, each in FIELDS if each.when == ALWAYS]
OPTIONAL = [(event, each) for event, each in FIELDS if each.when != ALWAYS]
READ = [(event, each) for event, each in FIELDS if each.name not in NOT_READ]
_CHANGED = next(event for event in CONSUMED if event.key == "billing.subscription.changed")


def _named(argument: Any) -> str:
    return argument.key if isinstance(argument, Event) else argument.name


@pytest.fixture
def deps(api: Api) -> SubscriptionDeps:
    queue = SESSION.client("sqs")
    url = queue.create_queue(QueueName="rejected")["QueueUrl"]
    return SubscriptionDeps(api.record.client, "usage", queue, url, api.record.clock.now, **_instruments())


def _event(event: Event) -> Any:
    """The event with every field of its table, about a new organization."""
    delivered = payload(f"{event.key}.json")
    if event.key == "billing.subscription.changed":
        more = {"organizationId": "newcomer", "trialEndsAt": "2026-12-01T00:00:00.000Z"}
        delivered["detail"]["payload"] |= more
    return delivered


def _stored(deps: SubscriptionDeps) -> Any:
    return deps.client.get_item(TableName="usage", Key=organization_key("newcomer")).get("Item")


def _reasons(deps: SubscriptionDeps) -> Iterator[str]:
    queue, url = deps.queue, deps.queue_url
    while received := queue.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in received:
            queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            yield json.loads(message["Body"])["reason"]


@pytest.mark.parametrize("event", CONSUMED, ids=_named)
def test_an_event_with_all_its_fields_is_consumed(api: Api, deps: SubscriptionDeps, event: Event) -> None:
    delivered = _event(event)
    check(delivered["detail"], schema_of(_envelope(event)))
    assert delivered["detail"]["payload"].keys() == {each.name for each in event.payload}
    subscriptions.respond(delivered, deps)
    assert list(_reasons(deps)) == []
    assert _stored(deps)["status"] == {"S": "inactive" if event.key == "org.deleted" else "active"}
    api(BY_KEY["subscription.get"], {}, 200 if event == _CHANGED else 404, org_id="newcomer")


@pytest.mark.parametrize("name", RETURNED_AS)
def test_subscription_get_returns_the_fields_of_a_consumed_event(api: Api, deps: SubscriptionDeps, name: str) -> None:
    delivered = _event(_CHANGED)
    subscriptions.respond(delivered, deps)
    returned = api(BY_KEY["subscription.get"], {}, org_id="newcomer").body
    assert returned[RETURNED_AS[name]] == delivered["detail"]["payload"][name]


def test_subscription_get_returns_the_status_in_upper_case(api: Api, deps: SubscriptionDeps) -> None:
    delivered = _event(_CHANGED)
    delivered["detail"]["payload"]["newStatus"] = "past_Due"
    check(delivered["detail"], schema_of(_envelope(_CHANGED)))
    subscriptions.respond(delivered, deps)
    assert list(_reasons(deps)) == []
    assert api(BY_KEY["subscription.get"], {}, org_id="newcomer").body["status"] == "PAST_DUE"


def test_every_further_member_of_a_subscription_may_be_in_the_event() -> None:
    assert set(RETURNED_AS.values()) == {each.name for each in BY_KEY["subscription.get"].output}
    assert RETURNED_AS.keys() <= {each.name for each in _CHANGED.payload}


@pytest.mark.parametrize(("event", "needed"), NEEDED, ids=_named)
def test_an_event_without_a_required_field_is_rejected_with_its_name(
    deps: SubscriptionDeps, event: Event, needed: Field
) -> None:
    delivered = _event(event)
    del delivered["detail"]["payload"][needed.name]
    subscriptions.respond(delivered, deps)
    assert [needed.name in reason for reason in _reasons(deps)] == [True]
    assert _stored(deps) is None


@pytest.mark.parametrize(("event", "optional"), OPTIONAL, ids=_named)
def test_an_event_without_an_optional_field_is_consumed(deps: SubscriptionDeps, event: Event, optional: Field) -> None:
    delivered = _event(event)
    del delivered["detail"]["payload"][optional.name]
    subscriptions.respond(delivered, deps)
    assert list(_reasons(deps)) == []
    assert _stored(deps) is not None


@pytest.mark.parametrize(("event", "read"), READ, ids=_named)
def test_an_event_with_a_field_of_another_type_is_rejected_with_its_name(
    deps: SubscriptionDeps, event: Event, read: Field
) -> None:
    # An optional field may be null, which means unknown.
    values = [value for value in breaking(read) if value is not None or read.when == ALWAYS]
    for value in values:
        delivered = _event(event)
        delivered["detail"]["payload"][read.name] = value
        subscriptions.respond(delivered, deps)
    assert [read.name in reason for reason in _reasons(deps)] == [True] * len(values)
    assert _stored(deps) is None


@pytest.mark.parametrize("event", CONSUMED, ids=_named)
@pytest.mark.parametrize("needed", [each for each in ENVELOPE if each.name not in NOT_READ], ids=_named)
def test_an_envelope_that_lacks_or_breaks_a_field_is_rejected(
    deps: SubscriptionDeps, event: Event, needed: Field
) -> None:
    without = _event(event)
    del without["detail"][needed.name]
    subscriptions.respond(without, deps)
    values = list(breaking(needed))
    for value in values:
        broken = _event(event)
        broken["detail"][needed.name] = value
        subscriptions.respond(broken, deps)
    assert [needed.name in reason for reason in _reasons(deps)] == [True] * (1 + len(values))
    assert _stored(deps) is None


@pytest.mark.parametrize("event", CONSUMED, ids=_named)
def test_fields_that_no_table_has_are_ignored(deps: SubscriptionDeps, event: Event) -> None:
    delivered = _event(event)
    delivered["detail"]["payload"]["more"] = "than we know"
    subscriptions.respond(delivered, deps)
    assert list(_reasons(deps)) == []
    assert _stored(deps) is not None


def test_an_organization_is_created_only_if_it_is_absent(deps: SubscriptionDeps) -> None:
    subscriptions.respond(_event(_CHANGED), deps)
    before = _stored(deps)
    subscriptions.respond(_event(next(event for event in CONSUMED if event.key == "org.created")), deps)
    assert _stored(deps) == before
