from typing import TYPE_CHECKING

import pytest
from metering.items import organization_key

from ops import organizations
from ops.errors import OrganizationUnknown, UsageWrong

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def test_an_organization_is_stored_where_the_functions_look_for_it(dynamodb: "DynamoDBClient") -> None:
    organizations.put(dynamodb, "usage", "new-org", "active")

    stored = dynamodb.get_item(TableName="usage", Key=organization_key("new-org"))["Item"]
    assert stored == {**organization_key("new-org"), "organizationId": {"S": "new-org"}, "status": {"S": "active"}}


def test_what_else_is_known_about_an_organization_stays(dynamodb: "DynamoDBClient") -> None:
    known = {"status": {"S": "active"}, "plan": {"S": "pro"}, "seats": {"N": "5"}}
    dynamodb.put_item(TableName="usage", Item={**organization_key("old-org"), **known})

    organizations.put(dynamodb, "usage", "old-org", "inactive")

    assert organizations.get(dynamodb, "usage", "old-org") == {
        "organizationId": "old-org",
        "status": "inactive",
        "plan": "pro",
        "seats": 5,
    }


def test_an_organization_that_is_not_stored_is_unknown(dynamodb: "DynamoDBClient") -> None:
    with pytest.raises(OrganizationUnknown, match="nobody"):
        organizations.get(dynamodb, "usage", "nobody")


@pytest.mark.parametrize("name", ["", "a b", "a#b", "ü", "a" * 65, "demo-org\n"])
def test_a_name_that_the_api_would_not_accept_is_refused(dynamodb: "DynamoDBClient", name: str) -> None:
    before = dynamodb.scan(TableName="usage")["Items"]

    with pytest.raises(UsageWrong):
        organizations.put(dynamodb, "usage", name, "active")
    with pytest.raises(UsageWrong):
        organizations.get(dynamodb, "usage", name)
    assert dynamodb.scan(TableName="usage")["Items"] == before
