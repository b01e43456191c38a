from typing import Any

import pytest
from metering.http.models import batch_records, record_usage_input
from metering.http.operations import RECORD_USAGE, RECORD_USAGES
from metering.model.errors import InputInvalid

from tests.testing.breaches import BREACHES, NESTED_8
from tests.testing.payloads import example


def test_the_route_is_the_key_with_its_dots_as_slashes() -> None:
    assert (RECORD_USAGE.method, RECORD_USAGE.path) == ("POST", "/saas/billing/usage/record/v1.0.0")
    assert (RECORD_USAGES.method, RECORD_USAGES.path) == ("POST", "/saas/billing/usage/record-batch/v1.0.0")


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"feature": "a"},
        {"feature": "Z" + "a.B_c-9" * 9},
        {"quantity": 1_000_000_000},
        {"idempotencyKey": "~" * 255},
        {"idempotencyKey": "!"},
        {"idempotencyKey": '"#quoted#"'},
        {"sourceId": "", "sourceType": ""},
        {"sourceId": "ü" * 255, "sourceType": "😀" * 255},
        {"metadata": {}},
        {"metadata": {"a": None, "b": [1.5, True, "ü", {"c": []}]}},
        {"metadata": {"a": "x" * (4096 - len('{"a":""}'))}},
        {"metadata": {"a": "ü" * ((4096 - len('{"a":""}')) // 2)}},
        {"metadata": NESTED_8},
    ],
)
def test_valid_input_is_accepted_unchanged(members: dict[str, object]) -> None:
    assert record_usage_input(example(**members)) == example(**members)


@pytest.mark.parametrize(("members", "path", "code"), BREACHES)
def test_input_that_breaks_the_contract_is_named(members: dict[str, object], path: str, code: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        record_usage_input(example(**members))
    assert [(issue.path, issue.code) for issue in refused.value.issues] == [(path, code)]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"feature": ...}, "feature is missing. Send it."),
        (
            {"feature": "1st"},
            "feature has the wrong form. "
            "Send 1 to 64 letters, digits, underscores, dots or hyphens. The first character must be a letter.",
        ),
        ({"feature": 1}, "feature is not text. Send text in double quotes."),
        (
            {"quantity": "1"},
            "quantity is not a whole number. Send digits without quotes, fraction or exponent, such as 1.",
        ),
        ({"quantity": 0}, "quantity is too small. Send 1 or more."),
        ({"quantity": 1_000_000_001}, "quantity is too large. Send at most 1000000000."),
        (
            {"idempotencyKey": ""},
            "idempotencyKey has the wrong form. Send 1 to 255 visible ASCII characters, without spaces.",
        ),
        ({"sourceId": "a" * 256}, "sourceId is too long. Send at most 255 characters."),
        ({"metadata": []}, "metadata is not an object. Send a JSON object, in braces."),
        (
            {"metadata": {"a": "x" * 4096}},
            "metadata is too long. Send at most 4096 bytes, counted as compact JSON in UTF-8.",
        ),
        (
            {"metadata": {"0": NESTED_8}},
            "metadata is nested too deeply. Send at most 8 levels, including metadata itself.",
        ),
        ({"Feature": "api_calls"}, "This name is unknown. Remove it, or correct its spelling."),
    ],
)
def test_an_issue_says_what_to_send(members: dict[str, object], message: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        record_usage_input(example(**members))
    assert [issue.message for issue in refused.value.issues] == [message]


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(InputInvalid) as refused:
        record_usage_input({"quantity": "1", "idempotencyKey": "abc-123", "more": 1})
    assert {issue.path for issue in refused.value.issues} == {"feature", "quantity", "more"}


def test_only_the_first_50_issues_are_named() -> None:
    with pytest.raises(InputInvalid) as refused:
        record_usage_input(example(**{f"m{number}": 1 for number in range(1000)}))
    assert len(refused.value.issues) == 50


def test_an_issue_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(InputInvalid) as refused:
        record_usage_input(example(sourceId=["s3cret"], metadata="s3cret"))
    assert "s3cret" not in str([issue.message for issue in refused.value.issues])


@pytest.mark.parametrize("members", [7, None, "text", [], True, 1.5])
def test_input_that_is_not_an_object_is_invalid_as_a_whole(members: Any) -> None:
    with pytest.raises(InputInvalid) as refused:
        record_usage_input(members)
    (issue,) = refused.value.issues
    assert (issue.path, issue.code) == ("", "dict_type")
    assert issue.message == "The record is not an object. Send a JSON object, in braces."


# --- batches ---------------------------------------------------------------------------------------------------------


def test_the_records_of_a_batch_are_handed_on_as_they_were_sent() -> None:
    sent = [example(), {"quantity": "1", "more": None}, 7, None, [], example()]
    assert batch_records({"records": sent}) == sent


@pytest.mark.parametrize("number", [1, 100])
def test_a_batch_holds_1_to_100_records(number: int) -> None:
    assert batch_records({"records": [example()] * number}) == [example()] * number


@pytest.mark.parametrize(
    ("members", "path", "code"),
    [
        ({}, "records", "missing"),
        ({"records": None}, "records", "list_type"),
        ({"records": {}}, "records", "list_type"),
        ({"records": {"0": example()}}, "records", "list_type"),
        ({"records": "[]"}, "records", "list_type"),
        ({"records": []}, "records", "too_short"),
        ({"records": [example()] * 101}, "records", "too_long"),
        ({"records": [example()], "organizationId": "acme"}, "organizationId", "extra_forbidden"),
        ({"records": [example()], "idempotencyKey": "abc-123"}, "idempotencyKey", "extra_forbidden"),
    ],
)
def test_a_malformed_batch_is_named(members: dict[str, Any], path: str, code: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        batch_records(members)
    assert [(issue.path, issue.code) for issue in refused.value.issues] == [(path, code)]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({}, "records is not an array. Send a JSON array, in brackets."),
        ([], "records is empty. Send 1 to 100 records."),
        ([example()] * 101, "records has too many records. Send at most 100."),
    ],
)
def test_an_issue_says_how_many_records_to_send(records: Any, message: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        batch_records({"records": records})
    assert [issue.message for issue in refused.value.issues] == [message]
