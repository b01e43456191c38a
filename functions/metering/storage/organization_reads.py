"""Reads of organizations and their plans from the table."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from metering.model.organizations import Organization
from metering.model.plans import Plan
from metering.storage.consistent_reads import read_in_transaction, read_item
from metering.storage.failures import busy_when_unanswered
from metering.storage.organization_items import BY_PLAN, ORGANIZATION_PREFIX, organization_from_item, organization_key
from metering.storage.plan_items import plan_from_item, plan_key
from metering.storage.signals import StoreBusy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# If the plan changes more often during one read, the caller waits and reads again.
_MAX_MOVES = 3


class OrganizationAndPlan(NamedTuple):
    """An organization and its plan, as they were stored at one moment."""

    organization: Organization
    plan: Plan | None
    """None if the organization has no plan, or if its plan is not stored."""


def read_organization_and_plan(
    client: "DynamoDBClient", table: str, name: str, plan: str | None = None
) -> OrganizationAndPlan | None:
    """Return the organization and its plan as they are stored now; None if the organization does not exist.

    One transaction reads both. Separate reads could return a pair that never existed, if the organization left the
    plan before the plan changed. `plan` is a guess of the organization's plan. If the guess is right,
    one call is enough.

    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer, or the organization changed its
            plan during each try to read both.
        MalformedItem: the stored organization or plan is malformed.
    """
    # Without a guess, the first read is of the organization alone.
    for _ in range(_MAX_MOVES + (plan is None)):
        if plan is None:
            item, stored = read_item(client, table, organization_key(name)), None
        else:
            item, stored = read_in_transaction(client, table, [organization_key(name), plan_key(plan)])
        if item is None:
            return None
        organization = organization_from_item(item)
        if organization.plan is None:
            return OrganizationAndPlan(organization, None)
        if organization.plan == plan:
            return OrganizationAndPlan(organization, None if stored is None else plan_from_item(stored))
        plan = organization.plan
    raise StoreBusy(f"the organization changed its plan {_MAX_MOVES} times while it was read")


def names_on_plan(client: "DynamoDBClient", table: str, plan: str, after: str = "") -> Iterator[str]:
    """Yield the names of the organizations on this plan that follow `after` in the index.

    The index lags. It can lack an organization that has just joined the plan. It can list an organization that has just
    left the plan.

    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer.
    """
    pages = client.get_paginator("query").paginate(
        TableName=table,
        IndexName=BY_PLAN,
        KeyConditionExpression="planId = :plan AND pk > :after",
        ExpressionAttributeValues={":plan": {"S": plan}, ":after": organization_key(after)["pk"]},
    )
    with busy_when_unanswered():
        for page in pages:
            for item in page["Items"]:
                yield item["pk"]["S"].removeprefix(ORGANIZATION_PREFIX)
