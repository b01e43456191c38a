"""The API's OpenAPI document, made from the operations, models and problems that the functions themselves use.

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
    USAGE_SUMMARY,
    Operation,
)
from metering.http.request import Request
from metering.model import errors
from metering.model.names import ORGANIZATION_NAME_PATTERN
from pydantic import TypeAdapter

from tools import api_reference, output

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"

# What API Gateway may answer by itself, with a body of its own.
_GATEWAY = {
    "401": "No valid token. Answered by API Gateway.",
    "413": "more than API Gateway takes at all.",
    "429": "Throttled: send the same again later. Answered by API Gateway.",
    "500": "the function could not be run; send the same again.",
    "503": "the function could not be run; send the same again.",
}

_TRACE_ID = "AbC1dEfGoAMEJrg="
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
    """What the document says of a command beside its operation."""

    operation: Operation
    input: Any
    output: Any
    sent: Mapping[str, Any]
    """Examples of its body, as OpenAPI has them."""
    answered: str
    answer: Any
    """What may be answered."""
    headers: Sequence[Any] = ()
    """What it takes beside its body."""
    answer_headers: Mapping[str, Any] = field(default_factory=dict)


_ORGANIZATION = {
    "name": caller.ORGANIZATION_HEADER,
    "in": "header",
    "description": f"The organization to act for: required with the scope `{caller.ANY_ORGANIZATION}`. Without it, the "
    "organization is the token's, and a header that names another is forbidden.",
    "schema": {"type": "string", "pattern": f"^{ORGANIZATION_NAME_PATTERN}$"},
}
_NO_INTEGER = errors.Issue("quantity", "int_type", "Input should be a valid integer")


def _problem_of_record(error: Exception) -> Problem:
    return problems.problem(error, RECORD_USAGES, _TRACE_ID)[2]


_COMMANDS = (
    _Command(
        RECORD_USAGE,
        models.RecordUsageInput,
        models.RecordUsageOutput,
        {
            "smallest": {"summary": "The contract's example", "value": _INPUT},
            "everything": {"summary": "Every member", "value": _EVERY_MEMBER},
        },
        "The usage is counted.",
        {"recorded": True, "currentUsage": 100, "limitReached": False},
        [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The idempotency key, plain or as a quoted structured-field string; instead of "
                "`idempotencyKey` in the body, or equal to it. A key that holds a comma must be quoted here: "
                "a plain value with a comma is invalid, because a header that was sent twice arrives like that.",
                "schema": {"type": "string", "pattern": r'^([\x20-\x2b\x2d-\x7e]{1,512}|"[\x20-\x7e]{1,510}")$'},
            }
        ],
        {
            "Idempotent-Replayed": {
                "description": "`true` if an earlier request recorded it.",
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
        "What became of each record.",
        {
            "results": [
                {"index": 0, "status": "recorded", "currentUsage": 101, "limitReached": False},
                {"index": 1, "status": "replayed", "currentUsage": 101, "limitReached": False},
                {"index": 2, "status": "refused", "currentUsage": 990, "limit": 1000, "limitReached": True},
                {"index": 3, "status": "conflict", "problem": _problem_of_record(errors.KeyReused())},
                {
                    "index": 4,
                    "status": "invalid",
                    "problem": _problem_of_record(errors.InputInvalid([_NO_INTEGER])),
                },
                {"index": 5, "status": "unavailable", "problem": _problem_of_record(errors.Unavailable(1))},
            ],
            "totals": {"recorded": 1, "replayed": 1, "refused": 1, "conflict": 1, "invalid": 1, "unavailable": 1},
        },
    ),
)


@dataclass(frozen=True)
class _Query:
    """What the document says of a query beside its operation."""

    operation: Operation
    tag: str
    input: Any
    output: Any
    answered: str
    asked: Mapping[str, str]
    """An example of each parameter."""
    answer: Any
    """What is answered to it."""


_QUERIES = (
    _Query(
        USAGE_SUMMARY,
        "usage",
        models.UsageSummaryInput,
        models.UsageSummaryOutput,
        "What was used.",
        {"billingPeriod": "2026-11", "period": "2026-11"},
        {
            "billingPeriod": "2026-11",
            "usage": [
                {"feature": "api_calls", "used": 450, "limit": 1000, "unit": "calls", "percentage": 45.0},
                {"feature": "exports", "used": 7},
            ],
        },
    ),
    _Query(
        FEATURE_CHECK,
        "features",
        models.FeatureCheckInput,
        models.FeatureCheckOutput,
        "Whether there is access, and why.",
        {"feature": "api_calls"},
        {"hasAccess": False, "reason": "limit_reached", "upgradeUrl": "https://example.com/upgrade"},
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
        "The stored record: it counted.",
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
)

# What no operation answers: it belongs to another method.
_NOT_OF_COMMANDS = {"405"}
# What belongs to a body.
_NOT_OF_QUERIES = {*_NOT_OF_COMMANDS, "413", "415"}


def document() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "usage-metering",
            "version": RECORD_USAGE.version,
            "summary": "Records the usage of metered features: nothing lost, nothing counted twice. And tells it.",
            "description": "The organization is a claim of the caller's token (`org_id`, unless the environment names "
            f"another). A backend that records for many organizations has the scope `{caller.ANY_ORGANIZATION}` "
            f"instead, and names one in the header `{caller.ORGANIZATION_HEADER}`. Every error of ours is a problem "
            "(RFC 9457) with a stable `code`. An unknown route is `NOT_FOUND`; another method on a known one is "
            "`METHOD_NOT_ALLOWED`. What API Gateway answers itself has its own body.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {
                "url": "https://{api}.execute-api.{region}.amazonaws.com",
                "description": "The output Url of the stack usage-metering-<environment>-service",
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
    """The document as it is published."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _command(command: _Command) -> dict[str, Any]:
    return {
        **_described(command.operation, "usage"),
        "parameters": [*command.headers, _ORGANIZATION],
        "requestBody": {
            "required": True,
            "description": f"At most {command.operation.max_body_bytes} bytes of strict JSON in UTF-8.",
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
            "description": "API Gateway's own body.",
            "properties": {"message": {"type": ["string", "null"]}},
            "required": ["message"],
        }
    }
    for name, model in models.items():
        schema = TypeAdapter(model).json_schema(ref_template=_SCHEMAS)
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    # The model is of the body and the header together; in the body alone the key may be missing.
    schemas["RecordUsageInput"]["required"].remove("idempotencyKey")
    # Whereas a record of a batch has no header of its own.
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
        described = " or ".join(sorted({kind.title for _, kind in kinds})) + f": {', '.join(codes)}."
        content: dict[str, Any] = {
            "application/problem+json": {
                "schema": {"allOf": [_ref("Problem"), {"oneOf": [_facts(*kind) for kind in kinds]}]},
                "examples": {name: {"value": body} for name, body in _examples(status)},
            }
        }
        if status in _GATEWAY:
            described += f" Or, as API Gateway's own message: {_GATEWAY[status]}"
            content |= _gateway_content()
        responses[f"Problem{status}"] = {"description": described, "headers": _headers(status), "content": content}
    return responses


