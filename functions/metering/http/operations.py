"""The operations that are served: their keys, scopes and routes."""

from dataclasses import dataclass

MAX_RECORDS = 100
# A body of a thousand unknown members is one mistake, not a thousand.
MAX_ISSUES = 50


@dataclass(frozen=True)
class Operation:
    """A contract operation: its key, version and kind, and the scope that a token needs for it. A query has no body."""

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
    "key is a conflict (422). The organization is the one of the token.",
)
RECORD_USAGES = Operation(
    "saas.billing.usage.record-batch",
    "1.0.0",
    "command",
    scope="usage:write",
    max_body_bytes=1024 * 1024,
    title="Record a batch of usage.",
    description=f"Up to {MAX_RECORDS} records, each as record takes it and each answered for itself: it is counted "
    "whole and once, or not at all, and a bad one never fails its neighbours, as long as the whole body is JSON: no "
    "member twice, no NaN, within the bounds of nesting and digits. What comes out is what sending them one "
    "by one, in their order, would have come to. The same key twice in a batch is one record: the second is a replay, "
    "or a conflict if its content differs. Send the whole batch again whenever it is not answered, or a record is "
    "`unavailable`: what was recorded is a replay then. The answer is 200 whatever becomes of the records; a problem "
    "is answered where the request itself is invalid, or nothing of it could be tried. Where the organization is "
    "unknown or inactive, what was recorded before is a replay as ever, and the rest `invalid` with that problem; if "
    "nothing was, the problem is the answer.",
)
USAGE_SUMMARY = Operation(
    "saas.billing.usage.summary",
    "1.0.0",
    "query",
    scope="usage:read",
    max_body_bytes=0,
    title="What the organization used in a billing period.",
    description="Every feature that has usage in the billing period or a limit, sorted by name. Queries include all "
    "acknowledged usage. Limits and units are those of now, known within a minute, also for a past period.",
)
FEATURE_CHECK = Operation(
    "saas.billing.feature.check",
    "1.0.0",
    "query",
    scope="usage:read",
    max_body_bytes=0,
    title="Whether the organization has access to a feature now.",
    description="Access ends where the limit of the present billing period is reached, also where it is a soft one, "
    "beyond which usage is still recorded: `hasAccess` is then false and `reason` says `limit_reached`. Record says "
    "`limitReached` of usage that was too much for what is left of a hard limit, too: less than that still has "
    "access. An organization that is inactive, or whose subscription is canceled or paused, "
    "has access to nothing (`not_in_plan`), nor has one without a plan, but for features that it has limits of its own "
    "for. Plans and subscriptions are known within a minute.",
)
SUBSCRIPTION_GET = Operation(
    "saas.billing.subscription.get",
    "1.0.0",
    "query",
    scope="usage:read",
    max_body_bytes=0,
    title="The organization's subscription.",
    description="As it is known at this moment from whoever owns subscriptions; not found until all members that are "
    "always there are known.",
)
USAGE_GET = Operation(
    "saas.billing.usage.get",
    "1.0.0",
    "query",
    scope="usage:read",
    max_body_bytes=0,
    title="What was recorded under an idempotency key: did it count?",
    description="The stored record, for as long as its idempotency key is kept. Not found means that at this moment "
    "nothing is recorded under the key; a request that is still under way may yet be.",
)
OPERATIONS = {
    operation.path: operation
    for operation in (RECORD_USAGE, RECORD_USAGES, USAGE_SUMMARY, FEATURE_CHECK, SUBSCRIPTION_GET, USAGE_GET)
}
