"""The contract as tables: the input and output of every operation, the payload of every event, and every problem.

Written by hand from the contract alone, so that the tests can compare the code with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from tests.testing.payloads import example

Schema: TypeAlias = Mapping[str, Any]

# --- when a field is present -----------------------------------------------------------------------------------------

ALWAYS = "always"
IF_SENT = "if it was sent"
# For an input: required, in the body or in the header.
HERE_OR_AS_HEADER = "here or as the Idempotency-Key header"
# For an output: clients must not rely on the field, but every answer has it.
THOUGH_OPTIONAL = "always, though the contract says optional"
# For an input or an event: the sender may omit it.
OPTIONAL = "optional"

REQUIRED = (ALWAYS, HERE_OR_AS_HEADER)


@dataclass(frozen=True)
class Field:
    name: str
    schema: Schema
    """The JSON Schema of the value."""
    when: str = ALWAYS
    """When the field is present. For an output, the situation in which it is."""
    parts: tuple["Field", ...] = ()
    """The fields of an object, or of each object in a list."""
    never: tuple[Any, ...] = ()
    """Values that the schema accepts and the contract does not."""


# --- types -----------------------------------------------------------------------------------------------------------

STRING = {"type": "string"}
BOOLEAN = {"type": "boolean"}
INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}
OBJECT = {"type": "object"}
LIST = {"type": "array"}

MOMENT = {"type": "string", "format": "date-time"}
URL = {"type": "string", "format": "uri"}
ORGANIZATION = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
FEATURE = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"}
QUANTITY = {"type": "integer", "minimum": 1, "maximum": 1_000_000_000}
PAGE_SIZE = {"type": "integer", "minimum": 1, "maximum": 1000}
KEY = {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$"}
SOURCE = {"type": "string", "maxLength": 255}
PERIOD = {"type": "string", "pattern": "^[1-9][0-9]{3}-(0[1-9]|1[0-2])$"}
ASKED_PERIOD = {"type": "string", "pattern": "^([1-9][0-9]{3}-(0[1-9]|1[0-2])|current)$"}
BY = {"type": "string", "const": "day"}
DATE = {"type": "string", "format": "date"}
REASON = {"type": "string", "enum": ["included", "limit_available", "limit_reached", "not_in_plan"]}
STATUS = {"type": "string", "enum": ["TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "PAUSED"]}
# The contract types this field of the event as any text.
STATUS_IN_ANY_CASE = {"type": "string", "pattern": "^(?i:TRIALING|ACTIVE|PAST_DUE|CANCELED|PAUSED)$"}

# The contract allows 4 KiB of compact UTF-8 and 8 levels. These values have one byte and one level more.
_TOO_LARGE = {"a": "x" * (4 * 1024 + 1 - len('{"a":""}'))}
_TOO_DEEP: dict[str, Any] = {"1": {"2": {"3": {"4": {"5": {"6": {"7": {"8": {}}}}}}}}}

# --- the body of a problem -------------------------------------------------------------------------------------------

PROBLEM = (
    Field("type", STRING),
    Field("title", STRING),
    Field("status", INTEGER),
    Field("code", STRING),
    Field("detail", STRING),
    Field("category", STRING),
    Field("severity", STRING),
    Field("retryable", BOOLEAN),
    Field("traceId", STRING),
    Field(
        "operation",
        OBJECT,
        "when one was matched",
        parts=(Field("key", STRING), Field("version", STRING), Field("kind", STRING)),
    ),
    Field(
        "issues",
        LIST,
        "for bad input",
        parts=(Field("path", STRING), Field("code", STRING), Field("message", STRING)),
    ),
    Field("retryAfter", INTEGER, "where it applies"),
)

# --- operations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """One operation, version 1.0.0."""

    key: str
    kind: str
    route: str
    scope: str
    input: tuple[Field, ...]
    output: tuple[Field, ...]

    @property
    def name(self) -> str:
        """The key without the prefix that all operations share."""
        return self.key.removeprefix("saas.billing.")


_RECORD_INPUT = (
    Field("feature", FEATURE),
    Field("quantity", QUANTITY),
    Field("idempotencyKey", KEY, HERE_OR_AS_HEADER),
    Field("sourceId", SOURCE, OPTIONAL),
    Field("sourceType", SOURCE, OPTIONAL),
    Field("metadata", OBJECT, OPTIONAL, never=(_TOO_LARGE, _TOO_DEEP)),
)

# One header cannot hold the keys of several records.
RECORD_OF_A_BATCH = tuple(
    replace(each, when=ALWAYS) if each.when == HERE_OR_AS_HEADER else each for each in _RECORD_INPUT
)
_STORED_RECORD = (
    Field("idempotencyKey", STRING),
    Field("feature", STRING),
    Field("quantity", INTEGER),
    Field("billingPeriod", STRING),
    Field("recordedAt", MOMENT),
    Field("eventId", STRING),
    Field("sourceId", STRING, IF_SENT),
    Field("sourceType", STRING, IF_SENT),
    Field("metadata", OBJECT, IF_SENT),
)
STATUSES = ("recorded", "replayed", "refused", "conflict", "invalid", "unavailable")

OPERATIONS = (
    Operation(
        key="saas.billing.usage.record",
        kind="command",
        route="POST /saas/billing/usage/record/v1.0.0",
        scope="usage:write",
        input=_RECORD_INPUT,
        output=(
            Field("recorded", BOOLEAN),
            Field("currentUsage", INTEGER),
            Field("limitReached", BOOLEAN),
            Field("limit", INTEGER, "when the plan has one"),
        ),
    ),
    Operation(
        key="saas.billing.usage.record-batch",
        kind="command",
        route="POST /saas/billing/usage/record-batch/v1.0.0",
        scope="usage:write",
        input=(Field("records", {**LIST, "minItems": 1, "maxItems": 100}, parts=RECORD_OF_A_BATCH),),
        output=(
            Field(
                "results",
                LIST,
                parts=(
                    Field("index", INTEGER),
                    Field("status", {"type": "string", "enum": list(STATUSES)}),
                    Field("currentUsage", INTEGER, "when it is known"),
                    Field("limit", INTEGER, "when the plan has one"),
                    Field("limitReached", BOOLEAN, "when it is known"),
                    Field("problem", OBJECT, "when a single record would have been answered with one", parts=PROBLEM),
                ),
            ),
            Field("totals", OBJECT, parts=tuple(Field(status, INTEGER) for status in STATUSES)),
        ),
    ),
    Operation(
        key="saas.billing.usage.summary",
        kind="query",
        route="GET /saas/billing/usage/summary/v1.0.0",
        scope="usage:read",
        input=(
            Field("billingPeriod", ASKED_PERIOD, OPTIONAL),
            Field("period", ASKED_PERIOD, OPTIONAL),
            Field("by", BY, OPTIONAL),
        ),
        output=(
            Field("billingPeriod", STRING),
            Field("periodStart", MOMENT),
            Field("periodEnd", MOMENT),
            Field(
                "usage",
                LIST,
                parts=(
                    Field("feature", STRING),
                    Field("used", INTEGER),
                    Field("limit", INTEGER, "when there is a limit"),
                    Field("unit", STRING, "when the plan names one"),
                    Field("percentage", NUMBER, "when there is a limit"),
                    Field("days", LIST, "with by=day", parts=(Field("date", DATE), Field("used", INTEGER))),
                ),
            ),
        ),
    ),
    Operation(
        key="saas.billing.feature.check",
        kind="query",
        route="GET /saas/billing/feature/check/v1.0.0",
        scope="usage:read",
        input=(Field("feature", FEATURE), Field("quantity", QUANTITY, OPTIONAL)),
        output=(
            Field("hasAccess", BOOLEAN),
            Field("reason", REASON, THOUGH_OPTIONAL),
            Field("upgradeUrl", URL, "when access is denied and the plan has one"),
            Field("used", INTEGER, "when a limit decides"),
            Field("limit", INTEGER, "when a limit decides"),
            Field("remaining", INTEGER, "when a limit decides"),
            Field("resetsAt", MOMENT, "when a limit decides"),
        ),
    ),
    Operation(
        key="saas.billing.subscription.get",
        kind="query",
        route="GET /saas/billing/subscription/get/v1.0.0",
        scope="usage:read",
        input=(),
        output=(
            Field("id", STRING),
            Field("organizationId", STRING),
            Field("planId", STRING),
            Field("planName", STRING),
            Field("status", STATUS),
            Field("currentPeriodStart", MOMENT),
            Field("currentPeriodEnd", MOMENT),
            Field("trialEndsAt", MOMENT, "when there is a trial"),
            Field("cancelAtPeriodEnd", BOOLEAN),
        ),
    ),
    Operation(
        key="saas.billing.usage.get",
        kind="query",
        route="GET /saas/billing/usage/get/v1.0.0",
        scope="usage:read",
        input=(Field("idempotencyKey", KEY),),
        output=_STORED_RECORD,
    ),
    Operation(
        key="saas.billing.usage.list",
        kind="query",
        route="GET /saas/billing/usage/list/v1.0.0",
        scope="usage:read",
        input=(
            Field("billingPeriod", PERIOD, OPTIONAL),
            Field("feature", FEATURE, OPTIONAL),
            Field("pageSize", PAGE_SIZE, OPTIONAL),
            Field("cursor", STRING, OPTIONAL),
        ),
        output=(
            Field("records", LIST, parts=_STORED_RECORD),
            Field("nextCursor", STRING, "when the list continues"),
        ),
    ),
)

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """One event, version 1.0.0, with the fields of its envelope's `payload`."""

    key: str
    payload: tuple[Field, ...]


