"""The models of the operations' inputs and outputs, with the API's spelling of members.

A model is a TypedDict, so that a member that was not sent is absent, not null. No member accepts null. Docstrings and
descriptions are published in `docs/openapi.json`.
"""

import re
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # before Python 3.12, pydantic needs NotRequired from here and TypedDict from typing_extensions
    TypeAlias,
    TypeVar,
)

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from typing_extensions import TypedDict

from metering.http import strict_json
from metering.http.operations import MAX_ISSUES, MAX_PAGE_SIZE, MAX_RECORDS
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
    # Check the depth first, because `compact` fails for an object with more levels than Python's stack allows.
    if strict_json.depth(metadata) > MAX_METADATA_DEPTH:
        message = f"metadata is nested too deeply. Send at most {MAX_METADATA_DEPTH} levels, including metadata itself."
        raise PydanticCustomError("nested_too_deep", message)
    if len(strict_json.compact(metadata).encode()) > MAX_METADATA_BYTES:
        message = f"metadata is too long. Send at most {MAX_METADATA_BYTES} bytes, counted as compact JSON in UTF-8."
        raise PydanticCustomError("too_long", message)
    return metadata


def _number_in(parameter: Any) -> Any:
    """Return the whole number that a query parameter spells in plain digits. Other text stays text, and is invalid."""
    return int(parameter) if re.fullmatch(r"0|[1-9][0-9]{0,99}", parameter) else parameter


_FEATURE = f"^{FEATURE_PATTERN}$"
_KEY = f"^{KEY_PATTERN}$"
_PERIOD = f"^({BILLING_PERIOD_PATTERN}|current)$"
_PERIOD_BY_NAME = f"^{BILLING_PERIOD_PATTERN}$"
Feature = Annotated[
    str, Field(pattern=_FEATURE, description="The metered feature, such as `api_calls`. Case-sensitive.")
]
Quantity = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_QUANTITY,
        description="The quantity of the feature that was used. Write the number without a fraction and without an "
        "exponent: even 1.0 is invalid.",
    ),
]
IdempotencyKey = Annotated[
    str,
    Field(
        pattern=_KEY,
        description="Identifies this usage within the organization. A retry with the same key is not counted again. "
        "A record in a batch has its key here. A single record has it here or in the `Idempotency-Key` header. In the "
        "header, a key that contains a comma must be quoted.",
    ),
]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
AskedPeriod = Annotated[str, Field(pattern=_PERIOD)]
Source = Annotated[str, Field(max_length=255)]
Metadata = Annotated[
    dict[str, Any],
    AfterValidator(_fits),
    Field(
        description=f"Any data of the caller. At most {MAX_METADATA_BYTES} bytes as compact JSON in UTF-8. At most "
        f"{MAX_METADATA_DEPTH} levels of nested objects and arrays, including the object itself."
    ),
]


@with_config(ConfigDict(strict=True, extra="forbid"))
class RecordUsageInput(TypedDict):
    """A usage to record. It never contains the organization, which comes from the caller's token or a header."""

    feature: Feature
    quantity: Quantity
    idempotencyKey: IdempotencyKey
    sourceId: NotRequired[Annotated[Source, Field(description="The cause of the usage, such as a request ID.")]]
    sourceType: NotRequired[
        Annotated[Source, Field(description="The kind of thing that `sourceId` identifies, such as `request`.")]
    ]
    metadata: NotRequired[Metadata]


class RecordUsageOutput(TypedDict):
    """The result of recording one usage."""

    recorded: Annotated[
        bool,
        Field(
            description="True if this request or an earlier one counted the usage. False if the usage does not fit a "
            "hard limit. Nothing is stored in that case."
        ),
    ]
    currentUsage: Annotated[
        int,
        Field(
            description="The organization's usage of this feature in the record's billing period, including this "
            "record. The billing period is the UTC month in which the usage was recorded. On a replay, this is the "
            "current total of that period. For a very busy feature, the total is read about once a second. It can lack "
            "usage that other requests recorded in the last 2 seconds. Hard limits, events and queries are exact."
        ),
    ]
    limitReached: Annotated[
        bool,
        Field(
            description="True if `currentUsage` is at or above the limit. Also true if this usage was refused "
            "because its quantity does not fit."
        ),
    ]
    limit: NotRequired[
        Annotated[int, Field(description="The feature's limit for each billing period. Absent if there is no limit.")]
    ]


