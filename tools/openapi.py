"""The API's OpenAPI document, made from the operations, models and problems that the functions use.

python -m tools.openapi     writes docs/openapi.json, and docs/reference/api.md for people
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metering.http import caller, models, operations, problems, request, strict_json
from metering.http.caller import TokenRules
from metering.http.models import Problem
from metering.http.operations import (
    FEATURE_CHECK,
    RECORD_USAGE,
    RECORD_USAGES,
    SUBSCRIPTION_GET,
    USAGE_GET,
    USAGE_LIST,
    USAGE_SUMMARY,
    Operation,
)
from metering.http.request import Request
from metering.model import errors
from metering.model.names import ORGANIZATION_NAME_PATTERN
from pydantic import TypeAdapter

from tools import api_reference, output

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"

# The causes of the service's own problems.
_CAUSES = {
    "400": "The body, the query string or a header is malformed, or the idempotency key or the organization is "
    "missing. The member `issues` names the error.",
    "403": "The token lacks the scope, names no organization or another organization than the header, or the "
    "organization is inactive. The member `detail` names the cause.",
    "404": "The route, the organization, its subscription or the usage record is not known. The member `detail` names "
    "the cause.",
    "405": "The route has another method, which the header `Allow` names.",
    "413": "The body is larger than this operation accepts.",
    "415": "The content type is not `application/json`, or the body is compressed.",
    "422": "The input is invalid, and the member `issues` names each error. Or the idempotency key was used "
    "before with other content, and nothing was recorded.",
    "500": "An internal error occurred. Report the member `traceId`. You can safely send the same request again.",
    "503": "The database was too busy until the deadline, or the route is being deployed. Send the same request again "
    "after the time in `Retry-After`.",
}
# The errors of API Gateway, which have API Gateway's own body.
_GATEWAY = {
    "401": "The request has no valid token. API Gateway answers with its own body. Request a new token, and send it as "
    "`Authorization: Bearer`.",
    "413": "API Gateway answers with its own body if the request exceeds API Gateway's own limit.",
    "429": "API Gateway throttled the request and answers with its own body. Send the same request again later.",
    "500": "API Gateway answers with its own body if the function cannot run. Send the same request again.",
    "503": "API Gateway answers with its own body if the function cannot run. Send the same request again.",
}

_TRACE_ID = "AbC1dEfGoAMEJrg="
_CURSOR = "eyJ2IjoxLCJrIjoiYWJjLTEyMyIsImQiOiJlNzJiYzI4OTAwNjEwODhlIn0"
_SCHEMAS = "#/components/schemas/{model}"
_INPUT = {"feature": "api_calls", "quantity": 1, "idempotencyKey": "abc-123"}
_EVERY_MEMBER = {
    **_INPUT,
    "idempotencyKey": "nightly-2026-11-23",
    "sourceId": "req-7f3a",
    "sourceType": "request",
    "metadata": {"region": "eu-central-1", "tags": ["nightly"]},
}


@dataclass(frozen=True)
class _Command:
    """A command's models, examples and headers for the document."""

    operation: Operation
    input: Any
    output: Any
    sent: Mapping[str, Any]
    """Examples of the request body, in OpenAPI's form."""
    answered: str
    answer: Any
    """An example of the response body."""
    headers: Sequence[Any] = ()
    """Header parameters, in OpenAPI's form."""
    answer_headers: Mapping[str, Any] = field(default_factory=dict)


_ORGANIZATION = {
    "name": caller.ORGANIZATION_HEADER,
    "in": "header",
    "description": f"The organization to act for. Required if the token has the scope `{caller.ANY_ORGANIZATION}`. "
    "Without this scope, leave the header out or name the token's own organization. Another name results in 403.",
    "schema": {"type": "string", "pattern": f"^{ORGANIZATION_NAME_PATTERN}$"},
}


def _invalid(members: dict[str, Any]) -> errors.InputInvalid:
    try:
        models.record_usage_input(members)
    except errors.InputInvalid as invalid:
        return invalid
    raise AssertionError("the members are valid")


