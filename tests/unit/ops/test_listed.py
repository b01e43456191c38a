import threading
from typing import TYPE_CHECKING, Any

import pytest
from metering.storage.lists import LISTED_IN, LISTS, PARTS, organizations_list, organizations_lists
from metering.storage.organization_items import organization_key

from ops import listed
from ops.errors import TableBusy
from tests.testing.table import put_organization

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NAMES = [f"o{number:03}" for number in range(230)]


@pytest.fixture
def stored(dynamodb: "DynamoDBClient") -> "DynamoDBClient":
    """A table with so many organizations that a read of all takes three calls."""
    for name in NAMES:
        put_organization(dynamodb, "usage", name, "active")
    return dynamodb


def _keys(*names: str) -> list[Any]:
    return [organization_key(name) for name in names]


def _names(items: list[Any]) -> list[str]:
    return sorted(item["pk"]["S"].partition("#")[2] for item in items)


def _all(client: "DynamoDBClient") -> list[Any]:
    return listed.keys(client, "usage", LISTS, LISTED_IN, organizations_lists())


def test_all_lists_are_read_several_at_a_time(stored: "DynamoDBClient") -> None:
    asked: list[str] = []
    threads: set[int] = set()

    def see(params: Any, **_: Any) -> None:
        asked.append(params["ExpressionAttributeValues"][":value"]["S"])
        threads.add(threading.get_ident())

    stored.meta.events.register("before-parameter-build.dynamodb.Query", see)
    assert _names(_all(stored)) == ["acme", "demo-org", *NAMES]
    assert sorted(asked) == [each["S"] for each in organizations_lists()]
    assert len(asked) == PARTS
    assert len(threads) > 1


def test_every_page_of_a_list_is_read(stored: "DynamoDBClient") -> None:
    pages: list[Any] = []

    def shorten(params: Any, **_: Any) -> None:
        pages.append(params)
        params["Limit"] = 1

    stored.meta.events.register("provide-client-params.dynamodb.Query", shorten)
    assert _names(_all(stored)) == ["acme", "demo-org", *NAMES]
    assert len(pages) > len(NAMES)


def test_other_values_of_the_index_are_left_out(stored: "DynamoDBClient") -> None:
    (only,) = [organizations_list("acme")]
    found = listed.keys(stored, "usage", LISTS, LISTED_IN, [only])
    assert _names(found) == [name for name in ["acme", "demo-org", *NAMES] if organizations_list(name) == only]


def test_all_named_items_are_read_consistently(stored: "DynamoDBClient") -> None:
    calls: list[Any] = []
    stored.meta.events.register(
        "before-parameter-build.dynamodb.BatchGetItem",
        lambda params, **_: calls.append(params["RequestItems"]["usage"]),
    )
    found = listed.items(stored, "usage", _keys(*NAMES))
    assert (_names(found), found[0]["status"]) == (NAMES, {"S": "active"})
    assert sorted(len(call["Keys"]) for call in calls) == [30, 100, 100]
    assert [call["ConsistentRead"] for call in calls] == [True] * 3


def test_an_item_that_no_longer_exists_is_left_out(dynamodb: "DynamoDBClient") -> None:
    assert _names(listed.items(dynamodb, "usage", _keys("acme", "gone"))) == ["acme"]


def test_without_keys_nothing_is_read(dynamodb: "DynamoDBClient") -> None:
    calls: list[Any] = []
    dynamodb.meta.events.register("before-send.dynamodb", lambda **call: calls.append(call))
    assert (listed.items(dynamodb, "usage", []), calls) == ([], [])


def _leave_unread(client: "DynamoDBClient", times: int) -> list[int]:
    """Leave all keys but the first unread, in the next `times` answers.

    Returns: a list that collects the number of keys in each call.
    """
    asked: list[int] = []

    def leave(parsed: Any, **_: Any) -> None:
        if len(asked) <= times:
            rest = parsed["Responses"]["usage"][1:]
            del parsed["Responses"]["usage"][1:]
            keys = [{name: item[name] for name in ("pk", "sk")} for item in rest]
            parsed["UnprocessedKeys"] = {"usage": {"Keys": keys, "ConsistentRead": True}}

    events: Any = client.meta.events
    events.register(
        "before-parameter-build.dynamodb.BatchGetItem",
        lambda params, **_: asked.append(len(params["RequestItems"]["usage"]["Keys"])),
    )
    events.register("after-call.dynamodb.BatchGetItem", leave)
    return asked


def test_items_that_were_left_unread_are_read_after_a_wait(stored: "DynamoDBClient") -> None:
    asked, waits = _leave_unread(stored, 2), list[float]()
    assert _names(listed.items(stored, "usage", _keys(*NAMES[:5]), waits.append)) == NAMES[:5]
    assert asked == [5, 4, 3]
    assert len(waits) == 2
    assert all(0 <= wait <= 0.04 for wait in waits)


def test_items_that_stay_unread_are_an_error(stored: "DynamoDBClient") -> None:
    # At least one key stays unread in every answer.
    _leave_unread(stored, 1_000)
    waits: list[float] = []
    with pytest.raises(TableBusy, match=r"left items unread during 20 tries: run the command again later\.$"):
        listed.items(stored, "usage", _keys(*NAMES[:50]), waits.append)
    assert len(waits) == 20
