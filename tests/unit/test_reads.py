"""Every read behind a promise is consistent, in every operation and command."""

import io
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics
from metering import limit_watcher
from metering.http.operations import FEATURE_CHECK, SUBSCRIPTION_GET, USAGE_GET, USAGE_LIST, USAGE_SUMMARY
from metering.inbound import organization_changes
from metering.inbound.organization_changes import SubscriptionDeps
from metering.model.plans import Entitlement, Plan
from metering.model.usage import RecordFilter
from metering.outbox.thresholds import WatcherDeps
from metering.storage.lists import LISTS
from metering.storage.organization_items import BY_PLAN, organization_key
from moto import mock_aws

from ops import export, organizations, plans, usage_records, usage_view
from ops.errors import PlanInUse
from tests.testing.aws import SESSION
from tests.testing.payloads import batch_request, example, payload, query_request, record_request
from tests.testing.reads import StaleRead, held_consistent, is_consistent
from tests.testing.service import Clock, Context, QueryFunction, RecordFunction
from tests.testing.subscribed import SUBSCRIBED
from tests.testing.table import create_table, put_on_plan, put_organization
from tools.setup import ROOT

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PRO = Plan("pro", "Pro", {"api_calls": Entitlement(limit=10, hard=True), "exports": Entitlement(limit=10)})
LESS = Plan("pro", "Pro", {"api_calls": Entitlement(limit=10)})


def _records(body: Any) -> Callable[["DynamoDBClient"], object]:
    return lambda client: RecordFunction(client, reject_unknown_features=True)(record_request(body))


def _sends_again_what_may_no_longer_be_recorded(client: "DynamoDBClient") -> None:
    put_organization(client, "usage", "demo-org", "inactive")
    function = RecordFunction(client)
    assert function(record_request(example())).headers["Idempotent-Replayed"] == "true"
    again = function(batch_request([example(), example(idempotencyKey="exports", feature="exports")]))
    assert again.body["totals"]["replayed"] == 2


def _asks(operation: Any, **parameters: str) -> Callable[["DynamoDBClient"], object]:
    return lambda client: QueryFunction(client)(query_request(operation, parameters))


def _watches(client: "DynamoDBClient") -> None:
    metrics: Any = EphemeralMetrics()
    logger = Logger(service="reads", stream=io.StringIO())
    clock = Clock()
    deps = WatcherDeps(client, "usage", timedelta(days=400), clock.now, logger, metrics)
    context: Any = Context(clock, timeout_s=300)
    keys = [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in (("plan#pro", "plan"), ("organization#demo-org", "x"))]
    changes = [{"dynamodb": {"Keys": each, "SequenceNumber": str(at)}} for at, each in enumerate(keys)]
    assert limit_watcher.respond({"Records": changes}, context, deps) == {"batchItemFailures": []}


def _hears(client: "DynamoDBClient") -> None:
    anything: Any = None
    metrics: Any = EphemeralMetrics()
    logger = Logger(service="reads", stream=io.StringIO())
    organization_changes.consume(
        payload("billing.subscription.changed.json"),
        SubscriptionDeps(client, "usage", anything, "", Clock().now, logger, metrics),
    )


def _applies(client: "DynamoDBClient") -> None:
    changes = plans.changes(plans.read(client, "usage", ["pro"]), [LESS])
    assert plans.usage_of_removed(client, "usage", changes, "2026-11") == {"pro": {"exports": ["demo-org"]}}
    plans.write(client, "usage", changes[0])
    plans.forget_unused_features(client, "usage")


def _deletes(client: "DynamoDBClient") -> None:
    with pytest.raises(PlanInUse):
        plans.check_unused(client, "usage", plans.get(client, "usage", "pro"))


def _exports(client: "DynamoDBClient") -> None:
    summary = export.export(client, "usage", "demo-org", "2026-11", "csv", io.StringIO(), sleep=lambda _: None)
    assert (summary.records.total(), summary.differences) == (2, {})


