"""The API's document with closed answers: a member that the document does not name fails a test.

The published document leaves its answers open, so that a new member breaks no caller.
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
    "DayUsage",
    "FeatureCheckOutput",
    "SubscriptionGetOutput",
    "UsageGetOutput",
    "UsageListOutput",
    "Problem",
    "IssueFound",
    "OperationMatched",
    "GatewayMessage",
)


def document() -> dict[str, Any]:
    """The API's document with `additionalProperties: false` in every answer."""
    closed = openapi.document()
    for name in _ANSWERS:
        closed["components"]["schemas"][name]["additionalProperties"] = False
    return closed


DOCUMENT = document()
# The path is a JSON pointer.
_PROBLEM_CONTENT = "/content/application~1problem+json/schema"


def assert_adds_up(answer: dict[str, Any], records: list[Any]) -> None:
    """Check that a batch's answer has one result per record, in order, with the members of its status."""
    results = answer["results"]
    assert [result["index"] for result in results] == list(range(len(records)))
    assert Counter(result["status"] for result in results) == Counter(answer["totals"])
    for result in results:
        members = result.keys() - {"index", "status", "limit"}
        has_total = result["status"] in ("recorded", "replayed", "refused")
        assert members == ({"currentUsage", "limitReached"} if has_total else {"problem"})
        if not has_total:
            schema = {"$ref": f"#/components/responses/Problem{result['problem']['status']}{_PROBLEM_CONTENT}"}
            jsonschema.validate(result["problem"], {**schema, "components": DOCUMENT["components"]})
    totals: dict[str, int] = {}
    for result, record in zip(results, records, strict=True):
        if "currentUsage" in result:
            assert totals.setdefault(record["feature"], result["currentUsage"]) == result["currentUsage"]
