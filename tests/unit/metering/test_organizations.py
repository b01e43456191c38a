from typing import TYPE_CHECKING

import pytest
from metering.errors import StoreBusy
from metering.items import organization_key
from metering.organizations import Organizations

from tests.contention import answer_with, failed
from tests.service import Clock
from tests.table import put_organization

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def test_a_found_organization_is_remembered_for_a_minute(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    organizations = Organizations(dynamodb, "usage", clock.monotonic)
    reads = answer_with(dynamodb, "GetItem", [])
    assert organizations.status("acme") == "active"
    put_organization(dynamodb, "usage", "acme", "inactive")
    clock.pass_by(seconds=59.9)
    assert organizations.status("acme") == "active"
    assert len(reads) == 1
    clock.pass_by(seconds=0.2)
    assert organizations.status("acme") == "inactive"
    assert [read["ConsistentRead"] for read in reads] == [True, True]


def test_a_missing_organization_is_looked_for_each_time(dynamodb: "DynamoDBClient") -> None:
    organizations = Organizations(dynamodb, "usage", Clock().monotonic)
    assert organizations.status("newcomer") is None
    put_organization(dynamodb, "usage", "newcomer", "active")
    assert organizations.status("newcomer") == "active"


def test_a_failed_read_is_not_remembered(dynamodb: "DynamoDBClient") -> None:
    organizations = Organizations(dynamodb, "usage", Clock().monotonic)
    answer_with(dynamodb, "GetItem", [failed("ThrottlingException")])
    with pytest.raises(StoreBusy):
        organizations.status("acme")
    assert organizations.status("acme") == "active"


def test_an_organization_is_active_unless_it_was_set_inactive(dynamodb: "DynamoDBClient") -> None:
    dynamodb.put_item(TableName="usage", Item={**organization_key("acme"), "organizationId": {"S": "acme"}})
    assert Organizations(dynamodb, "usage", Clock().monotonic).status("acme") == "active"


def test_memory_is_bounded(dynamodb: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.organizations.MOST_REMEMBERED", 1)
    organizations = Organizations(dynamodb, "usage", Clock().monotonic)
    reads = answer_with(dynamodb, "GetItem", [])
    for organization in ("acme", "demo-org", "demo-org", "acme"):
        assert organizations.status(organization) == "active"
    assert len(reads) == 3