def _problem_of_record(error: Exception) -> Problem:
    return problems.problem(error, RECORD_USAGES, _TRACE_ID)[2]


_COMMANDS = (
    _Command(
        RECORD_USAGE,
        models.RecordUsageInput,
        models.RecordUsageOutput,
        {
            "smallest": {"summary": "The required members", "value": _INPUT},
            "everything": {"summary": "Every member", "value": _EVERY_MEMBER},
        },
        "The result of recording the usage.",
        {"recorded": True, "currentUsage": 100, "limitReached": False},
        [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The idempotency key. Required unless the body contains `idempotencyKey`. If both are "
                "sent, they must be equal. The value is plain, or a quoted structured-field string (RFC 8941). A key "
                "that contains a comma must be quoted, because API Gateway joins a header sent twice with a comma.",
                "schema": {"type": "string", "pattern": r'^([\x20-\x2b\x2d-\x7e]{1,512}|"[\x20-\x7e]{1,510}")$'},
            }
        ],
        {
            "Idempotent-Replayed": {
                "description": "`true` on a replay. Absent otherwise.",
                "schema": {"type": "string", "const": "true"},
            }
        },
    ),
    _Command(
        RECORD_USAGES,
        models.RecordUsagesInput,
        models.RecordUsagesOutput,
        {
            "smallest": {"summary": "One record", "value": {"records": [_INPUT]}},
            "several": {
                "summary": "Records of several features",
                "value": {"records": [_INPUT, {**_EVERY_MEMBER, "feature": "storage_gb", "quantity": 250}]},
            },
        },
        "The results of all records, and how many have each status.",
        {
            "results": [
                {"index": 0, "status": "recorded", "currentUsage": 101, "limitReached": False},
                {"index": 1, "status": "replayed", "currentUsage": 101, "limitReached": False},
                {"index": 2, "status": "refused", "currentUsage": 990, "limit": 1000, "limitReached": True},
                {"index": 3, "status": "conflict", "problem": _problem_of_record(errors.KeyReused())},
                {"index": 4, "status": "invalid", "problem": _problem_of_record(_invalid({**_INPUT, "quantity": "1"}))},
                {"index": 5, "status": "unavailable", "problem": _problem_of_record(errors.Unavailable(1))},
            ],
            "totals": {"recorded": 1, "replayed": 1, "refused": 1, "conflict": 1, "invalid": 1, "unavailable": 1},
        },
    ),
)


@dataclass(frozen=True)
class _Query:
    """A query's models and examples for the document."""

    operation: Operation
    tag: str
    input: Any
    output: Any
    answered: str
    asked: Mapping[str, Any]
    """An example of each query parameter."""
    answer: Any
    """An example of the response body."""


