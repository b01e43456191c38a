"""The stack's table, and functions that write and read its items."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from metering.model.organizations import Organization
from metering.model.plans import Plan
from metering.storage.organization_items import BY_PLAN, organization_item, organization_key
from metering.storage.plan_items import FEATURES_KEY, plan_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


# The schema that the stack creates, without the stream.
SCHEMA: Mapping[str, Any] = {
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "planId")],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": BY_PLAN,
            "KeySchema": [
                {"AttributeName": "planId", "KeyType": "HASH"},
                {"AttributeName": "pk", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
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
    item = {**organization_key(organization), "organizationId": {"S": organization}, "status": {"S": status}}
    client.put_item(TableName=table, Item=item)


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
