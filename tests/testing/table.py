"""The stack's table, and functions that write and read its items."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from metering.model.organizations import Organization
from metering.model.plans import Plan
from metering.model.usage import CounterId
from metering.storage.counter_items import FIRST_SHARD, counter_key
from metering.storage.lists import LISTED_IN, LISTS, open_list
from metering.storage.organization_items import BY_PLAN, organization_item
from metering.storage.plan_items import FEATURES_KEY, plan_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


# The schema that the stack creates, without the stream.
SCHEMA: Mapping[str, Any] = {
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    "AttributeDefinitions": [
        {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "planId", LISTED_IN)
    ],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": index,
            "KeySchema": [{"AttributeName": name, "KeyType": "HASH"}, {"AttributeName": "pk", "KeyType": "RANGE"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
        for index, name in ((BY_PLAN, "planId"), (LISTS, LISTED_IN))
    ],
    "BillingMode": "PAY_PER_REQUEST",
}


def create_table(client: "DynamoDBClient", name: str) -> None:
    """Create the table with the active organizations `demo-org` and `acme`."""
    client.create_table(TableName=name, **SCHEMA)
    for organization in ("demo-org", "acme"):
        put_organization(client, name, organization, "active")


def put_organization(client: "DynamoDBClient", table: str, organization: str, status: str) -> None:
    """Create or overwrite an organization."""
    client.put_item(TableName=table, Item=organization_item(Organization(organization, active=status == "active")))


def put_on_plan(client: "DynamoDBClient", table: str, organization: Organization, plan: Plan | None) -> None:
    """Create or overwrite an organization and, unless `plan` is None, its plan."""
    if plan is not None:
        organization = replace(organization, plan=plan.id)
        client.put_item(TableName=table, Item=plan_item(plan))
        if plan.features:  # DynamoDB rejects empty sets.
            client.update_item(
                TableName=table,
                Key=FEATURES_KEY,
                UpdateExpression="ADD #known :features",
                ExpressionAttributeNames={"#known": "known"},
                ExpressionAttributeValues={":features": {"SS": sorted(plan.features)}},
            )
    client.put_item(TableName=table, Item=organization_item(organization))


def put_counter(client: "DynamoDBClient", table: str, counter: CounterId, shard: int = FIRST_SHARD) -> None:
    """Create a shard with one recorded usage, whose quantity is 1."""
    item = {**counter_key(counter, shard), "total": {"N": "1"}, "count": {"N": "1"}}
    if shard == FIRST_SHARD:
        item[LISTED_IN] = open_list(counter.organization, counter.billing_period)
    client.put_item(TableName=table, Item=item)


def items(client: "DynamoDBClient", table: str, prefix: str) -> list[dict[str, Any]]:
    """All items whose partition key starts with `prefix`."""
    pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [item for page in pages for item in page["Items"] if item["pk"]["S"].startswith(prefix)]


def records(client: "DynamoDBClient", table: str, organization: str) -> list[dict[str, Any]]:
    """The organization's usage records."""
    return items(client, table, f"usage#{organization}#")


def counted(client: "DynamoDBClient", table: str, organization: str) -> tuple[int, int]:
    """The sum of all counters of the organization, as (quantity, number of records)."""
    shards = [item for item in items(client, table, f"counter#{organization}#") if "pages" not in item]
    return sum(int(shard["total"]["N"]) for shard in shards), sum(int(shard["count"]["N"]) for shard in shards)
