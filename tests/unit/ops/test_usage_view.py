from typing import TYPE_CHECKING

import pytest
from metering.model.plans import Entitlement, Plan

from ops import usage_view
from tests.testing.payloads import batch_request, example
from tests.testing.service import RecordFunction
from tests.testing.subscribed import SUBSCRIBED
from tests.testing.table import put_on_plan

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FEATURES = {
    "api_calls": Entitlement(limit=10_000, unit="calls"),
    "exports": Entitlement(limit=4),
    "seats": Entitlement(limit=0),
    "support": Entitlement(),
}


@pytest.fixture
def function(dynamodb: "DynamoDBClient") -> RecordFunction:
    put_on_plan(dynamodb, "usage", SUBSCRIBED, Plan("pro", "Pro", FEATURES))
    return RecordFunction(dynamodb)


def _use(function: RecordFunction, feature: str, quantity: int) -> None:
    key = f"{feature}-{quantity}-{function.clock.at.isoformat()}"
    function(batch_request([example(feature=feature, quantity=quantity, idempotencyKey=key)]))


def _put_shard(client: "DynamoDBClient", partition: str, shard: int, quantity: int) -> None:
    key = {"pk": {"S": f"counter#demo-org#2026-11{partition}"}, "sk": {"S": f"api_calls#{shard}"}}
    amount = {"N": str(quantity)}
    client.put_item(TableName="usage", Item={**key, "total": amount, "count": {"N": "1"}, "d24": amount})


def test_features_have_bars_to_their_limits_and_days_a_table(function: RecordFunction) -> None:
    for feature, quantity in (("api_calls", 4_499), ("exports", 5), ("webhooks", 1_000_000)):
        _use(function, feature, quantity)
    function.clock.pass_by(days=1)
    _use(function, "api_calls", 1)
    assert usage_view.read(function.client, "usage", "demo-org", "2026-11").text().splitlines() == [
        "demo-org, 2026-11",
        "",
        "api_calls      4,500  [#########...........] 45.0 % of 10,000 calls",
        "exports            5  [####################] 125.0 % of 4",
        "seats              0  [####################] 100.0 % of 0",
        "webhooks   1,000,000",
        "",
        "day         api_calls  exports   webhooks",
        "2026-11-23      4,499        5  1,000,000",
        "2026-11-24          1        0          0",
    ]


def test_the_days_of_all_shards_and_pages_add_up_to_the_total(function: RecordFunction) -> None:
    _use(function, "api_calls", 1)
    _put_shard(function.client, "", 3, 20)
    pages = {"pk": {"S": "counter#demo-org#2026-11"}, "sk": {"S": "api_calls#pages"}}
    function.client.put_item(TableName="usage", Item={**pages, "pages": {"N": "2"}, "total": {"N": "0"}})
    _put_shard(function.client, "#api_calls#1", 8, 300)
    content = usage_view.read(function.client, "usage", "demo-org", "2026-11").content()
    assert content["usage"][0] == {
        "feature": "api_calls",
        "used": 321,
        "limit": 10_000,
        "percentage": 3.2,
        "days": [{"date": "2026-11-23", "used": 1}, {"date": "2026-11-24", "used": 320}],
    }


def test_a_period_without_usage_shows_the_limits_or_says_so(function: RecordFunction) -> None:
    assert usage_view.read(function.client, "usage", "demo-org", "2026-10").text().splitlines() == [
        "demo-org, 2026-10",
        "",
        "api_calls  0  [....................] 0.0 % of 10,000 calls",
        "exports    0  [....................] 0.0 % of 4",
        "seats      0  [####################] 100.0 % of 0",
    ]
    assert usage_view.read(function.client, "usage", "acme", "2026-10").text() == (
        "acme, 2026-10\nNo usage and no limits."
    )


def test_a_unit_cannot_control_the_terminal(function: RecordFunction) -> None:
    put_on_plan(function.client, "usage", SUBSCRIBED, Plan("pro", "Pro", {"a": Entitlement(limit=1, unit="x\x1b[2J")}))
    text = usage_view.read(function.client, "usage", "demo-org", "2026-11").text()
    assert text.replace("\n", "").isprintable()
