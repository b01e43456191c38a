"""The wire: the operations that are served, and the models of what they take and answer.

Members have the contract's own spelling. A model is a TypedDict, so that a member which was not sent is absent
rather than null: null is no value of any member.
"""

from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    NotRequired,  # pydantic needs this one before Python 3.12
)

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from metering import json_text
from metering.errors import InputInvalid, Issue
from metering.items import FEATURE_PATTERN, KEY_PATTERN, MAX_QUANTITY

MAX_METADATA_BYTES = 4 * 1024
MAX_METADATA_DEPTH = 8
# A body of a thousand unknown members is one mistake, not a thousand.
MAX_ISSUES = 50


@dataclass(frozen=True)
class Operation:
    """A contract operation: its key, version and kind, and the scope that a token needs for it."""

    key: str
    version: str
    kind: str
    scope: str
    max_body_bytes: int
    title: str
    description: str

    @property
    def method(self) -> str:
        """Commands change something, queries do not."""
        return "POST" if self.kind == "command" else "GET"

    @property
    def path(self) -> str:
        """The canonical REST route: the key with its dots as slashes, then the version."""
        return f"/{self.key.replace('.', '/')}/v{self.version}"


RECORD_USAGE = Operation(
    "saas.billing.usage.record",
    "1.0.0",
    "command",
    scope="usage:write",
    max_body_bytes=16 * 1024,
    title="Record usage of a metered feature.",
    description="Counts the usage once, however often it is sent with the same idempotency key, and publishes "
    "`billing.usage.recorded` for it. Send the same request again until it is answered: a replay counts nothing, "
    "answers the present total of the record's own billing period, and says so with the header "
    "`Idempotent-Replayed: true`. The same members in another order are the same request; other content under a used "
    "key is refused. The organization is the one of the token.",
)

OPERATIONS = {operation.path: operation for operation in (RECORD_USAGE,)}


def _fits(metadata: dict[str, Any]) -> dict[str, Any]:
    # Depth first: writing out an object deeper than Python's stack would fail.
    if json_text.depth(metadata) > MAX_METADATA_DEPTH:
        raise PydanticCustomError("nested_too_deep", f"Metadata may be nested at most {MAX_METADATA_DEPTH} deep")
    if len(json_text.compact(metadata).encode()) > MAX_METADATA_BYTES:
        raise PydanticCustomError("too_long", f"Metadata may have at most {MAX_METADATA_BYTES} bytes as compact JSON")
    return metadata


Feature = Annotated[str, Field(pattern=f"^{FEATURE_PATTERN}$", description="The metered feature, case kept.")]
Quantity = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_QUANTITY,
        description="How much of the feature was used. Never with a fraction or an exponent, 1.0 included.",
    ),
]
IdempotencyKey = Annotated[
    str,
    Field(
        pattern=f"^{KEY_PATTERN}$",
        description="Names this usage within the organization, so that a retry counts once. "
        "Required here or as the Idempotency-Key header.",
    ),
]
Source = Annotated[str, Field(max_length=255)]
Metadata = Annotated[
    dict[str, Any],
    AfterValidator(_fits),
    Field(
        description=f"The caller's own: at most {MAX_METADATA_BYTES} bytes as compact UTF-8, nested at most "
        f"{MAX_METADATA_DEPTH} deep, itself included."
    ),
]


@with_config(ConfigDict(strict=True, extra="forbid"))
class RecordUsageInput(TypedDict):
    """What `saas.billing.usage.record` takes. The organization is never in it: it comes from the identity."""

    feature: Feature
    quantity: Quantity
    idempotencyKey: IdempotencyKey
    sourceId: NotRequired[Annotated[Source, Field(description="What caused the usage, e.g. a request id.")]]
    sourceType: NotRequired[Annotated[Source, Field(description="What kind of thing sourceId names.")]]
    metadata: NotRequired[Metadata]


class RecordUsageOutput(TypedDict):
    """What `saas.billing.usage.record` answers."""

    recorded: Annotated[bool, Field(description="Whether the usage stands in the books, by this request or before.")]
    currentUsage: Annotated[
        int,
        Field(
            description="The organization's usage of this feature in the record's billing period (the UTC month in "
            "which it was recorded), this record included. On a replay it is the present total of that period."
        ),
    ]
    limitReached: Annotated[bool, Field(description="Whether the plan's limit is reached.")]
    limit: NotRequired[Annotated[int, Field(description="The plan's limit, where it has one.")]]


class IssueFound(TypedDict):
    """One thing that is wrong with the input."""

    path: Annotated[str, Field(description="Where: members joined by dots; empty for the input as a whole.")]
    code: Annotated[str, Field(description="Stable, for programs.")]
    message: Annotated[str, Field(description="For people: what to do.")]


class OperationMatched(TypedDict):
    """The operation that the request was for."""

    key: str
    version: str
    kind: str


class Problem(TypedDict):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    code: Annotated[str, Field(description="Stable, for programs.")]
    detail: Annotated[str, Field(description="For people: what happened and what to do.")]
    category: str
    severity: Annotated[str, Field(description="`warning` below 500, else `error`.")]
    retryable: Annotated[bool, Field(description="Whether the same request may succeed later.")]
    traceId: Annotated[str, Field(description="Finds the request in our logs.")]
    operation: NotRequired[OperationMatched]
    issues: NotRequired[list[IssueFound]]
    retryAfter: NotRequired[Annotated[int, Field(description="Seconds, as in the header Retry-After.")]]


_RECORD_USAGE_INPUT = TypeAdapter(RecordUsageInput)


def record_usage_input(members: dict[str, Any]) -> RecordUsageInput:
    """The members of a request as a valid input.

    Raises:
        InputInvalid: with one issue for everything that is wrong, up to 50.
    """
    try:
        return _RECORD_USAGE_INPUT.validate_python(members)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_ISSUES]
    raise InputInvalid([Issue(".".join(map(str, issue["loc"])), issue["type"], issue["msg"]) for issue in found])
