import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.model.usage import CounterId
from metering.storage.plan_items import FEATURES_KEY, known_features

from ops import apply, plans
from ops.apply import Preview
from ops.errors import NotConfirmed, PlanContended
from tests.testing.contention import answer_with, cancelled
from tests.testing.table import put_counter, put_on_plan
from tests.testing.terminal import Terminal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOW = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
BEFORE = Plan("pro", "Pro", {"api_calls": Entitlement(10), "exports": Entitlement(None)})
AFTER = Plan("pro", "Professional", {"api_calls": Entitlement(20), "seats": Entitlement(3)})
FREE = Plan("free", "Free")


@pytest.fixture
def in_use(dynamodb: "DynamoDBClient") -> Preview:
    """A preview that removes one feature that five organizations use, and one that nobody uses."""
    for number in range(5):
        put_on_plan(dynamodb, "usage", Organization(f"o{number}"), BEFORE)
        put_counter(dynamodb, "usage", CounterId(f"o{number}", "2026-11", "exports"))
    return apply.preview(dynamodb, "usage", [replace(BEFORE, features={})], NOW, look_for_usage=True)


def test_a_preview_says_what_would_change_and_changes_nothing(dynamodb: "DynamoDBClient") -> None:
    old = Plan("old", "Old")
    apply.write(dynamodb, "usage", plans.changes({}, [BEFORE, old, FREE]), lambda _line: None)
    stored = dynamodb.scan(TableName="usage")["Items"]

    new = Plan("new", "New")
    found = apply.preview(dynamodb, "usage", [FREE, new, AFTER], NOW, look_for_usage=True)

    assert dynamodb.scan(TableName="usage")["Items"] == stored
    assert found.lines() == [
        "free: unchanged",
        "new: created",
        '  + name: "New"',
        "pro: changed",
        '  ~ name: "Pro" -> "Professional"',
        "  ~ features.api_calls.limit: 10 -> 20",
        '  - features.exports: {"limit": "unlimited", "enforcement": "soft", "warnAt": [80]}',
        '  + features.seats: {"limit": 3, "enforcement": "soft", "warnAt": [80]}',
        "old: not in the file, left unchanged",
    ]
    content = found.content(dry_run=True)
    assert (content["dryRun"], content["leftAlone"], content["inUse"]) == (True, ["old"], {})
    assert {plan: said["change"] for plan, said in content["plans"].items()} == {
        "free": "unchanged",
        "new": "created",
        "pro": "changed",
    }
    assert {"path": "name", "before": "Pro", "after": "Professional"} in content["plans"]["pro"]["members"]


def test_a_preview_names_usage_of_removed_features(in_use: Preview) -> None:
    assert in_use.losses() == ["pro loses exports, which o0, o1, o2 and 2 more used in 2026-11"]
    assert in_use.content(dry_run=False)["inUse"] == {"pro": {"exports": [f"o{number}" for number in range(5)]}}


@pytest.mark.parametrize("answer", ["y\n", "yes\n", " Y \n"])
def test_a_yes_at_the_terminal_is_one(in_use: Preview, answer: str) -> None:
    questions = io.StringIO()
    apply.confirm(in_use, Terminal(answer), questions)
    assert questions.getvalue() == (
        "pro loses exports, which o0, o1, o2 and 2 more used in 2026-11.\nRemove anyway? [y/N] "
    )


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "no\n", "yess\n"])
def test_anything_else_is_a_no(in_use: Preview, answer: str) -> None:
    with pytest.raises(NotConfirmed, match=r"^nothing was written\.$"):
        apply.confirm(in_use, Terminal(answer), io.StringIO())


def test_without_a_terminal_nobody_is_asked(in_use: Preview) -> None:
    questions = io.StringIO()
    with pytest.raises(NotConfirmed, match="pass --yes"):
        apply.confirm(in_use, io.StringIO("y\n"), questions)
    assert questions.getvalue() == ""


def test_nothing_is_asked_unless_a_used_feature_is_removed(dynamodb: "DynamoDBClient") -> None:
    found = apply.preview(dynamodb, "usage", [FREE], NOW, look_for_usage=True)
    apply.confirm(found, io.StringIO(), io.StringIO())


def test_usage_is_not_looked_for_unless_wanted(dynamodb: "DynamoDBClient", in_use: Preview) -> None:
    searches = answer_with(dynamodb, "Query", [])
    wanted = [change.plan for change in in_use.changes]
    assert apply.preview(dynamodb, "usage", wanted, NOW, look_for_usage=False).losses() == []
    assert searches == []


def test_each_written_plan_is_reported_and_a_failed_one_is_not(dynamodb: "DynamoDBClient") -> None:
    answer_with(dynamodb, "TransactWriteItems", [None, cancelled(["ConditionalCheckFailed", "None"])])
    said: list[str] = []
    with pytest.raises(PlanContended):
        apply.write(dynamodb, "usage", plans.changes({}, [FREE, BEFORE, replace(AFTER, id="team")]), said.append)
    assert said == ["free was written."]
    assert plans.read(dynamodb, "usage", ["free", "pro", "team"]) == {"free": FREE}


def test_a_plan_that_is_as_it_should_be_is_not_written(dynamodb: "DynamoDBClient") -> None:
    apply.write(dynamodb, "usage", plans.changes({}, [BEFORE, FREE]), lambda _line: None)
    stored = dynamodb.scan(TableName="usage")["Items"]
    said: list[str] = []
    apply.write(dynamodb, "usage", plans.changes({"pro": BEFORE, "free": FREE}, [BEFORE, FREE]), said.append)
    assert (dynamodb.scan(TableName="usage")["Items"], said) == (stored, [])


def test_a_feature_that_no_plan_has_any_more_is_not_known_any_more(dynamodb: "DynamoDBClient") -> None:
    apply.write(dynamodb, "usage", plans.changes({}, [BEFORE]), lambda _line: None)
    apply.write(dynamodb, "usage", plans.changes({"pro": BEFORE}, [AFTER]), lambda _line: None)
    assert known_features(dynamodb.get_item(TableName="usage", Key=FEATURES_KEY)["Item"]) == {"api_calls", "seats"}
