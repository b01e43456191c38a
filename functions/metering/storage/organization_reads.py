"""Organizations and their plans, read from the table as they are."""

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

# An organization that changes its plan more often while it is read is read again after a wait.
_MAX_MOVES = 3


class OrganizationAndPlan(NamedTuple):
    """An organization and its plan, as they were stored at one moment."""

    organization: Organization
    plan: Plan | None
    """None if it has no plan, or one that nobody has described."""


def read_organization_and_plan(
    client: "DynamoDBClient", table: str, name: str, plan: str | None = None
) -> OrganizationAndPlan | None:
    """The organization with its plan as they are stored now; None if there is no such organization.

    Both are read together. Read one after the other, they could be a pair that there never was: the organization has
    left the plan, and then the plan has changed. `plan` is the one that it is probably on: one call is then enough.

    Raises:
        StoreBusy: throttled or unanswered, or plans change faster than they can be read.
        MalformedItem: somebody wrote what is no organization or no plan.
    """
    # Without a plan to go by, the organization is first read alone.
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
    """The organizations on this plan, in the index's order, from the one after `after` on.

    The index lags: an organization that has just come to the plan may be missing, and one that has left it be there.

    Raises:
        StoreBusy: throttled or unanswered.
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