ENVELOPE = (
    Field("id", STRING),
    Field("occurredAt", MOMENT),
    Field("traceId", STRING, "when a request led to it"),
    Field("key", STRING),
    Field("version", STRING),
    Field("payload", OBJECT),
)

_LIMIT = (
    Field("organizationId", ORGANIZATION),
    Field("feature", FEATURE),
    Field("limit", INTEGER),
    Field("currentUsage", INTEGER),
    Field("reachedAt", MOMENT),
)

PUBLISHED = (
    Event(
        "billing.usage.recorded",
        (
            Field("organizationId", ORGANIZATION),
            Field("feature", FEATURE),
            Field("quantity", QUANTITY),
            Field("billingPeriod", PERIOD),
            Field("recordedAt", MOMENT),
            Field("idempotencyKey", KEY),
            Field("sourceId", SOURCE, OPTIONAL),
            Field("sourceType", SOURCE, OPTIONAL),
            Field("metadata", OBJECT, OPTIONAL),
        ),
    ),
    Event("billing.limit.reached", _LIMIT),
    Event("billing.limit.approaching", (*_LIMIT, Field("percentage", INTEGER))),
)

CONSUMED = (
    Event(
        "billing.subscription.changed",
        (
            Field("organizationId", ORGANIZATION),
            Field("previousPlan", STRING, OPTIONAL),
            Field("newPlan", STRING),
            Field("previousStatus", STATUS, OPTIONAL),
            Field("newStatus", STATUS_IN_ANY_CASE),
            Field("changedAt", MOMENT),
            Field("subscriptionId", STRING, OPTIONAL),
            Field("planName", STRING, OPTIONAL),
            Field("currentPeriodStart", MOMENT, OPTIONAL),
            Field("currentPeriodEnd", MOMENT, OPTIONAL),
            Field("trialEndsAt", MOMENT, OPTIONAL),
            Field("cancelAtPeriodEnd", BOOLEAN, OPTIONAL),
        ),
    ),
    # The identity module sends these. `organizationId` means the same as `orgId`, and one of the two is enough.
    Event(
        "org.created",
        (
            Field("orgId", ORGANIZATION),
            Field("name", STRING, OPTIONAL),
            Field("slug", STRING, OPTIONAL),
            Field("createdBy", STRING, OPTIONAL),
            Field("createdAt", MOMENT),
        ),
    ),
    Event(
        "org.deleted",
        (
            Field("orgId", ORGANIZATION),
            Field("name", STRING, OPTIONAL),
            Field("deletedBy", STRING, OPTIONAL),
            Field("deletedAt", MOMENT),
        ),
    ),
)

