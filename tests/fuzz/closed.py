"""The document with its answers closed: what it does not name, a test may not see.

The published one leaves them open, so that a later member breaks no caller.
"""

from collections import Counter
from typing import Any

import jsonschema

from tools import openapi

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


DOCUMENT = document()
# As a JSON pointer.
_PROBLEM_CONTENT = "/content/application~1problem+json/schema"


def assert_adds_up(answer: dict[str, Any], records: list[Any]) -> None:
    """What no schema says of a batch's answer: a result for each record, in order, with what its status promises."""
    results = answer["results"]
    assert [result["index"] for result in results] == list(range(len(records)))
    assert Counter(result["status"] for result in results) == Counter(answer["totals"])
    for result in results:
        told = result.keys() - {"index", "status", "limit"}
        stands = result["status"] in ("recorded", "replayed", "refused")
        assert told == ({"currentUsage", "limitReached"} if stands else {"problem"})
        if not stands:
            schema = {"$ref": f"#/components/responses/Problem{result['problem']['status']}{_PROBLEM_CONTENT}"}
            jsonschema.validate(result["problem"], {**schema, "components": DOCUMENT["components"]})
    totals: dict[str, int] = {}
    for result, record in zip(results, records, strict=True):
        if "currentUsage" in result:
            assert totals.setdefault(record["feature"], result["currentUsage"]) == result["currentUsage"]
