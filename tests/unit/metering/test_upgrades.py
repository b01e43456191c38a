"""An upgrade within a billing period, to the second: the old limit holds for one more minute."""

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics
from metering import limit_watcher, subscriptions
from metering.http.operations import FEATURE_CHECK, USAGE_SUMMARY
from metering.inbound.organization_changes import SubscriptionDeps
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.outbox.thresholds import WatcherDeps
from metering.storage.counter_items import counter_partition
from metering.storage.plan_items import plan_item

from ops import organizations
from tests.testing.payloads import example, payload, query_request, record_request
from tests.testing.service import Context, QueryFunction, RecordFunction
from tests.testing.table import items, put_on_plan

SMALL = Plan("small", "Small", {"api_calls": Entitlement(limit=5, hard=True, warn_at=())})
LARGE = Plan("large", "Large", {"api_calls": Entitlement(limit=8, hard=True, warn_at=())})


def _by_event(function: RecordFunction) -> None:
    event = payload("billing.subscription.changed.json")
    event["detail"]["payload"] |= {"organizationId": "demo-org", "newPlan": "large"}
    queue: Any = None
    now = function.clock.now
    subscriptions.respond(event, SubscriptionDeps(function.client, function.table, queue, "", now, **_instruments()))


def _by_hand(function: RecordFunction) -> None:
    wanted = organizations.settings({"plan": "large"}, [], function.clock.now())
    organizations.put(function.client, function.table, "demo-org", None, wanted)


def _by_its_plan(function: RecordFunction) -> None:
    changed = Plan("small", "Small", LARGE.features)
    function.client.put_item(TableName=function.table, Item=plan_item(changed))


def _by_a_limit_of_its_own(function: RecordFunction) -> None:
    wanted = organizations.settings({}, ["api_calls=8"], function.clock.now())
    organizations.put(function.client, function.table, "demo-org", None, wanted)


def _instruments() -> Any:
    return {"logger": Logger(service="upgrades", stream=io.StringIO()), "metrics": EphemeralMetrics()}


def _record(function: RecordFunction, quantity: int) -> tuple[Any, ...]:
    key = f"{quantity}-at-{function.clock.at:%H:%M:%S}"
    body = function(record_request(example(quantity=quantity, idempotencyKey=key))).body
    return body["recorded"], body["currentUsage"], body["limit"], body["limitReached"]


def _asked(ask: QueryFunction) -> tuple[Any, ...]:
    (usage,) = ask(query_request(USAGE_SUMMARY)).body["usage"]
    return usage["used"], usage["limit"], ask(query_request(FEATURE_CHECK, feature="api_calls")).body["reason"]


def _noticed(function: RecordFunction) -> list[tuple[str, str]]:
    """Show the counter and the organization to the watcher, twice each, as the stream may."""
    deps = WatcherDeps(function.client, function.table, timedelta(days=400), function.clock.now, **_instruments())
    counter = {"pk": {"S": counter_partition("demo-org", "2026-11")}, "sk": {"S": "api_calls#0"}}
    organization = {"pk": {"S": "organization#demo-org"}, "sk": {"S": "organization"}}
    changes = [{"dynamodb": {"Keys": keys, "SequenceNumber": "1"}} for keys in (counter, organization) * 2]
    context: Any = Context(function.clock, timeout_s=300)
    assert limit_watcher.respond({"Records": changes}, context, deps) == {"batchItemFailures": []}
    notices = items(function.client, function.table, "notice#demo-org#")
    return sorted((item["sk"]["S"], item["currentUsage"]["N"]) for item in notices)


@pytest.mark.parametrize("upgrade", [_by_event, _by_hand, _by_its_plan, _by_a_limit_of_its_own])
def test_an_upgrade_is_known_within_a_minute_and_the_new_limit_is_reached_again(
    function: RecordFunction, ask: QueryFunction, upgrade: Callable[[RecordFunction], None]
) -> None:
    function.client.put_item(TableName=function.table, Item=plan_item(LARGE))
    put_on_plan(function.client, function.table, Organization("demo-org"), SMALL)
    assert _record(function, 5) == (True, 5, 5, True)
    assert _asked(ask) == (5, 5, "limit_reached")
    assert _noticed(function) == [("api_calls#5#100", "5")]
    upgrade(function)
    function.clock.pass_by(seconds=59)
    assert _record(function, 1) == (False, 5, 5, True)
    assert _asked(ask) == (5, 5, "limit_reached")
    function.clock.pass_by(seconds=1)
    assert _asked(ask) == (5, 8, "limit_available")
    assert _record(function, 2) == (True, 7, 8, False)
    assert _noticed(function) == [("api_calls#5#100", "5")]
    assert _record(function, 1) == (True, 8, 8, True)
    assert _asked(ask) == (8, 8, "limit_reached")
    assert _noticed(function) == [("api_calls#5#100", "5"), ("api_calls#8#100", "8")]
    assert _record(function, 3) == (False, 8, 8, True)
