from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from metering.model.organizations import Organization
from metering.model.usage import Usage
from metering.storage import counter_pages, ledger
from metering.storage.counter_items import counter_key, pages_key
from metering.storage.ledger import Addition
from metering.storage.lists import LISTED_IN, LISTS, open_list, open_lists, organizations_list, organizations_lists
from metering.storage.organization_items import organization_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOW = datetime(2026, 11, 23, tzinfo=UTC)
USAGE = Usage("demo-org", "api_calls", 1, "k", "1:f", "e", NOW, "2026-11", 1_800_000_000)
COUNTER = USAGE.counter


def test_the_lists_are_the_documented_ones() -> None:
    # The first two hex digits of the SHA-256 of `demo-org` are 67, which is 39 modulo 64.
    assert organizations_list("demo-org") == {"S": "organizations#39"}
    assert open_list("demo-org", "2026-11") == {"S": "open#2026-11#39"}
    assert open_list("demo-org", "2026-11-15") == {"S": "open#2026-11-15#39"}


def test_the_lists_together_hold_every_organization_and_every_counter() -> None:
    names = [f"organization-{number}" for number in range(1_000)]
    listed, opened = organizations_lists(), open_lists("2026-11")
    assert [listed[0], listed[-1], len(listed)] == [{"S": "organizations#00"}, {"S": "organizations#63"}, 64]
    assert [opened[0], opened[-1], len(opened)] == [{"S": "open#2026-11#00"}, {"S": "open#2026-11#63"}, 64]
    # Each list has some of a thousand names.
    assert {organizations_list(name)["S"] for name in names} == {each["S"] for each in listed}
    assert {open_list(name, "2026-11")["S"] for name in names} == {each["S"] for each in opened}


def _add(client: "DynamoDBClient", key: str = "k", shard: int = 0, **more: Any) -> None:
    usage = replace(USAGE, idempotency_key=key)
    assert ledger.commit_additions(client, "usage", [Addition(COUNTER, [usage], shard, **more)]) is None


def _stored(client: "DynamoDBClient", shard: int = 0) -> Any:
    return client.get_item(TableName="usage", Key=counter_key(COUNTER, shard), ConsistentRead=True)["Item"]


@pytest.mark.parametrize("terms", [{}, {"hard_limit": 10}, {"lifts_limit": True}])
def test_the_update_that_begins_a_counter_lists_it(dynamodb: "DynamoDBClient", terms: dict[str, Any]) -> None:
    _add(dynamodb, **terms)
    assert _stored(dynamodb)[LISTED_IN] == open_list("demo-org", "2026-11")
    _add(dynamodb, "another", **terms)
    assert _stored(dynamodb)[LISTED_IN] == open_list("demo-org", "2026-11")


def test_a_counter_stays_listed_when_its_hard_limit_is_lifted(dynamodb: "DynamoDBClient") -> None:
    _add(dynamodb, hard_limit=10)
    _add(dynamodb, "another", lifts_limit=True)
    assert _stored(dynamodb)[LISTED_IN] == open_list("demo-org", "2026-11")


def test_only_the_first_shard_of_a_counter_is_listed(dynamodb: "DynamoDBClient") -> None:
    for shard in (0, 1, 9):
        _add(dynamodb, f"k-{shard}", shard)
    counter_pages.announce(dynamodb, "usage", COUNTER, 2)
    announced = dynamodb.get_item(TableName="usage", Key=pages_key(COUNTER), ConsistentRead=True)["Item"]
    assert [LISTED_IN in item for item in (_stored(dynamodb), _stored(dynamodb, 1), _stored(dynamodb, 9))] == [
        True,
        False,
        False,
    ]
    assert LISTED_IN not in announced


def test_a_list_names_the_organizations_or_the_counters_of_one_period(dynamodb: "DynamoDBClient") -> None:
    december = replace(
        USAGE, idempotency_key="d", billing_period="2026-12", recorded_at=datetime(2026, 12, 1, tzinfo=UTC)
    )
    _add(dynamodb)
    ledger.commit_additions(dynamodb, "usage", [Addition(december.counter, [december], 0)])

    def named(value: Any) -> list[str]:
        found = dynamodb.query(
            TableName="usage",
            IndexName=LISTS,
            KeyConditionExpression=f"{LISTED_IN} = :list",
            ExpressionAttributeValues={":list": value},
        )["Items"]
        return [item["pk"]["S"] for item in found]

    assert named(organizations_list("demo-org")) == ["organization#demo-org"]
    assert named(open_list("demo-org", "2026-11")) == ["counter#demo-org#2026-11"]
    assert named(open_list("demo-org", "2026-12")) == ["counter#demo-org#2026-12"]


def test_a_stored_organization_is_listed() -> None:
    assert organization_item(Organization("demo-org"))[LISTED_IN] == organizations_list("demo-org")
