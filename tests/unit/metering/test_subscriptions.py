"""Events of other services about organizations are stored once, in any order of arrival."""

import itertools
import json
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.metrics import EphemeralMetrics
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metering import subscriptions
from metering.inbound import organization_changes
from metering.inbound.organization_changes import SubscriptionDeps
from metering.model.organizations import Organization
from metering.storage.lists import organizations_list
from metering.storage.organization_items import organization_from_item, organization_item, organization_key

from ops import organizations
from tests.testing.aws import SESSION
from tests.testing.contention import answer_with, failed
from tests.testing.logs import logger
from tests.testing.payloads import payload
from tests.testing.service import NOW
from tests.testing.table import create_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture
def deps(dynamodb: "DynamoDBClient") -> SubscriptionDeps:
    return _deps(dynamodb, "usage")


def _deps(dynamodb: "DynamoDBClient", table: str) -> SubscriptionDeps:
    queue = SESSION.client("sqs")
    metrics: Any = EphemeralMetrics()
    url = queue.create_queue(QueueName="rejected")["QueueUrl"]
    return SubscriptionDeps(dynamodb, table, queue, url, lambda: NOW, logger(), metrics)


def _event(**members: Any) -> Any:
    """The example event, with `id` as its own id and all other members in its payload."""
    event = payload("billing.subscription.changed.json")
    event["detail"]["id"] = members.pop("id", event["detail"]["id"])
    event["detail"]["payload"] |= members
    return event


def _stored(deps: SubscriptionDeps, organization: str = "demo-org") -> Any:
    key = organization_key(organization)
    return deps.client.get_item(TableName=deps.table, Key=key, ConsistentRead=True).get("Item")


def _rejected(deps: SubscriptionDeps) -> list[Any]:
    received = deps.queue.receive_message(QueueUrl=deps.queue_url, MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in received.get("Messages", [])]


def test_a_changed_subscription_is_stored(deps: SubscriptionDeps) -> None:
    subscriptions.respond(_event(), deps)
    item = _stored(deps)
    organization = organization_from_item(item)
    assert (organization.plan, organization.plan_name) == ("pro", "Pro")
    assert (organization.subscription_id, organization.subscription_status) == ("sub-42", "ACTIVE")
    assert organization.active
    assert organization.cancel_at_period_end is False
    assert _rejected(deps) == []


def test_an_organization_that_was_unknown_is_created_active(deps: SubscriptionDeps) -> None:
    subscriptions.respond(_event(organizationId="newcomer"), deps)
    item = _stored(deps, "newcomer")
    assert (item["organizationId"]["S"], item["status"]["S"]) == ("newcomer", "active")


@pytest.mark.parametrize("kind", ["org.created", "org.deleted", "billing.subscription.changed"])
def test_an_organization_is_listed_by_the_event_that_creates_it(deps: SubscriptionDeps, kind: str) -> None:
    event = payload(f"{kind}.json")
    members = event["detail"]["payload"]
    members["orgId" if "orgId" in members else "organizationId"] = "newcomer"
    subscriptions.respond(event, deps)
    assert _stored(deps, "newcomer")["listedIn"] == organizations_list("newcomer")


def test_an_organization_is_created_only_if_it_is_absent(deps: SubscriptionDeps) -> None:
    created = payload("org.created.json")
    subscriptions.respond(created, deps)
    assert _stored(deps, "newcomer") is not None
    created["detail"]["payload"]["orgId"] = "demo-org"
    before = _stored(deps)
    subscriptions.respond(created, deps)
    assert _stored(deps) == before


def test_a_deleted_organization_is_inactive_and_keeps_its_other_fields(deps: SubscriptionDeps) -> None:
    subscriptions.respond(_event(), deps)
    before = _stored(deps)
    subscriptions.respond(_deleted("demo-org"), deps)
    after = _stored(deps)
    assert (before.pop("status"), after.pop("status")) == ({"S": "active"}, {"S": "inactive"})
    stamps, former = after.pop("changed")["M"], before.pop("changed")["M"]
    assert after == before
    assert {name: stamps[name] for name in stamps if name != "status"} == former
    assert _rejected(deps) == []


