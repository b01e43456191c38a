"""Organizations: who may record usage."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from boto3.dynamodb.types import TypeDeserializer
from metering.items import ORGANIZATION_PATTERN, organization_key

from ops.errors import OrganizationUnknown, UsageWrong

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Status: TypeAlias = Literal["active", "inactive"]


def put(dynamodb: "DynamoDBClient", table: str, organization: str, status: Status) -> None:
    """Let `organization` have `status`. One that exists keeps whatever else is known about it.

    Raises:
        UsageWrong: the name is none that the API would accept; nothing written.
    """
    _check(organization)
    dynamodb.update_item(
        TableName=table,
        Key=organization_key(organization),
        UpdateExpression="SET organizationId = :organization, #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":organization": {"S": organization}, ":status": {"S": status}},
    )


def get(dynamodb: "DynamoDBClient", table: str, organization: str) -> dict[str, Any]:
    """What is stored about `organization`: `organizationId`, `status` and whatever else it has.

    Raises:
        OrganizationUnknown: nothing is.
        UsageWrong: the name is none that the API would accept.
    """
    _check(organization)
    key = organization_key(organization)
    found = dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
    if found is None:
        raise OrganizationUnknown(f"there is no organization {organization}.")
    return _plain({name: value for name, value in found.items() if name not in key})


def _check(organization: str) -> None:
    if not re.fullmatch(ORGANIZATION_PATTERN, organization):
        raise UsageWrong(
            f"{organization!r} is not a name for an organization: 1 to 64 letters, digits, `_` and `-` are."
        )


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    deserialize = TypeDeserializer().deserialize
    return {name: deserialize(value) for name, value in item.items()}