def _facts(error: type[errors.MeteringError] | None, kind: problems.Kind) -> dict[str, Any]:
    """What is the same in every problem of this kind."""
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
    headers = {"405": ("Allow", "The method that the route answers."), "503": ("Retry-After", "Seconds to wait.")}
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
    # An unforeseen error has no name that anybody may know; of what is forbidden, the detail says more than the class.
    if not isinstance(error, errors.MeteringError):
        return "InternalError"
    if isinstance(error, errors.Forbidden) and "header" in str(error):
        return "AnotherOrganization"
    return "ScopeMissing" if "scope" in str(error) else type(error).__name__


def _errors() -> Iterator[tuple[Exception, Operation | None]]:
    """One error for each thing that can be wrong, most of them by doing it wrong."""
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
        (lambda: models.record_usage_input({**_INPUT, "quantity": "1", "organizationId": "acme"}), RECORD_USAGE),
    ]
    for attempt, operation in wrong:
        try:
            attempt()
        except errors.InvalidRequest as invalid:
            yield invalid, operation
    yield errors.OrganizationInactive(), RECORD_USAGE
    yield errors.OrganizationUnknown(), RECORD_USAGE
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
            "description": "A token of the environment's issuer. Its scopes are in the claim `scope` or `scp`, as a "
            "text separated by spaces or as a list. Each may have the one prefix that the environment names, as in "
            "`metering/usage:write`.",
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
    scopes = {scope: f"for {', '.join(found)}" for scope, found in keys.items()}
    return scopes | {caller.ANY_ORGANIZATION: f"for the organization that {caller.ORGANIZATION_HEADER} names"}


def _without_titles(schema: Any) -> Any:
    # pydantic repeats each member's name as its title.
    if isinstance(schema, dict):
        return {
            name: _without_titles(value)
            for name, value in schema.items()
            if name != "title" or not isinstance(value, str)
        }
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    raise SystemExit(main())
