"""The models of what the operations take and answer.

Members have the contract's own spelling. A model is a TypedDict, so that a member which was not sent is absent
rather than null: null is no value of any member.
"""

from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic needs this one before Python 3.12
    TypeAlias,
    TypeVar,
)

from pydantic import AfterValidator, ConfigDict, Field, SkipValidation, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from metering.http import strict_json
from metering.http.operations import MAX_ISSUES, MAX_RECORDS
from metering.model.errors import InputInvalid, Issue
from metering.model.names import FEATURE_PATTERN, KEY_PATTERN
from metering.model.organizations import SubscriptionStatus
from metering.model.periods import BILLING_PERIOD_PATTERN
from metering.model.plans import AccessReason
from metering.model.usage import MAX_QUANTITY

T = TypeVar("T")

MAX_METADATA_BYTES = 4 * 1024
MAX_METADATA_DEPTH = 8


def _fits(metadata: dict[str, Any]) -> dict[str, Any]:
    # Depth first: writing out an object deeper than Python's stack would fail.
    if strict_json.depth(metadata) > MAX_METADATA_DEPTH:
        raise PydanticCustomError("nested_too_deep", f"Metadata may be nested at most {MAX_METADATA_DEPTH} deep")
    if len(strict_json.compact(metadata).encode()) > MAX_METADATA_BYTES:
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
        "Required here or as the Idempotency-Key header, where a key that holds a comma must be quoted.",
    ),
]
AskedPeriod = Annotated[str, Field(pattern=f"^({BILLING_PERIOD_PATTERN}|current)$")]
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

    recorded: Annotated[bool, Field(description="Whether the usage is counted, by this request or an earlier one.")]
    currentUsage: Annotated[
        int,
        Field(
            description="The organization's usage of this feature in the record's billing period (the UTC month in "
            "which it was recorded), this record included. On a replay it is the present total of that period. A "
            "counter that is so busy that it stands on several pages is summed about once a second: what others have "
            "recorded in the last second or two may then be missing here. Hard limits, events and queries are exact."
        ),
    ]
    limitReached: Annotated[
        bool,
        Field(description="Whether the total is at the plan's limit, or this usage was refused as it does not fit."),
    ]
    limit: NotRequired[Annotated[int, Field(description="The plan's limit, where it has one.")]]


@with_config(ConfigDict(strict=True, extra="forbid"))
class RecordUsagesInput(TypedDict):
    """What `saas.billing.usage.record-batch` takes."""

    # Each is held against its model by itself, so that one which breaks it does not take the others with it.
    records: Annotated[
        list[SkipValidation[RecordUsageInput]],
        Field(
            min_length=1,
            max_length=MAX_RECORDS,
            description="Each as record takes it, with its idempotency key in it: a batch has no header for that.",
        ),
    ]


RecordStatus: TypeAlias = Literal["recorded", "replayed", "refused", "conflict", "invalid", "unavailable"]


class RecordResult(TypedDict):
    """What became of one record of a batch."""

    index: Annotated[int, Field(description="Its place in the batch, from 0 on.")]
    status: Annotated[
        RecordStatus,
        Field(
            description="`recorded`: by this request. `replayed`: it was recorded before. `refused`: it does not fit "
            "a hard limit; nothing was recorded. `conflict`: its key was used for other content. `invalid`: it "
            "cannot be recorded as it is. `unavailable`: it may or may not have been recorded; send it again, if its "
            "problem is retryable."
        ),
    ]
    currentUsage: NotRequired[
        Annotated[
            int,
            Field(
                description="As record answers it, after the whole batch; with `recorded`, `replayed` and `refused`, "
                "unless it could not be read in time."
            ),
        ]
    ]
    limit: NotRequired[Annotated[int, Field(description="The plan's limit, where it has one.")]]
    limitReached: NotRequired[
        Annotated[bool, Field(description="As record answers it; there wherever currentUsage is, and if refused.")]
    ]
    problem: NotRequired[
        Annotated[
            "Problem",
            Field(
                description="Why; with `conflict`, `invalid` and `unavailable`. Its issues' paths begin in the record."
            ),
        ]
    ]


class RecordTotals(TypedDict):
    """How many records of a batch have each status."""

    recorded: int
    replayed: int
    refused: int
    conflict: int
    invalid: int
    unavailable: int


class RecordUsagesOutput(TypedDict):
    """What `saas.billing.usage.record-batch` answers."""

    results: Annotated[list[RecordResult], Field(description="One for each record, in their order.")]
    totals: RecordTotals


