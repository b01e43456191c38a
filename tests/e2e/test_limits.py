"""Limits on the deployed stack: HTTP answers return them, hard ones hold, and each of their events comes once."""

import jsonschema
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.storage.plan_items import plan_item

from tests.e2e.steps import limit_events
from tests.testing.local_stack import LocalStack, at_once, ids
from tests.testing.payloads import example, payload
from tests.testing.table import put_on_plan


def _limited(stack: LocalStack, feature: Entitlement) -> str:
    """An organization on its own plan, with this entitlement for `api_calls`."""
    name = stack.new_organization()
    put_on_plan(stack.dynamodb, stack.table, Organization(name), Plan(name, "Its own", {"api_calls": feature}))
    return name


def test_100_records_at_once_cross_a_soft_limit_and_each_threshold_is_published_once(stack: LocalStack) -> None:
    organization = _limited(stack, Entitlement(limit=50, warn_at=(50, 80)))
    answers = at_once(
        lambda number: stack.record(organization, example(idempotencyKey=f"k-{number}")).json(), range(100)
    )
    assert {answer["recorded"] for answer in answers} == {True}
    assert {answer["limit"] for answer in answers} == {50}
    assert [answer["limitReached"] for answer in answers] == [answer["currentUsage"] >= 50 for answer in answers]
    events = limit_events(stack, organization, at_least=3)
    assert set(ids(events).values()) == {1}
    published = sorted((event["detail-type"], event["detail"]["payload"].get("percentage")) for event in events)
    assert published == [
        ("billing.limit.approaching", 50),
        ("billing.limit.approaching", 80),
        ("billing.limit.reached", None),
    ]
    for event in events:
        jsonschema.validate(event, payload(f"{event['detail-type']}.schema.json"))
        assert event["detail"]["payload"]["limit"] == 50


def test_a_hard_limit_holds_and_a_raised_limit_is_reached_again(stack: LocalStack) -> None:
    organization = _limited(stack, Entitlement(limit=3, hard=True, warn_at=()))
    answers = [stack.record(organization, example(idempotencyKey=f"k-{number}")).json() for number in range(5)]
    assert [answer["recorded"] for answer in answers] == [True, True, True, False, False]
    assert answers[-1] == {"recorded": False, "currentUsage": 3, "limitReached": True, "limit": 3}
    (reached,) = limit_events(stack, organization, at_least=1)
    assert reached["detail"]["payload"]["currentUsage"] == 3
    # The lowered limit is below the usage, so it is a new limit that is reached at once. Only the plan has changed.
    plan = Plan(organization, "Its own", {"api_calls": Entitlement(limit=2, hard=True, warn_at=())})
    stack.dynamodb.put_item(TableName=stack.table, Item=plan_item(plan))
    events = limit_events(stack, organization, at_least=2)
    assert sorted(event["detail"]["payload"]["limit"] for event in events) == [2, 3]
