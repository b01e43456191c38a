"""The record function's bundle under AWS's own runtime client."""

import json
from typing import Any

import pytest
from metering.http.endpoint import RESERVE_S

from tests.runtime.conftest import Start
from tests.runtime.proxy import Proxy
from tests.testing import table
from tests.testing.execution_environment import InitFailed, TimedOut
from tests.testing.local_stack import LocalStack
from tests.testing.payloads import payload, record_request
from tests.testing.runtime_api import Outcome

HANDLER = "metering.record_api.handler"


def test_a_usage_is_recorded_and_its_replay_counts_nothing(stack: LocalStack, start: Start) -> None:
    organization = stack.new_organization()
    event = _of(organization, payload("http-record.json"))
    with start(HANDLER) as environment:
        assert _body(environment.invoke(event)) == {"recorded": True, "currentUsage": 1, "limitReached": False}
        replay = environment.invoke(event)
    assert replay.body["headers"]["Idempotent-Replayed"] == "true"
    assert _body(replay) == {"recorded": True, "currentUsage": 1, "limitReached": False}
    assert table.counted(stack.dynamodb, stack.table, organization) == (1, 1)


def test_all_members_are_recorded(stack: LocalStack, start: Start) -> None:
    organization = stack.new_organization()
    with start(HANDLER) as environment:
        answer = environment.invoke(_of(organization, payload("http-record-all-members.json")))
    assert _body(answer) == {"recorded": True, "currentUsage": 250, "limitReached": False}
    (record,) = table.records(stack.dynamodb, stack.table, organization)
    assert (record["sourceId"]["S"], json.loads(record["metadata"]["S"])["size"]) == ("req-7f3a", {"files": 12})


def test_a_second_request_in_the_same_environment_makes_two_calls_and_no_other(
    stack: LocalStack, start: Start, aws: Proxy
) -> None:
    organization = stack.new_organization()
    with start(HANDLER) as environment:
        assert aws.take_operations() == []
        assert _body(environment.invoke(_usage_of(organization, "first")))["currentUsage"] == 1
        assert aws.take_operations() == ["GetItem", "TransactWriteItems", "Query"]
        assert _body(environment.invoke(_usage_of(organization, "second")))["currentUsage"] == 2
        assert aws.take_operations() == ["TransactWriteItems", "Query"]


def test_an_invalid_request_is_answered_with_a_problem(start: Start) -> None:
    with start(HANDLER) as environment:
        outcome = environment.invoke(payload("http-unknown-route.json"))
    assert (outcome.kind, outcome.body["statusCode"], _body(outcome)["code"]) == ("response", 404, "NOT_FOUND")


def test_an_unforeseen_error_is_answered_and_the_environment_goes_on(start: Start) -> None:
    with start(HANDLER, TABLE_NAME="no-such-table") as environment:
        for _ in range(2):
            outcome = environment.invoke(payload("http-record.json"))
            assert (outcome.kind, outcome.body["statusCode"]) == ("response", 500)
            assert _body(outcome)["code"] == "INTERNAL_ERROR"
            assert "no-such-table" not in outcome.body["body"]
        assert "ResourceNotFoundException" in environment.log()


def test_a_setting_that_is_missing_fails_the_start_and_no_request(start: Start) -> None:
    with pytest.raises(InitFailed, match="KeyError: 'TABLE_NAME'"), start(HANDLER, TABLE_NAME=None):
        pass


def test_a_transaction_in_doubt_at_a_timeout_is_counted_once_and_its_retry_is_a_replay(
    stack: LocalStack, start: Start, aws: Proxy
) -> None:
    organization = stack.new_organization()
    usage = _usage_of(organization, "in-doubt")
    with start(HANDLER) as environment:
        environment.invoke(_usage_of(organization, "before"))
        # DynamoDB commits, but its answer arrives so slowly that the call does not end. No single wait reaches the read
        # timeout. The invocation has the function's reserve for its last call, and 5 s to start that call.
        aws.hold_back_answers_to("TransactWriteItems")
        with pytest.raises(TimedOut):
            environment.invoke(usage, timeout_s=RESERVE_S + 5)
        assert environment.process.returncode == -9
    assert len(table.records(stack.dynamodb, stack.table, organization)) == 2  # the transaction in doubt did commit

    aws.hold_back_answers_to("")
    with start(HANDLER) as environment:
        retry = environment.invoke(usage)
    assert retry.body["headers"]["Idempotent-Replayed"] == "true"
    assert _body(retry) == {"recorded": True, "currentUsage": 2, "limitReached": False}
    assert table.counted(stack.dynamodb, stack.table, organization) == (2, 2)


def _of(organization: str, event: Any) -> Any:
    event["requestContext"]["authorizer"]["jwt"]["claims"]["org_id"] = organization
    return event


def _usage_of(organization: str, key: str) -> Any:
    return record_request(
        {"feature": "api_calls", "quantity": 1, "idempotencyKey": key}, claims={"org_id": organization}
    )


def _body(outcome: Outcome) -> Any:
    assert outcome.kind == "response", outcome.body
    return json.loads(outcome.body["body"])