READERS: dict[str, tuple[Callable[["DynamoDBClient"], object], set[str]]] = {
    "record": (_records(example(idempotencyKey="new")), {"GetItem", "Query"}),
    "record within a hard limit, refused": (_records(example(idempotencyKey="new", quantity=11)), {"GetItem", "Query"}),
    "record again": (_records(example()), {"GetItem", "Query"}),
    "record-batch": (lambda client: RecordFunction(client)(batch_request()), {"GetItem", "Query"}),
    "record, record-batch, of who is inactive": (_sends_again_what_may_no_longer_be_recorded, {"GetItem", "Query"}),
    "usage.summary": (_asks(USAGE_SUMMARY), {"GetItem", "Query"}),
    "usage.summary by day": (_asks(USAGE_SUMMARY, by="day"), {"GetItem", "Query"}),
    "feature.check": (_asks(FEATURE_CHECK, feature="api_calls"), {"GetItem", "Query"}),
    "subscription.get": (_asks(SUBSCRIPTION_GET), {"GetItem"}),
    "usage.get": (_asks(USAGE_GET, idempotencyKey="abc-123"), {"GetItem"}),
    "usage.list": (_asks(USAGE_LIST), {"Query"}),
    "the watcher": (_watches, {"GetItem", "Query"}),
    "the subscriptions function": (_hears, {"GetItem"}),
    "plans apply": (_applies, {"GetItem", "Query", "BatchGetItem"}),
    "plans delete": (_deletes, {"GetItem", "Query", "BatchGetItem"}),
    "plans get": (lambda client: plans.get(client, "usage", "pro"), {"GetItem"}),
    "usage get": (lambda client: usage_records.get(client, "usage", "demo-org", "abc-123"), {"GetItem"}),
    "usage list": (lambda client: list(usage_records.listed(client, "usage", "demo-org", RecordFilter())), {"Query"}),
    "usage export": (_exports, {"Query"}),
    "usage show": (lambda client: usage_view.read(client, "usage", "demo-org", "2026-11"), {"GetItem", "Query"}),
    "organizations put": (lambda client: organizations.put(client, "usage", "demo-org", "inactive"), {"GetItem"}),
    "organizations put, the plan's name": (lambda client: organizations.has_plan(client, "usage", "pro"), {"GetItem"}),
    "organizations get": (lambda client: organizations.get(client, "usage", "demo-org"), {"GetItem"}),
    "organizations list": (lambda client: organizations.all_of(client, "usage"), {"Query", "BatchGetItem"}),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_read_behind_a_promise_is_consistent(dynamodb: "DynamoDBClient", reader: str) -> None:
    put_on_plan(dynamodb, "usage", SUBSCRIBED, PRO)
    function = RecordFunction(dynamodb)
    function(record_request(example()))
    function(record_request(example(idempotencyKey="exports", feature="exports")))
    read, operations = READERS[reader]
    with held_consistent(dynamodb) as reads:
        read(dynamodb)
    assert operations <= set(reads)


@pytest.mark.verify
@pytest.mark.parametrize(
    ("operation", "params", "consistent"),
    [
        ("GetItem", {"ConsistentRead": True}, True),
        ("GetItem", {"ConsistentRead": False}, False),
        ("GetItem", {}, False),
        ("Query", {"ConsistentRead": True}, True),
        ("Query", {}, False),
        ("Query", {"IndexName": BY_PLAN}, True),
        ("Query", {"IndexName": LISTS}, True),
        ("Query", {"IndexName": "another"}, False),
        ("Scan", {}, False),
        ("BatchGetItem", {"RequestItems": {"usage": {"Keys": [], "ConsistentRead": True}}}, True),
        ("BatchGetItem", {"RequestItems": {"usage": {"Keys": []}}}, False),
        ("TransactGetItems", {"TransactItems": []}, True),
    ],
)
def test_a_read_that_may_be_stale_is_recognized(operation: str, params: Any, consistent: bool) -> None:
    assert is_consistent(operation, params) is consistent


@pytest.mark.verify
@pytest.mark.parametrize("folder", ["functions/metering", "ops"])
def test_a_stale_read_is_reported_with_its_function(folder: str) -> None:
    source = "def ask(client, key, **more):\n    return client.get_item(TableName='usage', Key=key, **more)\n"
    ours: dict[str, Any] = {}
    exec(compile(source, str(ROOT / folder / "asking.py"), "exec"), ours)  # noqa: S102 - as if it was there
    with mock_aws():
        client = SESSION.client("dynamodb")
        create_table(client, "usage")
        with held_consistent(client) as reads:
            ours["ask"](client, organization_key("demo-org"), ConsistentRead=True)
            # The check ignores the reads of tests.
            client.get_item(TableName="usage", Key=organization_key("demo-org"))
        assert reads == ["GetItem"]
        with pytest.raises(StaleRead, match=r"GetItem of asking\.py:ask"), held_consistent(client):
            ours["ask"](client, organization_key("demo-org"))