@with_config(ConfigDict(strict=True, extra="forbid"))
class UsageSummaryInput(TypedDict):
    """What `saas.billing.usage.summary` takes."""

    billingPeriod: NotRequired[
        Annotated[
            AskedPeriod,
            Field(description="The present or a past one, as `2026-11`; `current`, or none, is the present one."),
        ]
    ]
    period: NotRequired[
        Annotated[AskedPeriod, Field(description="The same by another name: one of the two, or both alike.")]
    ]


class FeatureUsage(TypedDict):
    """What the organization used of one feature."""

    feature: str
    used: Annotated[int, Field(description="The total in this billing period.")]
    limit: NotRequired[Annotated[int, Field(description="Per billing period, where there is one.")]]
    unit: NotRequired[Annotated[str, Field(description="What is counted, where the plan says so.")]]
    percentage: NotRequired[
        Annotated[
            float,
            Field(
                description="Of the limit, with one decimal; beyond 100 where more was used. Below the limit at most "
                "99.9. Of a limit of 0 it is 100."
            ),
        ]
    ]


class UsageSummaryOutput(TypedDict):
    """What `saas.billing.usage.summary` answers."""

    billingPeriod: Annotated[str, Field(description="The UTC month, as `2026-11`.")]
    usage: Annotated[list[FeatureUsage], Field(description="Sorted by feature.")]


@with_config(ConfigDict(strict=True, extra="forbid"))
class FeatureCheckInput(TypedDict):
    """What `saas.billing.feature.check` takes."""

    feature: Feature


class FeatureCheckOutput(TypedDict):
    """What `saas.billing.feature.check` answers."""

    hasAccess: bool
    reason: NotRequired[
        Annotated[
            AccessReason,
            Field(
                description="`included`: without a limit. `limit_available`: below the limit. `limit_reached`: at the "
                "limit or beyond. `not_in_plan`: no access, whatever was used."
            ),
        ]
    ]
    upgradeUrl: NotRequired[
        Annotated[
            str,
            Field(
                description="Where access is denied and the plan says where to get it.",
                json_schema_extra={"format": "uri"},
            ),
        ]
    ]


@with_config(ConfigDict(strict=True, extra="forbid"))
class SubscriptionGetInput(TypedDict):
    """What `saas.billing.subscription.get` takes: nothing."""


Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class SubscriptionGetOutput(TypedDict):
    """What `saas.billing.subscription.get` answers. Moments are ISO 8601 in UTC."""

    id: str
    organizationId: str
    planId: str
    planName: str
    status: SubscriptionStatus
    currentPeriodStart: Moment
    currentPeriodEnd: Moment
    trialEndsAt: NotRequired[Moment]
    cancelAtPeriodEnd: bool


@with_config(ConfigDict(strict=True, extra="forbid"))
class UsageGetInput(TypedDict):
    """What `saas.billing.usage.get` takes."""

    idempotencyKey: Annotated[
        str, Field(pattern=f"^{KEY_PATTERN}$", description="The key that the usage was recorded under.")
    ]


class UsageGetOutput(TypedDict):
    """What `saas.billing.usage.get` answers: the members that were sent, and what became of them."""

    idempotencyKey: str
    feature: str
    quantity: int
    billingPeriod: Annotated[str, Field(description="The UTC month that it counts in, as `2026-11`.")]
    recordedAt: Moment
    eventId: Annotated[str, Field(description="The `detail.id` of every delivery of its event.")]
    sourceId: NotRequired[str]
    sourceType: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]


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
_RECORD_USAGES_INPUT = TypeAdapter(RecordUsagesInput)


def record_usage_input(members: Any) -> RecordUsageInput:
    """The members of a request, or of a batch's record, as a valid input.

    Raises:
        InputInvalid: with one issue for everything that is wrong, up to 50.
    """
    return valid(_RECORD_USAGE_INPUT, members)


def batch_records(members: dict[str, Any]) -> list[Any]:
    """The records in the members of a batch's request, each as it was sent, valid or not.

    Raises:
        InputInvalid: there are none, too many, or other members.
    """
    return list[Any](valid(_RECORD_USAGES_INPUT, members)["records"])


def valid(model: TypeAdapter[T], members: Any) -> T:
    """The members of a request as what `model` takes.

    Raises:
        InputInvalid: with one issue for everything that is wrong, up to 50.
    """
    try:
        return model.validate_python(members)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_ISSUES]
    raise InputInvalid([Issue(".".join(map(str, issue["loc"])), issue["type"], issue["msg"]) for issue in found])