_QUERIES = (
    _Query(
        USAGE_SUMMARY,
        "usage",
        models.UsageSummaryInput,
        models.UsageSummaryOutput,
        "The usage of the billing period.",
        {"billingPeriod": "2026-11", "period": "2026-11", "by": "day"},
        {
            "billingPeriod": "2026-11",
            "periodStart": "2026-11-01T00:00:00.000Z",
            "periodEnd": "2026-12-01T00:00:00.000Z",
            "usage": [
                {
                    "feature": "api_calls",
                    "used": 450,
                    "limit": 1000,
                    "unit": "calls",
                    "percentage": 45.0,
                    "days": [{"date": "2026-11-02", "used": 120}, {"date": "2026-11-23", "used": 330}],
                },
                {"feature": "exports", "used": 7, "days": [{"date": "2026-11-23", "used": 7}]},
            ],
        },
    ),
    _Query(
        FEATURE_CHECK,
        "features",
        models.FeatureCheckInput,
        models.FeatureCheckOutput,
        "The organization's access, and its reason.",
        {"feature": "api_calls", "quantity": 60},
        {
            "hasAccess": False,
            "reason": "limit_reached",
            "upgradeUrl": "https://example.com/upgrade",
            "used": 960,
            "limit": 1000,
            "remaining": 40,
            "resetsAt": "2026-12-01T00:00:00.000Z",
        },
    ),
    _Query(
        SUBSCRIPTION_GET,
        "subscriptions",
        models.SubscriptionGetInput,
        models.SubscriptionGetOutput,
        "The subscription.",
        {},
        {
            "id": "sub-1",
            "organizationId": "demo-org",
            "planId": "pro",
            "planName": "Professional",
            "status": "TRIALING",
            "currentPeriodStart": "2026-11-01T00:00:00.000Z",
            "currentPeriodEnd": "2026-12-01T00:00:00.000Z",
            "trialEndsAt": "2026-11-15T00:00:00.000Z",
            "cancelAtPeriodEnd": False,
        },
    ),
    _Query(
        USAGE_GET,
        "usage",
        models.UsageGetInput,
        models.UsageGetOutput,
        "The usage record.",
        {"idempotencyKey": "abc-123"},
        {
            "idempotencyKey": "abc-123",
            "feature": "api_calls",
            "quantity": 1,
            "billingPeriod": "2026-11",
            "recordedAt": "2026-11-23T00:20:04.123Z",
            "eventId": "1f0c9a52-7c1e-4b0e-9d0a-3a8f6b5f2c10",
        },
    ),
    _Query(
        USAGE_LIST,
        "usage",
        models.UsageListInput,
        models.UsageListOutput,
        "A page of the list.",
        {"billingPeriod": "2026-11", "feature": "api_calls", "pageSize": 100, "cursor": _CURSOR},
        {
            "records": [
                {
                    "idempotencyKey": "abc-123",
                    "feature": "api_calls",
                    "quantity": 1,
                    "billingPeriod": "2026-11",
                    "recordedAt": "2026-11-23T00:20:04.123Z",
                    "eventId": "1f0c9a52-7c1e-4b0e-9d0a-3a8f6b5f2c10",
                }
            ],
            "nextCursor": _CURSOR,
        },
    ),
)

# Statuses that no operation's answer has, because only a request with another method gets them.
_NOT_OF_COMMANDS = {"405"}
# A query has no body that could be too large or of another type.
_NOT_OF_QUERIES = {*_NOT_OF_COMMANDS, "413", "415"}


def document() -> dict[str, Any]:
    """Return the API as an OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "usage-metering",
            "version": RECORD_USAGE.version,
            "summary": "Records and reports the usage of metered features. Each usage counts exactly once.",
            "description": "A usage is a quantity of a feature that an organization used.\n\n"
            "The organization comes from a claim of the caller's token: `org_id`, unless the deployment environment "
            "has another setting. A backend that acts for many organizations has a token with the scope "
            f"`{caller.ANY_ORGANIZATION}`. It names the organization in the header `{caller.ORGANIZATION_HEADER}`.\n\n"
            "Every error of the service is a problem (RFC 9457) with a stable `code`. An unknown route results in 404 "
            "(`NOT_FOUND`). Another method on a known route results in 405 (`METHOD_NOT_ALLOWED`). API Gateway's own "
            'errors have another body: `{"message": "..."}`.',
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {
                "url": "https://{api}.execute-api.{region}.amazonaws.com",
                "description": "The output `Url` of the stack `usage-metering-<environment>-service`.",
                "variables": {"api": {"default": "a1b2c3d4e5"}, "region": {"default": "eu-central-1"}},
            }
        ],
        "security": [{"oauth2": []}],
        "paths": {
            **{command.operation.path: {command.operation.method.lower(): _command(command)} for command in _COMMANDS},
            **{query.operation.path: {query.operation.method.lower(): _query(query)} for query in _QUERIES},
        },
        "components": {"schemas": _schemas(), "responses": _responses(), "securitySchemes": _security_schemes()},
    }


@output.command("openapi", works=True)
def main() -> int:
    described = document()
    DOCUMENT.write_text(as_text(described), "utf-8")
    api_reference.REFERENCE.write_text(api_reference.text(described), "utf-8")
    return 0


def as_text(content: dict[str, Any]) -> str:
    """Return the text of the file `docs/openapi.json`."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _command(command: _Command) -> dict[str, Any]:
    return {
        **_described(command.operation, "usage"),
        "parameters": [*command.headers, _ORGANIZATION],
        "requestBody": {
            "required": True,
            "description": f"One JSON object in UTF-8, at most {command.operation.max_body_bytes} bytes. "
            "Duplicate members, NaN and Infinity are invalid.",
            "content": {
                "application/json": {
                    "schema": _ref(command.input.__name__),
                    "examples": command.sent,
                }
            },
        },
        "responses": _answers(command, _NOT_OF_COMMANDS, command.answer_headers),
    }