@with_config(ConfigDict(strict=True, extra="forbid"))
class RecordUsagesInput(TypedDict):
    """A batch of usages to record."""

    # Do not validate records here. Each record is validated alone, so that an invalid record does not fail the others.
    records: Annotated[
        list[SkipValidation[RecordUsageInput]],
        Field(
            min_length=1,
            max_length=MAX_RECORDS,
            description="The usages. Each record contains its own `idempotencyKey`, because a batch accepts no "
            "`Idempotency-Key` header.",
        ),
    ]


RecordStatus: TypeAlias = Literal["recorded", "replayed", "refused", "conflict", "invalid", "unavailable"]


class RecordResult(TypedDict):
    """The result of one record of a batch."""

    index: Annotated[int, Field(description="The record's position in the batch, from 0.")]
    status: Annotated[
        RecordStatus,
        Field(
            description="`recorded`: this request recorded the usage. `replayed`: an earlier request or record "
            "recorded the usage. `refused`: the usage does not fit a hard limit, and nothing was stored. `conflict`: "
            "the idempotency key was used with other content. `invalid`: `problem` names the errors to correct. "
            "`unavailable`: it is unknown whether the usage is recorded. If `problem` is retryable, send the record "
            "again."
        ),
    ]
    currentUsage: NotRequired[
        Annotated[
            int,
            Field(
                description="The feature's total after the whole batch, as in the answer to a single record. Present "
                "with `recorded`, `replayed` and `refused`, unless the deadline passed before the total was read."
            ),
        ]
    ]
    limit: NotRequired[
        Annotated[int, Field(description="The feature's limit for each billing period. Absent if there is no limit.")]
    ]
    limitReached: NotRequired[
        Annotated[
            bool,
            Field(
                description="As in the answer to a single record. Present with `currentUsage`, and always with "
                "`refused`."
            ),
        ]
    ]
    problem: NotRequired[
        Annotated[
            "Problem",
            Field(
                description="The cause. Present with `conflict`, `invalid` and `unavailable`. The paths of the "
                "problem's issues start at the record."
            ),
        ]
    ]


class RecordTotals(TypedDict):
    """The number of a batch's records with each status."""

    recorded: int
    replayed: int
    refused: int
    conflict: int
    invalid: int
    unavailable: int


class RecordUsagesOutput(TypedDict):
    """The results of a batch."""

    results: Annotated[list[RecordResult], Field(description="One result for each record, in the records' order.")]
    totals: RecordTotals


@with_config(ConfigDict(strict=True, extra="forbid"))
class UsageSummaryInput(TypedDict):
    """The billing period of a summary."""

    billingPeriod: NotRequired[
        Annotated[
            AskedPeriod,
            Field(
                description="The current billing period or a past one, such as `2026-11`. Default: `current`, the UTC "
                "month of the request."
            ),
        ]
    ]
    period: NotRequired[
        Annotated[
            AskedPeriod,
            Field(description="Another name for `billingPeriod`. Send one of the two, or both with the same value."),
        ]
    ]
    by: NotRequired[Annotated[Literal["day"], Field(description="`day`: each feature also has its `days`.")]]


class DayUsage(TypedDict):
    """The usage of one day."""

    date: Annotated[str, Field(description="The UTC date.", json_schema_extra={"format": "date"})]
    used: Annotated[int, Field(description="The usage on this date.")]


