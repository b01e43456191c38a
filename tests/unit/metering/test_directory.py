from typing import TYPE_CHECKING

import pytest
from metering.directory import Directory
from metering.errors import StoreBusy
from metering.items import organization_key

from tests.contention import answer_with, failed
from tests.service import Clock
from tests.table import put_organization

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def _active(directory: Directory, name: str) -> bool:
    organization = directory.organization(name)
    return organization is not None and organization.active


def test_a_found_organization_is_remembered_for_a_minute(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    directory = Directory(dynamodb, "usage", clock.monotonic)
    reads = answer_with(dynamodb, "GetItem", [])
    assert _active(directory, "acme") is True
    put_organization(dynamodb, "usage", "acme", "inactive")
    clock.pass_by(seconds=59.9)
    assert _active(directory, "acme") is True
    assert len(reads) == 1
    clock.pass_by(seconds=0.2)
    assert _active(directory, "acme") is False
    assert [read["ConsistentRead"] for read in reads] == [True, True]


def test_a_missing_organization_is_looked_for_each_time(dynamodb: "DynamoDBClient") -> None:
    directory = Directory(dynamodb, "usage", Clock().monotonic)
    assert directory.organization("newcomer") is None
    put_organization(dynamodb, "usage", "newcomer", "active")
    assert _active(directory, "newcomer") is True


def test_a_failed_read_is_not_remembered(dynamodb: "DynamoDBClient") -> None:
    directory = Directory(dynamodb, "usage", Clock().monotonic)
    answer_with(dynamodb, "GetItem", [failed("ThrottlingException")])
    with pytest.raises(StoreBusy):
        directory.organization("acme")
    assert _active(directory, "acme") is True


def test_an_organization_is_active_unless_it_was_set_inactive(dynamodb: "DynamoDBClient") -> None:
    dynamodb.put_item(TableName="usage", Item={**organization_key("acme"), "organizationId": {"S": "acme"}})
    assert _active(Directory(dynamodb, "usage", Clock().monotonic), "acme")


def test_memory_is_bounded(dynamodb: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.directory.MOST_REMEMBERED", 1)
    directory = Directory(dynamodb, "usage", Clock().monotonic)
    reads = answer_with(dynamodb, "GetItem", [])
    for organization in ("acme", "demo-org", "demo-org", "acme"):
        assert _active(directory, organization) is True
    assert len(reads) == 3


def test_what_is_stored_now_can_be_asked_for_and_is_remembered(dynamodb: "DynamoDBClient") -> None:
    directory = Directory(dynamodb, "usage", Clock().monotonic)
    assert _active(directory, "acme") is True
    put_organization(dynamodb, "usage", "acme", "inactive")
    assert _active(directory, "acme") is True
    now = directory.organization_now("acme")
    assert now is not None
    assert (now.active, _active(directory, "acme")) == (False, False)