def _query(query: _Query) -> dict[str, Any]:
    schema = _without_titles(TypeAdapter(query.input).json_schema())
    return {
        **_described(query.operation, query.tag),
        "parameters": [
            {
                "name": name,
                "in": "query",
                "description": member.pop("description"),
                "required": name in schema.get("required", []),
                "schema": member,
                "example": query.asked[name],
            }
            for name, member in schema["properties"].items()
        ]
        + [_ORGANIZATION],
        "responses": _answers(query, _NOT_OF_QUERIES),
    }


def _described(operation: Operation, tag: str) -> dict[str, Any]:
    return {
        "operationId": operation.key,
        "summary": operation.title,
        "description": operation.description,
        "tags": [tag],
        "security": [{"oauth2": [operation.scope]}],
    }


def _answers(
    asked: _Command | _Query, never: Collection[str], headers: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    answered: dict[str, Any] = {
        "description": asked.answered,
        **({"headers": headers} if headers else {}),
        "content": {"application/json": {"schema": _ref(asked.output.__name__), "example": asked.answer}},
    }
    return {
        "200": answered,
        "401": {"$ref": "#/components/responses/Unauthorized"},
        "429": {"$ref": "#/components/responses/TooManyRequests"},
        **{
            status: {"$ref": f"#/components/responses/Problem{status}"}
            for status in _kinds_by_status()
            if status not in never
        },
    }


def _schemas() -> dict[str, Any]:
    models: dict[str, Any] = {
        **{model.__name__: model for command in _COMMANDS for model in (command.input, command.output)},
        **{query.output.__name__: query.output for query in _QUERIES},
        "Problem": Problem,
    }
    schemas: dict[str, Any] = {
        "GatewayMessage": {
            "type": "object",
            "description": "The body of API Gateway's own errors.",
            "properties": {"message": {"type": ["string", "null"]}},
            "required": ["message"],
        }
    }
    for name, model in models.items():
        schema = TypeAdapter(model).json_schema(ref_template=_SCHEMAS)
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    # The model covers body and header together. The body alone can lack the key.
    schemas["RecordUsageInput"]["required"].remove("idempotencyKey")
    # A record of a batch has no header, so its key is required.
    records = schemas["RecordUsagesInput"]["properties"]["records"]
    records["items"] = {"allOf": [_ref("RecordUsageInput")], "required": ["idempotencyKey"]}
    return {name: _without_titles(schema) for name, schema in schemas.items()}


def _ref(model: str) -> dict[str, str]:
    return {"$ref": _SCHEMAS.format(model=model)}


def _responses() -> dict[str, Any]:
    responses: dict[str, Any] = {
        "Unauthorized": {"description": _GATEWAY["401"], "content": _gateway_content()},
        "TooManyRequests": {"description": _GATEWAY["429"], "content": _gateway_content()},
    }
    for status, kinds in _kinds_by_status().items():
        codes = sorted({kind.code for _, kind in kinds})
        described = f"{_CAUSES[status]} Code: `{'` or `'.join(codes)}`."
        content: dict[str, Any] = {
            "application/problem+json": {
                "schema": {"allOf": [_ref("Problem"), {"oneOf": [_facts(*kind) for kind in kinds]}]},
                "examples": {name: {"value": body} for name, body in _examples(status)},
            }
        }
        if status in _GATEWAY:
            described += f"\n\n{_GATEWAY[status]}"
            content |= _gateway_content()
        responses[f"Problem{status}"] = {"description": described, "headers": _headers(status), "content": content}
    return responses


def _facts(error: type[errors.MeteringError] | None, kind: problems.Kind) -> dict[str, Any]:
    """Return the schema of the members that are equal in every problem of this kind."""
    required = ["issues"] if error and issubclass(error, errors.BadInput) else []
    required += ["retryAfter"] if error and issubclass(error, errors.Unavailable) else []
    facts = {
        "type": problems.type_of(kind),
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "category": kind.category,
        "severity": problems.severity_of(kind),
        "retryable": kind.retryable,
    }
    return {"properties": {name: {"const": fact} for name, fact in facts.items()}, "required": required}


def _gateway_content() -> dict[str, Any]:
    return {"application/json": {"schema": _ref("GatewayMessage")}}


def _headers(status: str) -> dict[str, Any]:
    headers = {"405": ("Allow", "The route's method."), "503": ("Retry-After", "Seconds to wait before a retry.")}
    if status not in headers:
        return {}
    name, description = headers[status]
    return {name: {"description": description, "schema": {"type": "string"}}}


def _kinds_by_status() -> dict[str, list[tuple[type[errors.MeteringError] | None, problems.Kind]]]:
    by_status: dict[str, list[tuple[type[errors.MeteringError] | None, problems.Kind]]] = {}
    for error, kind in [*problems.KINDS.items(), (None, problems.INTERNAL)]:
        by_status.setdefault(str(kind.status), []).append((error, kind))
    return dict(sorted(by_status.items()))


def _examples(of_status: str) -> Iterator[tuple[str, Problem]]:
    for error, operation in _errors():
        status, _, body = problems.problem(error, operation, _TRACE_ID)
        if str(status) == of_status:
            yield body["issues"][0]["code"] if isinstance(error, errors.BadRequest) else _cause(error), body


def _cause(error: Exception) -> str:
    # An unexpected error's name is internal. The causes of a Forbidden differ only in the detail.
    if not isinstance(error, errors.MeteringError):
        return "InternalError"
    if isinstance(error, errors.Forbidden) and "header" in str(error):
        return "AnotherOrganization"
    return "ScopeMissing" if "scope" in str(error) else type(error).__name__


def _errors() -> Iterator[tuple[Exception, Operation | None]]:
    """Yield an error of each cause. The code that checks for the cause raises most of the errors."""
    sent = Request("POST", RECORD_USAGE.path, {"content-type": "application/json"}, {}, "{}", is_base64=False, id="")
    as_text_plain = Request("POST", RECORD_USAGE.path, {"content-type": "text/plain"}, {}, "{}", is_base64=False, id="")
    too_large = " " * (RECORD_USAGE.max_body_bytes + 1)
    large = Request("POST", RECORD_USAGE.path, dict(sent.headers), {}, too_large, is_base64=False, id="")
    compressed = replace(sent, headers={**sent.headers, "content-encoding": "gzip"})
    rules = TokenRules()
    writing = replace(sent, claims={"scope": RECORD_USAGE.scope})
    for_any = replace(sent, claims={"scope": f"{RECORD_USAGE.scope} {caller.ANY_ORGANIZATION}"})
    for_another = replace(
        writing,
        claims={**writing.claims, rules.organization_claim: "demo-org"},
        headers={caller.ORGANIZATION_HEADER.lower(): "acme"},
    )
    asked = Request("GET", FEATURE_CHECK.path, {}, {}, None, is_base64=False, id="")
    elsewhere = Request("POST", "/nowhere", {}, {}, None, is_base64=False, id="")
    wrong: list[tuple[Callable[[], object], Operation | None]] = [
        (lambda: request.operation(elsewhere), None),
        (lambda: strict_json.parse_object("{"), RECORD_USAGE),
        (lambda: strict_json.parse_object('{"quantity":1,"quantity":2}'), RECORD_USAGE),
        (lambda: strict_json.parse_object('{"quantity":NaN}'), RECORD_USAGE),
        (lambda: request.with_idempotency_key({"feature": "api_calls", "quantity": 1}, sent), RECORD_USAGE),
        (lambda: request.with_idempotency_key({}, replace(sent, headers={"idempotency-key": "k-1,k-1"})), RECORD_USAGE),
        (lambda: request.without_idempotency_key(replace(sent, headers={"idempotency-key": "abc-123"})), RECORD_USAGES),
        (lambda: request.parameters(replace(asked, query="feature=a&feature=b")), FEATURE_CHECK),
        (lambda: request.parameters(replace(asked, query="feature=%")), FEATURE_CHECK),
        (lambda: request.parameters(replace(asked, body="{}")), FEATURE_CHECK),
        (lambda: caller.authorize(sent, RECORD_USAGE.scope, rules), RECORD_USAGE),
        (lambda: caller.authorize(writing, RECORD_USAGE.scope, rules), RECORD_USAGE),
        (lambda: caller.authorize(for_any, RECORD_USAGE.scope, rules), RECORD_USAGE),
        (lambda: caller.authorize(for_another, RECORD_USAGE.scope, rules), RECORD_USAGE),
        (lambda: request.members(large, RECORD_USAGE.max_body_bytes), RECORD_USAGE),
        (lambda: request.members(as_text_plain, RECORD_USAGE.max_body_bytes), RECORD_USAGE),
        (lambda: request.members(compressed, RECORD_USAGE.max_body_bytes), RECORD_USAGE),
        (lambda: request.members(replace(sent, body="\ufeff{}"), RECORD_USAGE.max_body_bytes), RECORD_USAGE),
    ]
    for attempt, operation in wrong:
        try:
            attempt()
        except errors.InvalidRequest as invalid:
            yield invalid, operation
    yield _invalid({**_INPUT, "quantity": "1", "organizationId": "acme"}), RECORD_USAGE
    yield errors.OrganizationInactive(), RECORD_USAGE
    yield errors.OrganizationUnknown("acme"), RECORD_USAGE
    yield errors.SubscriptionUnknown(["planName", "currentPeriodEnd"]), SUBSCRIPTION_GET
    yield errors.UsageUnknown(), USAGE_GET
    yield errors.MethodNotAllowed(RECORD_USAGE.method), None
    yield errors.KeyReused(), RECORD_USAGE
    yield RuntimeError(), RECORD_USAGE
    yield errors.Unavailable(retry_after_s=1), RECORD_USAGE


def _security_schemes() -> dict[str, Any]:
    return {
        "oauth2": {
            "type": "oauth2",
            "description": "A token of the deployment environment's issuer. Its claim `scope` or `scp` contains the "
            "scopes, as a text separated by spaces or as a list. A scope can have the prefix that the deployment "
            "environment sets, as in `metering/usage:write`.",
            "flows": {
                "clientCredentials": {
                    "tokenUrl": "https://issuer.example/oauth2/token",
                    "scopes": _scopes(),
                }
            },
        }
    }


def _scopes() -> dict[str, str]:
    keys: dict[str, list[str]] = {}
    for operation in operations.OPERATIONS.values():
        keys.setdefault(operation.scope, []).append(operation.key)
    scopes = {scope: f"Call {', '.join(found)}." for scope, found in keys.items()}
    any_organization = f"Act for the organization that the header {caller.ORGANIZATION_HEADER} names."
    return scopes | {caller.ANY_ORGANIZATION: any_organization}


def _without_titles(schema: Any) -> Any:
    # pydantic's titles only repeat the members' names.
    if isinstance(schema, dict):
        return {
            name: _without_titles(value)
            for name, value in schema.items()
            if name != "title" or not isinstance(value, str)
        }
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    raise SystemExit(main())