class FeatureUsage(TypedDict):
    """The organization's usage of one feature in a billing period."""

    feature: Annotated[str, Field(description="The metered feature.")]
    used: Annotated[int, Field(description="The total in this billing period.")]
    limit: NotRequired[
        Annotated[int, Field(description="The limit for each billing period. Absent if there is no limit.")]
    ]
    unit: NotRequired[Annotated[str, Field(description="The unit of `used`, such as `calls`, if the plan names one.")]]
    percentage: NotRequired[
        Annotated[
            float,
            Field(
                description="`used` as a percentage of `limit`, with one decimal. At most 99.9 if usage is below the "
                "limit. More than 100 if usage exceeds the limit. Always 100 for a limit of 0. Absent if there is "
                "no limit."
            ),
        ]
    ]
    days: NotRequired[
        Annotated[
            list[DayUsage],
            Field(
                description="The dates with usage, in order. The sum of their `used` is exactly the feature's `used`. "
                "Present with `by=day`."
            ),
        ]
    ]


class UsageSummaryOutput(TypedDict):
    """The organization's usage in a billing period."""

    billingPeriod: Annotated[str, Field(description="The billing period: a UTC month, such as `2026-11`.")]
    periodStart: Annotated[Moment, Field(description="The first moment of the billing period.")]
    periodEnd: Annotated[
        Moment, Field(description="The first moment after the billing period, when the next period starts.")
    ]
    usage: Annotated[list[FeatureUsage], Field(description="Every feature with usage or a limit, sorted by feature.")]


@with_config(ConfigDict(strict=True, extra="forbid"))
class FeatureCheckInput(TypedDict):
    """The feature to check, and how much of it."""

    feature: Feature
    quantity: NotRequired[
        Annotated[
            int,
            Field(
                ge=1,
                le=MAX_QUANTITY,
                description="The quantity that must fit the limit. Default: 1, so that access ends when usage reaches "
                "the limit.",
            ),
            BeforeValidator(_number_in),
        ]
    ]


class FeatureCheckOutput(TypedDict):
    """An organization's access to a feature."""

    hasAccess: Annotated[bool, Field(description="True if `reason` is `included` or `limit_available`.")]
    reason: NotRequired[
        Annotated[
            AccessReason,
            Field(
                description="`included`: access without a limit. `limit_available`: the quantity fits the limit. "
                "`limit_reached`: the quantity does not fit, because usage plus the quantity would exceed the limit. "
                "`not_in_plan`: no access, regardless of usage."
            ),
        ]
    ]
    upgradeUrl: NotRequired[
        Annotated[
            str,
            Field(
                description="The page where the organization can get access. Present if access is denied and the plan "
                "names a page.",
                json_schema_extra={"format": "uri"},
            ),
        ]
    ]
    used: NotRequired[
        Annotated[
            int,
            Field(
                description="The total in the current billing period. Present with `limit_available` and "
                "`limit_reached`, like the members below."
            ),
        ]
    ]
    limit: NotRequired[Annotated[int, Field(description="The limit for each billing period.")]]
    remaining: NotRequired[
        Annotated[int, Field(description="The largest quantity that fits the limit: 0 if usage has reached the limit.")]
    ]
    resetsAt: NotRequired[
        Annotated[Moment, Field(description="When the next billing period starts, with a `used` of 0.")]
    ]


@with_config(ConfigDict(strict=True, extra="forbid"))
class SubscriptionGetInput(TypedDict):
    """No input."""


class SubscriptionGetOutput(TypedDict):
    """The organization's subscription. Times are ISO 8601 in UTC."""

    id: Annotated[str, Field(description="The subscription's ID.")]
    organizationId: Annotated[str, Field(description="The organization's ID.")]
    planId: Annotated[str, Field(description="The plan's ID.")]
    planName: Annotated[str, Field(description="The plan's name, for display.")]
    status: Annotated[SubscriptionStatus, Field(description="`CANCELED` and `PAUSED` give no access to any feature.")]
    currentPeriodStart: Annotated[Moment, Field(description="The start of the subscription's current period.")]
    currentPeriodEnd: Annotated[Moment, Field(description="The end of the subscription's current period.")]
    trialEndsAt: NotRequired[Annotated[Moment, Field(description="The end of the trial, if there is one.")]]
    cancelAtPeriodEnd: Annotated[
        bool, Field(description="Whether the subscription ends at `currentPeriodEnd`. False if not known.")
    ]


