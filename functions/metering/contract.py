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


@dataclass(frozen=True)
class Operation:
    """A contract operation: its key, version and kind, and the scope that a token needs for it."""

    key: str
    version: str
    kind: str
    scope: str
    max_body_bytes: int

    @property
    def method(self) -> str:
        """Commands change something, queries do not."""
        return "POST" if self.kind == "command" else "GET"

    @property
    def path(self) -> str:
        """The canonical REST route: the key with its dots as slashes, then the version."""
        return f"/{self.key.replace('.', '/')}/v{self.version}"


RECORD_USAGE = Operation("saas.billing.usage.record", "1.0.0", "command", "usage:write", max_body_bytes=16 * 1024)

OPERATIONS = {operation.path: operation for operation in (RECORD_USAGE,)}


def _fits(metadata: dict[str, Any]) -> dict[str, Any]:
    # Depth first: writing out an object deeper than Python's stack would fail.
    if json_text.depth(metadata) > MAX_METADATA_DEPTH:
        raise PydanticCustomError("nested_too_deep", f"Metadata may be nested at most {MAX_METADATA_DEPTH} deep")
    if len(json_text.compact(metadata).encode()) > MAX_METADATA_BYTES:
        raise PydanticCustomError("too_long", f"Metadata may have at most {MAX_METADATA_BYTES} bytes as compact JSON")
    return metadata


Feature = Annotated[str, Field(pattern=f"^{FEATURE_PATTERN}$", description="The metered feature, case kept.")]
Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY, description="How much of the feature was used.")]
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
    Field(description="The caller's own: at most 4 KiB as compact UTF-8, nested at most 8 deep."),
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

    recorded: bool
    currentUsage: int
    limitReached: bool
    limit: NotRequired[int]


_RECORD_USAGE_INPUT = TypeAdapter(RecordUsageInput)


def record_usage_input(members: dict[str, Any]) -> RecordUsageInput:
    """The members of a request as a valid input.

    Raises:
        InputInvalid: with one issue for everything that is wrong.
    """
    try:
        return _RECORD_USAGE_INPUT.validate_python(members)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    raise InputInvalid([Issue(".".join(map(str, issue["loc"])), issue["type"], issue["msg"]) for issue in found])