def test_an_organization_that_was_deleted_before_it_was_created_stays_inactive(deps: SubscriptionDeps) -> None:
    created = payload("org.created.json")
    for event in (_deleted("newcomer"), created, _event(organizationId="newcomer")):
        subscriptions.respond(event, deps)
        assert _stored(deps, "newcomer")["status"] == {"S": "inactive"}


def _deleted(organization: str) -> Any:
    event = payload("org.deleted.json")
    event["detail"]["payload"]["orgId"] = organization
    return event


def test_nothing_but_the_subscription_is_changed(deps: SubscriptionDeps) -> None:
    item = organization_item(Organization("demo-org", active=False, limits={"api_calls": 7}))
    deps.client.put_item(TableName=deps.table, Item={**item, "note": {"S": "by hand"}})
    subscriptions.respond(_event(), deps)
    after = _stored(deps)
    assert (after["status"]["S"], after["note"]["S"]) == ("inactive", "by hand")
    assert organization_from_item(after).limits == {"api_calls": 7}


def test_an_older_event_changes_nothing_that_a_newer_one_has_said(deps: SubscriptionDeps) -> None:
    subscriptions.respond(_event(id="b", changedAt="2026-11-23T10:00:00Z", newPlan="team"), deps)
    older = _event(id="a", changedAt="2026-11-23T09:00:00Z", trialEndsAt="2026-12-01T00:00:00Z")
    subscriptions.respond(older, deps)
    item = _stored(deps)
    assert item["planId"]["S"] == "team"
    # A field that only the older event sets is stored.
    assert item["trialEndsAt"]["S"] == "2026-12-01T00:00:00.000Z"


def test_an_absent_field_keeps_its_newest_value(deps: SubscriptionDeps) -> None:
    subscriptions.respond(_event(id="b", changedAt="2026-11-23T10:00:00Z", trialEndsAt="2026-12-02T00:00:00Z"), deps)
    subscriptions.respond(_event(id="c", changedAt="2026-11-23T11:00:00Z"), deps)
    subscriptions.respond(_event(id="a", changedAt="2026-11-23T09:00:00Z", trialEndsAt="2026-12-01T00:00:00Z"), deps)
    item = _stored(deps)
    assert item["trialEndsAt"]["S"] == "2026-12-02T00:00:00.000Z"


def test_of_two_events_of_one_moment_the_greater_id_wins(deps: SubscriptionDeps) -> None:
    for event_id, plan in (("b", "team"), ("a", "pro")):
        subscriptions.respond(_event(id=event_id, newPlan=plan), deps)
    item = _stored(deps)
    assert item["planId"]["S"] == "team"


def test_of_two_events_of_one_millisecond_the_later_wins(deps: SubscriptionDeps) -> None:
    for event_id, fraction, plan in (("aaa", "000900", "team"), ("zzz", "000100", "pro")):
        subscriptions.respond(_event(id=event_id, changedAt=f"2026-11-23T00:20:04.{fraction}Z", newPlan=plan), deps)
    item = _stored(deps)
    assert item["planId"]["S"] == "team"


def test_a_change_of_the_status_alone_leaves_the_plan_its_name(deps: SubscriptionDeps) -> None:
    subscriptions.respond(_event(), deps)
    event = _event(id="later", changedAt="2026-11-23T01:00:00Z", newStatus="PAUSED")
    del event["detail"]["payload"]["planName"]
    subscriptions.respond(event, deps)
    organization = organization_from_item(_stored(deps))
    assert (organization.plan_name, organization.subscription_status) == ("Pro", "PAUSED")


def test_a_late_name_of_a_former_plan_does_not_name_the_present_plan(deps: SubscriptionDeps) -> None:
    by_hand = organizations.settings({"plan": "free"}, [], NOW)
    organizations.put(deps.client, deps.table, "demo-org", wanted=by_hand)
    subscriptions.respond(_event(changedAt="2026-11-23T00:00:00Z"), deps)
    organization = organization_from_item(_stored(deps))
    assert (organization.plan, organization.plan_name) == ("free", None)


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(seconds=90), timedelta(days=1)])
def test_manual_settings_survive_a_repeated_delivery_of_an_earlier_event(
    deps: SubscriptionDeps, ahead: timedelta
) -> None:
    event = _event(id="zzz", changedAt=(NOW + ahead).isoformat())
    subscriptions.respond(event, deps)
    by_hand = organizations.settings({"plan": "team", "plan_name": "Team", "subscription_status": "PAUSED"}, [], NOW)
    organizations.put(deps.client, deps.table, "demo-org", wanted=by_hand)
    before = _stored(deps)
    subscriptions.respond(event, deps)
    assert _stored(deps) == before
    assert organization_from_item(before).plan_name == "Team"


