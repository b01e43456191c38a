"""Batches on the deployed stack: each record is counted and published once, in every mix with other records."""

import json
from collections import Counter
from typing import Any

import jsonschema
import pytest
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan

from ops import organizations
from tests.testing.local_stack import LocalStack, at_once, ids
from tests.testing.payloads import example, payload
from tests.testing.table import counted, put_on_plan, records

_LARGEST = 1024 * 1024


def statuses(answer: Any) -> list[str]:
    """The status of each record, in the batch's order."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = [result["status"] for result in answer.json()["results"]]
    assert [result["index"] for result in answer.json()["results"]] == list(range(len(found)))
    assert Counter(found) == Counter(answer.json()["totals"])
    return found


def test_a_batch_of_100_with_all_kinds_of_records_counts_each_once(stack: LocalStack) -> None:
    organization = stack.new_organization()
    calls = [example(idempotencyKey=f"call-{number}", quantity=number + 1) for number in range(30)]
    exports = [example(idempotencyKey=f"export-{number}", feature="exports", quantity=7) for number in range(30)]
    wrong = [example(idempotencyKey=f"wrong-{number}", quantity=0) for number in range(9)]
    other = [{**record, "quantity": 1000} for record in exports[:10]]
    batch = [*wrong, *calls, *exports, *calls[:20], 7, *other]
    assert len(batch) == 100
    used = {"api_calls": sum(range(31)), "exports": 30 * 7}
    first = stack.record_batch(organization, batch)
    expected = ["invalid"] * 9 + ["recorded"] * 60 + ["replayed"] * 20 + ["invalid"] + ["conflict"] * 10
    assert statuses(first) == expected
    totals = [result.get("currentUsage") for result in first.json()["results"]]
    assert totals[9:89] == [used["api_calls"]] * 30 + [used["exports"]] * 30 + [used["api_calls"]] * 20
    again = [each.replace("recorded", "replayed") for each in expected]
    for _ in range(2):
        assert statuses(stack.record_batch(organization, batch)) == again

    assert counted(stack.dynamodb, stack.table, organization) == (sum(used.values()), 60)
    stored = records(stack.dynamodb, stack.table, organization)
    events = stack.events(organization, at_least=60)
    assert ids(events) == {item["eventId"]["S"]: 1 for item in stored}
    schema = payload("billing.usage.recorded.schema.json")
    for event in events:
        jsonschema.validate(event, schema)
    facts = [event["detail"]["payload"] for event in events]
    assert {name: sum(each["quantity"] for each in facts if each["feature"] == name) for name in used} == used
    # One request caused all of them.
    assert {event["detail"]["traceId"] for event in events} == {item["traceId"]["S"] for item in stored}
    assert len({item["traceId"]["S"] for item in stored}) == 1


def test_overlapping_batches_and_single_records_at_once_count_each_key_once(stack: LocalStack) -> None:
    organization = stack.new_organization()
    usages = [example(idempotencyKey=f"k-{number}", quantity=number + 1) for number in range(60)]
    # Each key is in two batches, and every fifth key also comes alone.
    calls: list[Any] = [[usages[(start + at) % 60] for at in range(20)] for start in range(0, 60, 10)]
    calls += usages[::5]

    def send(call: Any) -> Counter[str]:
        if isinstance(call, list):
            return _until_available(stack, organization, call)
        answer = stack.record(organization, call)
        assert answer.status_code == 200
        return Counter(["replayed" if "idempotent-replayed" in answer.headers else "recorded"])

    outcomes = sum(at_once(send, calls), Counter[str]())
    assert outcomes == {"recorded": 60, "replayed": 60 + 12}
    assert counted(stack.dynamodb, stack.table, organization) == (sum(range(61)), 60)
    stored = records(stack.dynamodb, stack.table, organization)
    assert ids(stack.events(organization, at_least=60)).keys() == {item["eventId"]["S"] for item in stored}


def _until_available(stack: LocalStack, organization: str, batch: list[Any]) -> Counter[str]:
    """Send the same batch until no record is unavailable, and count its last statuses."""
    for _ in range(10):
        found = Counter(statuses(stack.record_batch(organization, batch)))
        if not found["unavailable"]:
            break
    return found


def test_a_key_is_the_same_alone_and_in_a_batch(stack: LocalStack) -> None:
    organization = stack.new_organization()
    stack.record(organization, example(idempotencyKey=...), headers={"Idempotency-Key": "alone"}).raise_for_status()
    batch = [example(idempotencyKey="alone"), example(idempotencyKey="together")]
    assert statuses(stack.record_batch(organization, batch)) == ["replayed", "recorded"]
    replay = stack.record(organization, example(idempotencyKey="together"))
    assert (replay.json()["currentUsage"], replay.headers["idempotent-replayed"]) == (2, "true")
    assert counted(stack.dynamodb, stack.table, organization) == (2, 2)


def test_a_batch_of_an_inactive_organization_acknowledges_what_was_recorded_before(stack: LocalStack) -> None:
    organization = stack.new_organization()
    stack.record(organization, example()).raise_for_status().raise_for_status()
    organizations.put(stack.dynamodb, stack.table, organization, "inactive")
    answer = stack.record_batch(organization, [example(), example(quantity=2)])
    assert statuses(answer) == ["replayed", "conflict"]
    other = stack.new_organization("inactive")
    refused = stack.record_batch(other, [example()])
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    assert records(stack.dynamodb, stack.table, other) == []


def test_a_hard_limit_admits_what_fits_in_the_batchs_order(stack: LocalStack) -> None:
    organization = stack.new_organization()
    plan = Plan(organization, "Its own", {"api_calls": Entitlement(limit=5, hard=True)})
    put_on_plan(stack.dynamodb, stack.table, Organization(organization), plan)
    batch = [example(idempotencyKey=f"k-{at}", quantity=quantity) for at, quantity in enumerate([3, 3, 1, 2, 1])]
    answer = stack.record_batch(organization, batch)
    assert statuses(answer) == ["recorded", "refused", "recorded", "refused", "recorded"]
    full = {"currentUsage": 5, "limit": 5, "limitReached": True}
    assert all(full.items() <= result.items() for result in answer.json()["results"])
    assert counted(stack.dynamodb, stack.table, organization) == (5, 3)


def test_the_largest_batch_fits_and_one_byte_more_does_not(stack: LocalStack) -> None:
    organization = stack.new_organization()
    largest = example(
        sourceId="\U0001f600" * 255,
        sourceType="ü" * 255,
        metadata={"a": "x" * (4096 - len('{"a":""}'))},
        quantity=10**9,
    )
    batch = [{**largest, "idempotencyKey": f"{number:~>255}"} for number in range(100)]
    body = json.dumps({"records": batch}, ensure_ascii=False).encode()
    assert statuses(stack.record_batch(organization, body.ljust(_LARGEST))) == ["recorded"] * 100
    assert statuses(stack.record_batch(organization, body)) == ["replayed"] * 100
    too_large = stack.record_batch(organization, body.ljust(_LARGEST + 1))
    assert (too_large.status_code, too_large.json()["code"]) == (413, "BAD_REQUEST")
    assert counted(stack.dynamodb, stack.table, organization) == (100 * 10**9, 100)
    assert len(stack.events(organization, at_least=100)) == 100


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ([], {}, 422),
        ([example(idempotencyKey=f"k-{number}") for number in range(101)], {}, 422),
        (json.dumps({"records": [example()], "organizationId": "acme"}).encode(), {}, 422),
        (json.dumps([example()]).encode(), {}, 400),
        (b'{"records":[{"feature":"api_calls","quantity":1,"quantity":2,"idempotencyKey":"k"}]}', {}, 400),
        ([example()], {"Idempotency-Key": "abc-123"}, 400),
        ([example()], {"Content-Type": "text/plain"}, 415),
    ],
    ids=["none", "too many", "another member", "no object", "a member twice", "header", "media type"],
)
def test_a_malformed_batch_is_invalid_as_a_whole(
    stack: LocalStack, body: Any, headers: dict[str, str], status: int
) -> None:
    organization = stack.new_organization()
    refused = stack.record_batch(organization, body, headers=headers)
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    assert refused.json()["operation"]["key"] == "saas.billing.usage.record-batch"
    assert records(stack.dynamodb, stack.table, organization) == []


def test_a_batch_needs_the_scope_to_write(stack: LocalStack) -> None:
    organization = stack.new_organization()
    reader = {"Authorization": f"Bearer {stack.token(organization, scopes=['usage:read'])}"}
    assert stack.record_batch(organization, [example()], headers=reader).status_code == 403
    assert stack.record_batch(organization, [example()], headers={"Authorization": "Bearer x"}).status_code == 401
    assert records(stack.dynamodb, stack.table, organization) == []
