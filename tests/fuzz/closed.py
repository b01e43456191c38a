"""The document with its answers closed: what it does not name, a test may not see.

The published one leaves them open, so that a later member breaks no caller.
"""

from typing import Any

from ops import openapi

_ANSWERS = (
    "RecordUsageOutput",
    "RecordUsagesOutput",
    "RecordResult",
    "RecordTotals",
    "UsageSummaryOutput",
    "FeatureUsage",
    "FeatureCheckOutput",
    "SubscriptionGetOutput",
    "UsageGetOutput",
    "Problem",
    "IssueFound",
    "OperationMatched",
    "GatewayMessage",
)


def document() -> dict[str, Any]:
    """The API's document; an answer with a member that it does not name breaks it."""
    closed = openapi.document()
    for name in _ANSWERS:
        closed["components"]["schemas"][name]["additionalProperties"] = False
    return closed
