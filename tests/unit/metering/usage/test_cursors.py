import base64
import json
from typing import Any

import pytest
from metering.model.errors import BadRequest
from metering.model.usage import RecordFilter
from metering.storage.usage_records import bucket_of
from metering.usage.cursors import START, Position, position_after, position_in, to_text

ALL = RecordFilter()
POSITIONS = [START, Position(255), position_after("k"), position_after('"' * 255), position_after("\\" * 255)]

WRONG_BUCKETS: list[Any] = [-1, 256, 1.0, True, None, "0", [0], {}]
WRONG_KEYS: list[Any] = ["", "a b", "k" * 256, "ü", 7, None]


def _code(cursor: str, organization: str = "demo-org", wanted: RecordFilter = ALL) -> str:
    with pytest.raises(BadRequest) as refused:
        position_in(cursor, organization, wanted)
    (issue,) = refused.value.issues
    assert issue.path == "cursor"
    return issue.code


def _encoded(content: Any) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _content(position: Position = START) -> dict[str, Any]:
    cursor = to_text(position, "demo-org", ALL)
    content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return content


@pytest.mark.parametrize("position", POSITIONS)
def test_a_cursor_holds_its_position(position: Position) -> None:
    wanted = RecordFilter("2026-11", "api_calls")
    assert position_in(to_text(position, "demo-org", wanted), "demo-org", wanted) == position


def test_a_position_is_in_the_bucket_of_its_key() -> None:
    assert position_after("k") == (bucket_of("k"), "k")


def test_a_cursor_needs_no_encoding_in_a_query_string() -> None:
    assert all(to_text(each, "demo-org", ALL).replace("-", "").replace("_", "").isalnum() for each in POSITIONS)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(
    ("organization", "wanted"),
    [
        ("acme", ALL),
        ("demo-org", RecordFilter("2026-11")),
        ("demo-org", RecordFilter(None, "api_calls")),
        ("demo-org", RecordFilter("2026-11", "api_calls")),
    ],
)
def test_a_cursor_of_another_list_is_refused(position: Position, organization: str, wanted: RecordFilter) -> None:
    assert _code(to_text(position, "demo-org", ALL), organization, wanted) == "cursor_of_another_list"
    assert _code(to_text(position, organization, wanted)) == "cursor_of_another_list"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "a",
        "abc",
        "=",
        "ü",
        "a b",
        to_text(START, "demo-org", ALL) + "=",
        "A" * 100_000,
        _encoded(b"[" * 700),
        _encoded(b"\xff\xfe"),
        _encoded(b"9" * 700),
        _encoded([1]),
        _encoded("v"),
        _encoded({}),
        *(_encoded({**_content(), "b": wrong}) for wrong in WRONG_BUCKETS),
        *(_encoded({**_content(position_after("k")), "k": wrong}) for wrong in WRONG_KEYS),
    ],
)
def test_a_malformed_cursor_is_refused(cursor: str) -> None:
    assert _code(cursor) == "cursor_malformed"


@pytest.mark.parametrize(
    "content",
    [
        {**_content(), "v": 2},
        {**_content(), "v": True},
        {**_content(), "d": "0" * 16},
        {**_content(), "d": None},
        {**_content(), "x": 1},
        {**_content(), "k": "k"},
        {"d": _content()["d"], "v": 1, "b": 0},
        {"b": 0},
        json.dumps(_content()).encode(),
        b'{"v":1,"b":7,"b":0,"d":"' + _content()["d"].encode() + b'"}',
    ],
)
def test_a_cursor_that_this_service_would_not_write_is_refused(content: Any) -> None:
    assert _code(_encoded(content)) == "cursor_of_another_list"


def test_a_cursor_with_one_changed_character_is_refused() -> None:
    cursor = to_text(position_after("k"), "demo-org", ALL)
    for at in range(len(cursor)):
        for other in "A-z":
            if other != cursor[at]:
                changed = cursor[:at] + other + cursor[at + 1 :]
                try:
                    position = position_in(changed, "demo-org", ALL)
                except BadRequest:
                    continue
                # Only another valid position of the same list is left.
                assert to_text(position, "demo-org", ALL) == changed