def test_a_second_delivery_writes_nothing(deps: SubscriptionDeps) -> None:
    subscriptions.respond(_event(), deps)
    writes = answer_with(deps.client, "UpdateItem", [])
    subscriptions.respond(_event(), deps)
    assert writes == []


def test_a_malformed_event_goes_to_the_queue_with_its_reason(deps: SubscriptionDeps) -> None:
    event = _event(newStatus="GONE")
    before = _stored(deps)
    subscriptions.respond(event, deps)
    (kept,) = _rejected(deps)
    assert kept["event"] == event
    assert kept["reason"].startswith("newStatus is 'GONE'")
    assert _stored(deps) == before


def test_a_change_from_the_future_is_rejected(deps: SubscriptionDeps) -> None:
    subscriptions.respond(_event(changedAt=(NOW + timedelta(days=2)).isoformat()), deps)
    (kept,) = _rejected(deps)
    assert kept["reason"].startswith("changedAt is more than a day ahead")
    assert "planId" not in _stored(deps)


def test_an_event_with_a_lone_surrogate_is_rejected_and_kept_unchanged(deps: SubscriptionDeps) -> None:
    subscriptions.respond(_event(planName="\ud800"), deps)
    (kept,) = _rejected(deps)
    assert kept["reason"].startswith("planName")
    assert kept["event"]["detail"]["payload"]["planName"] == "\ud800"


def test_a_payload_that_is_too_large_for_the_queue_is_left_out(deps: SubscriptionDeps) -> None:
    event = _event(newStatus="ü" * 50_000)
    subscriptions.respond(event, deps)
    (kept,) = _rejected(deps)
    assert kept["reason"].startswith("newStatus is 'ü")
    assert kept["reason"].endswith("(too large: without detail.payload)")
    del event["detail"]["payload"]
    assert kept["event"] == event


def test_an_event_too_large_without_its_payload_keeps_only_eventbridges_fields(
    deps: SubscriptionDeps,
) -> None:
    event = payload("billing.subscription.changed.json")
    event["detail"] |= {"version": "2.0.0", "more": "x" * 270_000}
    subscriptions.respond(event, deps)
    (kept,) = _rejected(deps)
    assert kept["reason"].endswith("(too large: without detail and resources)")
    del event["detail"], event["resources"]
    assert kept["event"] == event


def test_an_event_that_just_fits_the_queue_is_kept_whole(deps: SubscriptionDeps) -> None:
    def with_more(length: int) -> Any:
        event = payload("billing.subscription.changed.json")
        event["detail"] |= {"version": "2.0.0", "more": "x" * length}
        return event

    subscriptions.respond(with_more(0), deps)
    (least,) = _rejected(deps)
    fits = with_more(256 * 1024 - len(json.dumps(least)))
    subscriptions.respond(fits, deps)
    (kept,) = _rejected(deps)
    assert kept == {**least, "event": fits}


def test_a_write_that_loses_a_race_is_retried(deps: SubscriptionDeps) -> None:
    raced = failed("ConditionalCheckFailedException")
    tries = answer_with(deps.client, "UpdateItem", [raced, raced])
    subscriptions.respond(_event(), deps)
    assert len(tries) == 3
    item = _stored(deps)
    assert item["planId"]["S"] == "pro"


def test_an_overtaken_write_changes_nothing(deps: SubscriptionDeps) -> None:
    # Another writer's change comes between our read and our write.
    rival = _event(id="z", changedAt="2026-11-24T00:00:00Z", newPlan="team")
    late: list[Any] = [rival]

    def overtake(**_: Any) -> None:
        if late:
            organization_changes.consume(late.pop(), deps)

    deps.client.meta.events.register("before-call.dynamodb.UpdateItem", overtake)
    subscriptions.respond(_event(), deps)
    item = _stored(deps)
    assert item["planId"]["S"] == "team"
    assert item["changed"]["M"]["planId"]["S"].startswith("2026-11-24")