@with_config(ConfigDict(strict=True, extra="forbid"))
class UsageGetInput(TypedDict):
    """The idempotency key of the usage record to get."""

    idempotencyKey: Annotated[str, Field(pattern=_KEY, description="The idempotency key that was sent with the usage.")]


class UsageGetOutput(TypedDict):
    """A usage record: the members that the caller sent, and those that the service added."""

    idempotencyKey: Annotated[str, Field(description="The usage's idempotency key.")]
    feature: Annotated[str, Field(description="The metered feature.")]
    quantity: Annotated[int, Field(description="The quantity that was counted.")]
    billingPeriod: Annotated[
        str, Field(description="The billing period in which the usage counts: a UTC month, such as `2026-11`.")
    ]
    recordedAt: Annotated[Moment, Field(description="When the usage was recorded.")]
    eventId: Annotated[
        str,
        Field(description="The ID of the record's `billing.usage.recorded` event: `detail.id` of every delivery."),
    ]
    sourceId: NotRequired[Annotated[str, Field(description="The cause of the usage, if it was sent.")]]
    sourceType: NotRequired[Annotated[str, Field(description="The kind of thing that `sourceId` identifies.")]]
    metadata: NotRequired[Annotated[dict[str, Any], Field(description="The caller's own data, if it was sent.")]]


@with_config(ConfigDict(strict=True, extra="forbid"))
class UsageListInput(TypedDict):
    """The records to list, and the page of the list."""

    billingPeriod: NotRequired[
        Annotated[
            str,
            Field(pattern=_PERIOD_BY_NAME, description="Only records of this billing period, such as `2026-11`."),
        ]
    ]
    feature: NotRequired[
        Annotated[str, Field(pattern=_FEATURE, description="Only records of this metered feature. Case-sensitive.")]
    ]
    pageSize: NotRequired[
        Annotated[
            int,
            Field(ge=1, le=MAX_PAGE_SIZE, description="The maximum number of records in the answer. Default: 100."),
            BeforeValidator(_number_in),
        ]
    ]
    cursor: NotRequired[
        Annotated[
            str,
            Field(
                description="The `nextCursor` of the page before, with the same `billingPeriod` and `feature` as for "
                "that page. Absent for the first page."
            ),
        ]
    ]


class UsageListOutput(TypedDict):
    """A page of the list of usage records."""

    records: Annotated[list[UsageGetOutput], Field(description="The page's records, in no order in time.")]
    nextCursor: NotRequired[
        Annotated[
            str,
            Field(description="The `cursor` of the next page. Absent at the end of the list, and only there."),
        ]
    ]


class IssueFound(TypedDict):
    """One error in the input."""

    path: Annotated[
        str,
        Field(description="The member or parameter, as names joined by dots. Empty for the input as a whole."),
    ]
    code: Annotated[str, Field(description="The kind of error, for programs. Stable.")]
    message: Annotated[str, Field(description="An explanation for people. The text can change.")]


class OperationMatched(TypedDict):
    """The operation that matches the request's route."""

    key: Annotated[str, Field(description="The operation's key, such as `saas.billing.usage.record`.")]
    version: Annotated[str, Field(description="The operation's version, such as `1.0.0`.")]
    kind: Annotated[str, Field(description="`command` or `query`.")]


