"""Every problem against its table: each cause leads to an answer with exactly these members and values."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from metering.http.operations import RECORD_USAGE, RECORD_USAGES
from metering.http.problems import INTERNAL, KINDS
from metering.storage.organization_items import organization_key

from tests.contract.conftest import Api
from tests.contract.schemas import check, optional_fields, plain, schema_of
from tests.contract.tables import BY_KEY, LEAST, OPERATIONS, PROBLEM, PROBLEMS, Problem
from tests.testing.contention import answer_with, cancelled, failed
from tests.testing.payloads import batch_request, example, record_request
from tests.testing.service import Reply
from tests.testing.table import put_organization
from tools import openapi

RECORD = BY_KEY["usage.record"]
LIST = BY_KEY["usage.list"]


def _sent(raw: str) -> Callable[[Api], Reply]:
    return lambda api: api.record.reply(record_request(raw=raw))


def _other_content(api: Api) -> Reply:
    api(RECORD, example(quantity=1))
    return api.reply(RECORD, example(quantity=2))


def _cursor(api: Api) -> str:
    """The cursor behind the first of two records of `demo-org`."""
    for key in ("a", "b"):
        api(RECORD, example(idempotencyKey=key))
    cursor: str = api(LIST, {"pageSize": "1"}).body["nextCursor"]
    return cursor


def _inactive(api: Api) -> Reply:
    put_organization(api.record.client, "usage", "demo-org", "inactive")
    return api.reply(RECORD, example())


def _our_mistake(api: Api) -> Reply:
    api.record.client.put_item(
        TableName="usage", Item={**organization_key("demo-org"), "limits": {"S": "usage-metering-table"}}
    )
    return api.reply(RECORD, example())


def _busy(answer: Any) -> Callable[[Api], Reply]:
    def respond(api: Api) -> Reply:
        answer_with(api.record.client, "TransactWriteItems", [answer] * 1000)
        return api.reply(RECORD, example())

    return respond


# A request for each cause that the tables name.
CAUSES: Mapping[str, Callable[[Api], Reply]] = {
    "not JSON": _sent("{"),
    "not an object": _sent("[1]"),
    "empty": _sent(""),
    "not UTF-8": lambda api: api.record.reply(record_request(raw="/w==") | {"isBase64Encoded": True}),
    "a duplicate member": _sent('{"quantity":1,"quantity":1}'),
    "NaN": _sent('{"quantity":NaN}'),
    "Infinity": _sent('{"quantity":-Infinity}'),
    "missing idempotency key": lambda api: api.reply(RECORD, example(idempotencyKey=...)),
    "header and body keys differ": lambda api: api.record.reply(
        record_request(example(), headers={"Idempotency-Key": "abc-124"})
    ),
    # API Gateway joins the values of a repeated header.
    "an Idempotency-Key header sent twice": lambda api: api.record.reply(
        record_request(example(idempotencyKey=...), headers={"Idempotency-Key": "abc-123,abc-123"})
    ),
    "a quoted Idempotency-Key header sent twice": lambda api: api.record.reply(
        record_request(example(idempotencyKey=...), headers={"Idempotency-Key": '"abc-123","abc-123"'})
    ),
    "a batch with an Idempotency-Key header": lambda api: api.record.reply(
        batch_request(headers={"Idempotency-Key": "k"})
    ),
    "a malformed cursor": lambda api: api.reply(LIST, {"cursor": "abc"}),
    "another organization's cursor": lambda api: api.reply(LIST, {"cursor": _cursor(api)}, org_id="acme"),
    "another filter's cursor": lambda api: api.reply(LIST, {"cursor": _cursor(api), "feature": "api_calls"}),
    "no organization in the identity": lambda api: api.record.reply(record_request(claims={"org_id": None})),
    "a malformed organization in the identity": lambda api: api.reply(RECORD, example(), org_id="demo#org"),
    "missing scope": lambda api: api.reply(RECORD, example(), scope="usage:read"),
    "organization inactive": _inactive,
    "organization unknown": lambda api: api.reply(RECORD, example(), org_id="nobody"),
    "record unknown": lambda api: api.reply(BY_KEY["usage.get"], {"idempotencyKey": "never-sent"}),
    "route unknown": lambda api: api.reply(replace(RECORD, route="POST /saas/billing/usage/record/v2.0.0"), example()),
    "another method": lambda api: api.reply(replace(RECORD, route=RECORD.route.replace("POST", "PUT")), example()),
    "a body over 16 KiB": lambda api: api.reply(RECORD, example(metadata={"a": "x" * 16 * 1024})),
    "a batch over 1 MiB": lambda api: api.record.reply(batch_request(raw=" " * (1024 * 1024 + 1))),
    "not application/json": lambda api: api.record.reply(record_request(headers={"content-type": "text/plain"})),
    "Content-Type sent twice": lambda api: api.record.reply(
        record_request(headers={"content-type": "application/json; charset=utf-8,application/json"})
    ),
    "well-formed JSON that breaks the model": lambda api: api.reply(RECORD, example(quantity="1")),
    "same key, other content": _other_content,
    "our mistake": _our_mistake,
    "store throttled": _busy(failed("ThrottlingException")),
    "contention outlasted the deadline": _busy(cancelled(["None", "TransactionConflict"])),
}
EACH = [(problem, cause) for problem in PROBLEMS for cause in problem.causes]


def test_every_problem_has_rows_and_causes_in_the_tables() -> None:
    known = {(kind.status, kind.code, kind.category, kind.retryable) for kind in (*KINDS.values(), INTERNAL)}
    assert known == {(each.status, each.code, each.category, each.retryable) for each in PROBLEMS}
    assert sorted(CAUSES) == sorted(cause for _, cause in EACH)
    assert frozenset().union(*(each.optional for each in PROBLEMS)) == optional_fields(PROBLEM)


@pytest.mark.parametrize(("problem", "cause"), EACH, ids=[cause for _, cause in EACH])
def test_a_problem_has_the_tables_members_and_no_others(api: Api, problem: Problem, cause: str) -> None:
    reply = CAUSES[cause](api)
    check(reply.body, schema_of(PROBLEM))
    assert (reply.status, reply.headers["Content-Type"]) == (problem.status, "application/problem+json")
    assert reply.headers.keys() - {"Content-Type"} == ({problem.header} if problem.header else set())
    assert reply.body.keys() & optional_fields(PROBLEM) == problem.optional
    facts = {name: reply.body[name] for name in ("status", "code", "category", "retryable", "severity")}
    assert facts == {
        "status": problem.status,
        "code": problem.code,
        "category": problem.category,
        "retryable": problem.retryable,
        "severity": "warning" if problem.status < 500 else "error",
    }
    assert ":" in reply.body["type"]
    for words in ("Traceback", "usage-metering-table", "demo-org", "Exception"):
        assert words not in reply.body["detail"]


def test_a_problem_names_the_operation_that_was_matched(api: Api) -> None:
    for operation in OPERATIONS:
        reply = api(operation, LEAST[operation.name], 404, org_id="nobody")
        assert reply.body["operation"] == {"key": operation.key, "version": "1.0.0", "kind": operation.kind}


def test_the_headers_of_a_problem_match_the_table(api: Api) -> None:
    assert CAUSES["another method"](api).headers["Allow"] == "POST"
    unavailable = CAUSES["store throttled"](api)
    assert unavailable.headers["Retry-After"] == str(unavailable.body["retryAfter"])


def test_the_document_says_what_the_table_says() -> None:
    document = json.loads(openapi.DOCUMENT.read_text())
    assert plain(document["components"]["schemas"]["Problem"], document) == plain(schema_of(PROBLEM), document)
    rows = {(each.status, each.code, each.category, each.retryable) for each in PROBLEMS}
    assert {facts for response in _of_problems(document) for facts in _facts(response)} == rows
    for command in (RECORD_USAGE, RECORD_USAGES):
        answered = document["paths"][command.path]["post"]["responses"].keys()
        # The 405 answers another method, so the document does not list it under this one.
        assert {str(each.status) for each in PROBLEMS} - answered == {"405"}
    for header, status in ((each.header, each.status) for each in PROBLEMS if each.header):
        assert header in document["components"]["responses"][f"Problem{status}"]["headers"]


def _of_problems(document: Any) -> list[Any]:
    return [each for name, each in document["components"]["responses"].items() if name.startswith("Problem")]


def _facts(response: Any) -> set[tuple[Any, ...]]:
    said = response["content"]["application/problem+json"]["schema"]["allOf"][1]["oneOf"]
    names = ("status", "code", "category", "retryable")
    return {tuple(one["properties"][name]["const"] for name in names) for one in said}
