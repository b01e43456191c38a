"""The API's operations: keys, scopes, routes and descriptions."""

from dataclasses import dataclass

MAX_RECORDS = 100
MAX_PAGE_SIZE = 1000
# A body with a thousand unknown members is a single mistake, and a thousand issues would not help the caller.
MAX_ISSUES = 50


@dataclass(frozen=True)
class Operation:
    """An operation of the API: its key, version and kind, and the scope that a token needs.

    `title` and `description` are published in `docs/openapi.json`. A query has no body: its `max_body_bytes` is 0.
    """

    key: str
    version: str
    kind: str
    scope: str
    max_body_bytes: int
    title: str
    description: str

    @property
    def method(self) -> str:
        """POST for a command, GET for a query."""
        return "POST" if self.kind == "command" else "GET"

    @property
    def path(self) -> str:
        """The route: the key with slashes for dots, then the version."""
        return f"/{self.key.replace('.', '/')}/v{self.version}"


RECORD_USAGE = Operation(
    "saas.billing.usage.record",
    "1.0.0",
    "command",
    scope="usage:write",
    max_body_bytes=16 * 1024,
    title="Record usage of a metered feature.",
    description="Counts the usage once for its idempotency key and publishes the event `billing.usage.recorded`.\n\n"
    "If no answer arrives, send the same request again. A replay counts nothing. Its answer has the current total of "
    "the stored record's billing period, and the header `Idempotent-Replayed: true`.\n\n"
    "The order of the body's members does not matter. Other content under a used key is a conflict: the answer is 422 "
    "with the code `IDEMPOTENCY_KEY_REUSED`. Usage that does not fit a hard limit is refused: the answer is 200 with "
    "`recorded: false`, and nothing is stored.",
)
RECORD_USAGES = Operation(
    "saas.billing.usage.record-batch",
    "1.0.0",
    "command",
    scope="usage:write",
    max_body_bytes=1024 * 1024,
    title="Record a batch of usages.",
    description=f"Takes 1 to {MAX_RECORDS} records and returns a result for each record. Each record is counted once "
    "and as a whole, or not at all. The results are the same as for single requests, sent one by one in this order. If "
    "an idempotency key occurs twice, the second record is a replay, or a conflict if its content differs.\n\n"
    "An invalid record does not affect the other records. But an error in the JSON makes the whole request "
    "invalid. Examples are a duplicate member, NaN, too much nesting, or a number with too many digits.\n\n"
    "If no answer arrives, or a record is `unavailable`, send the whole batch again. Each record that was recorded "
    "before is then a replay.\n\n"
    "The answer is 200 even if no record was recorded. The answer is a problem if the request itself is invalid, or if "
    "the service could not try any record. If the organization is unknown or inactive, each record that was recorded "
    "before is a replay. Each other record is `invalid`. If no record was recorded before, the answer is 403 or "
    "404.",
)
USAGE_SUMMARY = Operation(
    "saas.billing.usage.summary",
    "1.0.0",
    "query",
    scope="usage:read",
    max_body_bytes=0,
    title="Get the usage of a billing period.",
    description="Returns every feature that has usage in the billing period or a limit, sorted by name. Totals include "
    "all acknowledged usage. Limits and units are the current ones, even for a past billing period. A changed limit "
    "appears within a minute.\n\n"
    "With `by=day`, each feature also has the usage of each UTC date. The days come from the same reads as the total. "
    "So they always add up to it.",
)
FEATURE_CHECK = Operation(
    "saas.billing.feature.check",
    "1.0.0",
    "query",
    scope="usage:read",
    max_body_bytes=0,
    title="Check access to a feature.",
    description="Returns whether the organization can use `quantity` more of the feature now. Access ends when usage "
    "in the current billing period plus the quantity would exceed the limit: `reason` is then `limit_reached`. This "
    "includes a soft limit, although usage beyond a soft limit is still recorded.\n\n"
    "Without `quantity`, access ends when usage reaches the limit. Below a hard limit, `saas.billing.usage.record` can "
    "then still refuse a large quantity that does not fit. A check reserves nothing.\n\n"
    "With `limit_available` and `limit_reached`, the answer has `used`, `limit`, `remaining` and `resetsAt`. With "
    "`included` and `not_in_plan`, no limit decides about the access, so the answer has none of them.\n\n"
    "An organization has no access to any feature (`not_in_plan`) if it is inactive. The same is true if its "
    "subscription is canceled or paused. Without a plan, an organization has access only to features for which it "
    "has its own limit. Changes of plans and subscriptions take effect within a minute.",
)
SUBSCRIPTION_GET = Operation(
    "saas.billing.subscription.get",
    "1.0.0",
    "query",
    scope="usage:read",
    max_body_bytes=0,
    title="Get the subscription.",
    description="Returns the organization's subscription as last published by the service that owns subscriptions, or "
    "as set by an operator. The answer is 404 until all required members are known. The problem's `detail` names the "
    "missing members.",
)
USAGE_GET = Operation(
    "saas.billing.usage.get",
    "1.0.0",
    "query",
    scope="usage:read",
    max_body_bytes=0,
    title="Get a usage record by its idempotency key.",
    description="Returns the usage record, which proves that the usage was counted. The answer is 404 if there is no "
    "record under the key, or if the record has expired. By default, it expires 400 days after the usage was recorded. "
    "After a 404, a request that is still in progress can create the record.",
)
USAGE_LIST = Operation(
    "saas.billing.usage.list",
    "1.0.0",
    "query",
    scope="usage:read",
    max_body_bytes=0,
    title="List the usage records.",
    description="Returns the organization's usage records page by page, in no order in time. `billingPeriod` and "
    "`feature` restrict the list. To get the next page, send the same request with the answer's `nextCursor` as "
    "`cursor`. **A page can be empty. Only a missing `nextCursor` ends the list.**\n\n"
    "The pages together have each record exactly once, if it exists from the first request to the last answer. "
    "A record that is written or expires meanwhile appears once or not at all. A record can appear in the list "
    "shortly before its usage is in a total.\n\n"
    "A page has fewer records than `pageSize` if its time, its size or its reads reach a limit. "
    "`pageSize` can change from page to page. Even an empty list takes 256 DynamoDB read units. With `billingPeriod` "
    "or `feature`, the list still reads all records of the organization.",
)
OPERATIONS = {
    operation.path: operation
    for operation in (
        RECORD_USAGE,
        RECORD_USAGES,
        USAGE_SUMMARY,
        FEATURE_CHECK,
        SUBSCRIPTION_GET,
        USAGE_GET,
        USAGE_LIST,
    )
}
