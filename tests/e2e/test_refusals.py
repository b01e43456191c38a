"""Invalid requests over HTTP on the deployed stack: each gets the contract's problem and writes nothing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.e2e.steps import assert_problem
from tests.testing.breaches import BREACHES
from tests.testing.local_stack import LocalStack
from tests.testing.payloads import example
from tests.testing.table import counted, records


@pytest.fixture(scope="module")
def organization(stack: LocalStack) -> Iterator[str]:
    """An organization that has recorded nothing, before and after these tests."""
    name = stack.new_organization()
    yield name
    assert records(stack.dynamodb, stack.table, name) == []
    assert counted(stack.dynamodb, stack.table, name) == (0, 0)


# --- the caller --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": rsa.generate_private_key(public_exponent=65537, key_size=2048)},
        {"issuer": "http://127.0.0.1:1"},
        {"audience": "somebody-else"},
        {"expires_in_s": -1},
    ],
    ids=["signature", "issuer", "audience", "expiry"],
)
def test_a_token_that_is_not_valid_is_unauthorized(stack: LocalStack, organization: str, wrong: dict[str, Any]) -> None:
    token = stack.token(organization, **wrong)
    answer = stack.post(example(), {"Authorization": f"Bearer {token}"})
    # API Gateway answers itself, before it calls a function.
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic ZGVtbzpkZW1v"}])
def test_a_request_without_a_token_is_unauthorized(stack: LocalStack, header: dict[str, str]) -> None:
    assert stack.post(example(), header).status_code == 401
    assert stack.http.get("/anything", headers=header).status_code == 401


@pytest.mark.parametrize("scopes", [[], ["usage:read"], ["usage:writer"], ["other-api/usage:write"]])
def test_a_token_without_the_scope_is_forbidden(stack: LocalStack, organization: str, scopes: list[str]) -> None:
    answer = stack.post(example(), {"Authorization": f"Bearer {stack.token(organization, scopes=scopes)}"})
    assert_problem(answer, 403, "FORBIDDEN")


@pytest.mark.parametrize("name", ["", "no org", "a#b", "x" * 65, "null"])
def test_a_token_with_a_malformed_organization_is_forbidden(stack: LocalStack, name: str) -> None:
    assert_problem(stack.record(name, example()), 403, "FORBIDDEN")


def test_an_unknown_organization_is_not_found(stack: LocalStack) -> None:
    assert_problem(stack.record("nobody-knows-me", example()), 404, "NOT_FOUND")
    assert records(stack.dynamodb, stack.table, "nobody-knows-me") == []


def test_another_organization_cannot_be_named_in_the_body(stack: LocalStack, organization: str) -> None:
    problem = assert_problem(stack.record(organization, example(organizationId="acme")), 422, "VALIDATION_FAILED")
    assert [issue["path"] for issue in problem["issues"]] == ["organizationId"]
    assert records(stack.dynamodb, stack.table, "acme") == []


@pytest.mark.parametrize(
    "header", ["X-Organization-Id", "X-Org-Id", "org_id", "Organization", "X-Tenant-Id", "x-amzn-org_id"]
)
def test_other_headers_do_not_name_the_organization(stack: LocalStack, header: str) -> None:
    mine = stack.new_organization()
    assert stack.record(mine, example(quantity=3), headers={header: "acme"}).json()["currentUsage"] == 3
    assert counted(stack.dynamodb, stack.table, mine) == (3, 1)
    assert records(stack.dynamodb, stack.table, "acme") == []


# --- the content -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "path", "code"), BREACHES)
def test_an_invalid_field_is_named(
    stack: LocalStack, organization: str, members: dict[str, Any], path: str, code: str
) -> None:
    answer = stack.record(organization, example(**members))
    if members.get("idempotencyKey") is ...:
        assert_problem(answer, 400, "BAD_REQUEST")
        return
    problem = assert_problem(answer, 422, "VALIDATION_FAILED")
    assert [(issue["path"], issue["code"]) for issue in problem["issues"]] == [(path, code)]
    assert problem["operation"] == {"key": "saas.billing.usage.record", "version": "1.0.0", "kind": "command"}


MALFORMED = {
    "empty": b"",
    "not JSON": b"{",
    "form": b"feature=api_calls&quantity=1",
    "array": json.dumps([example()]).encode(),
    "string": b'"api_calls"',
    "null": b"null",
    "number": b"1",
    "NaN": b'{"feature":"api_calls","quantity":NaN,"idempotencyKey":"k"}',
    "Infinity": b'{"feature":"api_calls","quantity":Infinity,"idempotencyKey":"k"}',
    "too large for a number": b'{"feature":"api_calls","quantity":1e999,"idempotencyKey":"k"}',
    "duplicate member": b'{"feature":"api_calls","quantity":1,"quantity":2,"idempotencyKey":"k"}',
    "duplicate in metadata": b'{"feature":"a","quantity":1,"idempotencyKey":"k","metadata":{"a":1,"a":2}}',
    "no UTF-8": b"\xff\xfe",
    "no UTF-8 in a string": b'{"feature":"a","quantity":1,"idempotencyKey":"k","sourceId":"\xff"}',
    "half a surrogate pair": b'{"feature":"a","quantity":1,"idempotencyKey":"k","sourceId":"\\ud800"}',
    "no key": json.dumps(example(idempotencyKey=...)).encode(),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_an_unreadable_request_is_a_bad_request(stack: LocalStack, organization: str, body: bytes) -> None:
    (issue,) = assert_problem(stack.record(organization, body), 400, "BAD_REQUEST")["issues"]
    assert issue["message"]


def test_header_and_body_may_not_name_different_keys(stack: LocalStack, organization: str) -> None:
    answer = stack.record(organization, example(), headers={"Idempotency-Key": "other"})
    assert_problem(answer, 400, "BAD_REQUEST")


def test_the_largest_body_fits_and_one_byte_more_does_not(stack: LocalStack, organization: str) -> None:
    body = json.dumps(example(quantity=0)).encode()
    assert_problem(stack.record(organization, body.ljust(16 * 1024)), 422, "VALIDATION_FAILED")
    assert_problem(stack.record(organization, body.ljust(16 * 1024 + 1)), 413, "BAD_REQUEST")
    assert_problem(stack.record(organization, b" " * 1_000_000), 413, "BAD_REQUEST")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_another_media_type_is_unsupported(stack: LocalStack, organization: str, media_type: str) -> None:
    # API Gateway passes bodies of unknown types on as base64.
    answer = stack.record(organization, example(), headers={"Content-Type": media_type})
    assert_problem(answer, 415, "BAD_REQUEST")


# --- the route ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/saas/billing/usage/record", "/saas/billing/usage/record/v2.0.0", "/x?y=z"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_route_is_not_found(stack: LocalStack, organization: str, method: str, path: str) -> None:
    authorization = {"Authorization": f"Bearer {stack.token(organization)}"}
    problem = assert_problem(stack.http.request(method, path, headers=authorization), 404, "NOT_FOUND")
    assert "operation" not in problem


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_wrong_method_is_answered_with_the_allowed_one(stack: LocalStack, organization: str, method: str) -> None:
    authorization = {"Authorization": f"Bearer {stack.token(organization)}"}
    answer = stack.http.request(method, "/saas/billing/usage/record/v1.0.0", headers=authorization)
    assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"
