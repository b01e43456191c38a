"""The query function's bundle under AWS's own runtime client."""

import json
from typing import Any

from metering.http.operations import FEATURE_CHECK, USAGE_GET, USAGE_SUMMARY
from metering.model.plans import Entitlement

from tests.runtime.conftest import Start
from tests.runtime.proxy import Proxy
from tests.testing.local_stack import LocalStack
from tests.testing.payloads import example, query_request
from tests.testing.runtime_api import Outcome

HANDLER = "metering.query_api.handler"


def test_queries_return_recorded_usage_with_few_calls_and_no_write(stack: LocalStack, start: Start, aws: Proxy) -> None:
    organization = stack.new_organization()
    stack.subscribe(organization, api_calls=Entitlement(limit=10))
    stack.record(organization, example(quantity=4))
    mine = {"org_id": organization}
    with start(HANDLER) as environment:
        assert aws.take_operations() == []
        checked = environment.invoke(query_request(FEATURE_CHECK, claims=mine, feature="api_calls"))
        answer = _body(checked)
        assert (answer["reason"], answer["used"], answer["remaining"]) == ("limit_available", 4, 6)
        assert aws.take_operations() == ["GetItem", "TransactGetItems", "Query"]
        summary = _body(environment.invoke(query_request(USAGE_SUMMARY, claims=mine)))
        assert summary["usage"] == [{"feature": "api_calls", "used": 4, "limit": 10, "percentage": 40.0}]
        assert aws.take_operations() == ["Query"]
        by_day = _body(environment.invoke(query_request(USAGE_SUMMARY, claims=mine, by="day")))
        assert sum(day["used"] for day in by_day["usage"][0]["days"]) == 4
        assert aws.take_operations() == ["Query"]
        usage = _body(environment.invoke(query_request(USAGE_GET, claims=mine, idempotencyKey="abc-123")))
        assert usage["quantity"] == 4
        # The function reads the record, and then again with its counter's shard, so that later totals include it.
        assert aws.take_operations() == ["GetItem", "TransactGetItems"]


def test_an_invalid_request_is_answered_with_a_problem(start: Start) -> None:
    with start(HANDLER) as environment:
        outcome = environment.invoke(query_request(FEATURE_CHECK, raw="feature=%"))
    assert (outcome.kind, outcome.body["statusCode"], _body(outcome)["code"]) == ("response", 400, "BAD_REQUEST")


def _body(outcome: Outcome) -> Any:
    assert outcome.kind == "response", outcome.body
    return json.loads(outcome.body["body"])