@pytest.mark.parametrize("operation", ["GetItem", "UpdateItem"])
def test_an_error_of_dynamodb_is_raised_so_that_lambda_delivers_again(deps: SubscriptionDeps, operation: str) -> None:
    answer_with(deps.client, operation, [failed("InternalServerError", 500)] * 3)
    with pytest.raises(ClientError):
        subscriptions.respond(_event(), deps)


def test_an_error_of_the_queue_is_raised_so_that_lambda_delivers_again(deps: SubscriptionDeps) -> None:
    deps.queue.delete_queue(QueueUrl=deps.queue_url)
    with pytest.raises(ClientError):
        subscriptions.respond(_event(newStatus="GONE"), deps)


# Moments close to each other, in several time zones.
_MOMENTS = st.builds(
    lambda microseconds, minutes: (
        (datetime(2026, 11, 23, tzinfo=UTC) + timedelta(microseconds=microseconds))
        .astimezone(timezone(timedelta(minutes=minutes)))
        .isoformat()
    ),
    st.sampled_from([0, 1, 100, 900, 1000, 10**6, 3600 * 10**6]),
    st.sampled_from([0, 60, -210, 840]),
)
_EVENTS = st.lists(
    st.builds(
        lambda members, rest: members | rest,
        st.fixed_dictionaries(
            {
                "id": st.sampled_from("abcdef"),
                "changedAt": _MOMENTS,
                "newPlan": st.sampled_from(["starter", "pro", "team"]),
                "newStatus": st.sampled_from(["ACTIVE", "PAUSED", "CANCELED"]),
            }
        ),
        st.fixed_dictionaries(
            {},
            optional={
                "planName": st.sampled_from(["One", "Two", None]),
                "currentPeriodStart": st.sampled_from(["2026-11-01T00:00:00Z", None]),
                "trialEndsAt": st.one_of(st.none(), _MOMENTS),
                "currentPeriodEnd": _MOMENTS,
                "cancelAtPeriodEnd": st.booleans(),
            },
        ),
    ),
    # Each id belongs to one event.
    unique_by=lambda members: members["id"],
    min_size=1,
    max_size=6,
)
_TABLES = itertools.count(1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(changes=_EVENTS, created=st.booleans(), deleted=st.booleans(), seed=st.integers(0, 10**6))
def test_events_in_any_order_and_repetition_store_the_same(
    dynamodb: "DynamoDBClient", changes: list[dict[str, Any]], created: bool, deleted: bool, seed: int
) -> None:
    plain = [_least(members) for members in changes]
    plain += [payload("org.created.json")] * created + [payload("org.deleted.json")] * deleted
    in_order = sorted(plain, key=_order)
    shuffled = plain + Random(seed).choices(plain, k=len(plain))
    Random(seed).shuffle(shuffled)
    stored = []
    for events in (in_order, list(reversed(in_order)), shuffled):
        deps = _deps(dynamodb, f"order-{next(_TABLES)}")
        create_table(dynamodb, deps.table)
        for event in events:
            organization_changes.consume(event, deps)
        stored.append(_stored(deps, "newcomer"))
    assert stored[0] == stored[1] == stored[2]
    assert stored[0] is not None
    assert organization_from_item(stored[0]).active is not deleted
    last = max(changes, key=_moment_and_id)
    assert stored[0]["planId"]["S"] == last["newPlan"]
    names = [members for members in changes if members.get("planName")]
    named = max(names, key=_moment_and_id, default={"newPlan": None})
    is_its_name = named["newPlan"] == last["newPlan"]
    assert organization_from_item(stored[0]).plan_name == (named["planName"] if is_its_name else None)


def _moment_and_id(members: dict[str, Any]) -> tuple[datetime, str]:
    return datetime.fromisoformat(members["changedAt"]), members["id"]


def _least(members: dict[str, Any]) -> Any:
    """An event with these members and no others."""
    event = payload("billing.subscription.changed.json")
    event["detail"]["id"] = members["id"]
    said = {name: value for name, value in members.items() if name != "id"}
    event["detail"]["payload"] = {"organizationId": "newcomer", **said}
    return event


def _order(event: Any) -> tuple[datetime, str]:
    members = event["detail"]["payload"]
    (moment,) = (members[name] for name in ("changedAt", "createdAt", "deletedAt") if name in members)
    return datetime.fromisoformat(moment), event["detail"]["id"]