class Problem(TypedDict):
    """Problem details (RFC 9457)."""

    type: Annotated[str, Field(description="The URI of this kind of problem. Derived from `code`.")]
    title: Annotated[str, Field(description="A short name of this kind of problem.")]
    status: Annotated[int, Field(description="The HTTP status.")]
    code: Annotated[str, Field(description="The kind of problem, for programs. Stable.")]
    detail: Annotated[
        str, Field(description="An explanation for people: the error and the remedy. The text can change.")
    ]
    category: Annotated[
        str, Field(description="`validation`, `auth`, `not_found`, `conflict`, `dependency` or `internal`.")
    ]
    severity: Annotated[str, Field(description="`warning` if `status` is below 500, else `error`.")]
    retryable: Annotated[bool, Field(description="Whether the same request can succeed later.")]
    traceId: Annotated[
        str, Field(description="Identifies the request in the service's logs. Quote this ID in a report.")
    ]
    operation: NotRequired[
        Annotated[OperationMatched, Field(description="Absent if no operation matches the request.")]
    ]
    issues: NotRequired[
        Annotated[
            list[IssueFound],
            Field(
                description="Every error in the input, up to 50. Present with 400, 413, 415 and `VALIDATION_FAILED`."
            ),
        ]
    ]
    retryAfter: NotRequired[
        Annotated[int, Field(description="Seconds to wait before a retry, as in the header `Retry-After`.")]
    ]


_RECORD_USAGE_INPUT = TypeAdapter(RecordUsageInput)
_RECORD_USAGES_INPUT = TypeAdapter(RecordUsagesInput)

_FORMS = {
    _FEATURE: "1 to 64 letters, digits, underscores, dots or hyphens. The first character must be a letter",
    _KEY: "1 to 255 visible ASCII characters, without spaces",
    _PERIOD: "current, or a month such as 2026-11",
    _PERIOD_BY_NAME: "a month such as 2026-11",
}
# pydantic's kinds of errors that occur with these models. A message says what to send, and never repeats a value.
_MESSAGES = {
    "missing": "{name} is missing. Send it.",
    "extra_forbidden": "This name is unknown. Remove it, or correct its spelling.",
    "int_type": "{name} is not a whole number. Send digits without quotes, fraction or exponent, such as 1.",
    "greater_than_equal": "{name} is too small. Send {ge} or more.",
    "less_than_equal": "{name} is too large. Send at most {le}.",
    "string_type": "{name} is not text. Send text in double quotes.",
    "string_pattern_mismatch": "{name} has the wrong form. Send {form}.",
    "string_too_long": "{name} is too long. Send at most {max_length} characters.",
    "dict_type": "{name} is not an object. Send a JSON object, in braces.",
    "literal_error": "{name} has an unknown value. Send {expected}.",
    "list_type": "{name} is not an array. Send a JSON array, in brackets.",
    "too_short": "{name} is empty. Send 1 to {most} records.",
    "too_long": "{name} has too many records. Send at most {max_length}.",
}


def record_usage_input(members: Any) -> RecordUsageInput:
    """Validate the members of a request, or of one record of a batch.

    Raises:
        InputInvalid: with one issue for each error, up to 50.
    """
    return valid(_RECORD_USAGE_INPUT, members)


def batch_records(members: dict[str, Any]) -> list[Any]:
    """Return the records of a batch, as they were sent. They can be invalid.

    Raises:
        InputInvalid: the batch has no records, more than MAX_RECORDS, or other members.
    """
    return list[Any](valid(_RECORD_USAGES_INPUT, members)["records"])


def valid(model: TypeAdapter[T], members: Any) -> T:
    """Validate the members of a request against `model`.

    Raises:
        InputInvalid: with one issue for each error, up to 50.
    """
    try:
        return model.validate_python(members)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:MAX_ISSUES]
    raise InputInvalid([_issue(each) for each in found])


def _issue(found: ErrorDetails) -> Issue:
    path, facts = ".".join(map(str, found["loc"])), found.get("ctx", {})
    template = _MESSAGES.get(found["type"])
    # The checks of metadata have their own messages, and no facts.
    if template is None or (found["type"] == "too_long" and not facts):
        return Issue(path, found["type"], found["msg"])
    form = _FORMS.get(facts.get("pattern", ""), "")
    return Issue(path, found["type"], template.format(name=path or "The record", form=form, most=MAX_RECORDS, **facts))