# --- problems --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    status: int
    code: str
    category: str
    retryable: bool
    causes: tuple[str, ...]
    optional: frozenset[str] = frozenset({"operation"})
    """The optional members of its body."""
    header: str | None = None
    """The header of its answer beside `Content-Type`."""


_WITH_ISSUES = frozenset({"operation", "issues"})

PROBLEMS = (
    Problem(
        400,
        "BAD_REQUEST",
        "validation",
        retryable=False,
        causes=(
            "not JSON",
            "not an object",
            "empty",
            "not UTF-8",
            "a duplicate member",
            "NaN",
            "Infinity",
            "missing idempotency key",
            "header and body keys differ",
            "an Idempotency-Key header sent twice",
            "a quoted Idempotency-Key header sent twice",
            "a batch with an Idempotency-Key header",
            "a malformed cursor",
            "another organization's cursor",
            "another filter's cursor",
        ),
        optional=_WITH_ISSUES,
    ),
    Problem(
        403,
        "FORBIDDEN",
        "auth",
        retryable=False,
        causes=(
            "no organization in the identity",
            "a malformed organization in the identity",
            "missing scope",
            "organization inactive",
        ),
    ),
    Problem(404, "NOT_FOUND", "not_found", retryable=False, causes=("organization unknown", "record unknown")),
    Problem(404, "NOT_FOUND", "not_found", retryable=False, causes=("route unknown",), optional=frozenset()),
    Problem(
        405,
        "METHOD_NOT_ALLOWED",
        "validation",
        retryable=False,
        causes=("another method",),
        optional=frozenset(),
        header="Allow",
    ),
    Problem(
        413,
        "BAD_REQUEST",
        "validation",
        retryable=False,
        causes=("a body over 16 KiB", "a batch over 1 MiB"),
        optional=_WITH_ISSUES,
    ),
    Problem(
        415,
        "BAD_REQUEST",
        "validation",
        retryable=False,
        causes=("not application/json", "Content-Type sent twice"),
        optional=_WITH_ISSUES,
    ),
    Problem(
        422,
        "VALIDATION_FAILED",
        "validation",
        retryable=False,
        causes=("well-formed JSON that breaks the model",),
        optional=_WITH_ISSUES,
    ),
    Problem(422, "IDEMPOTENCY_KEY_REUSED", "conflict", retryable=False, causes=("same key, other content",)),
    Problem(500, "INTERNAL_ERROR", "internal", retryable=False, causes=("our mistake",)),
    Problem(
        503,
        "SERVICE_UNAVAILABLE",
        "dependency",
        retryable=True,
        causes=("store throttled", "contention outlasted the deadline"),
        optional=frozenset({"operation", "retryAfter"}),
        header="Retry-After",
    ),
)

BY_KEY = {operation.name: operation for operation in OPERATIONS}

# The smallest valid input of every operation.
LEAST: Mapping[str, dict[str, Any]] = {
    "usage.record": example(),
    "usage.record-batch": {"records": [example()]},
    "usage.summary": {},
    "feature.check": {"feature": "api_calls"},
    "subscription.get": {},
    "usage.get": {"idempotencyKey": "abc-123"},
    "usage.list": {},
}
