"""The sizes are computed by hand from DynamoDB's and EventBridge's documentation."""

from typing import Any

import pytest

from benchmarks.units import billed_events, billed_http_requests, entry_bytes, item_bytes, read_units, write_units

pytestmark = pytest.mark.verify


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "abc"}, 3),
        ({"S": ""}, 0),
        # Two, three and four bytes in UTF-8.
        ({"S": "é"}, 2),
        ({"S": "€"}, 3),
        ({"S": "😀"}, 4),
        # One byte for each two significant digits, and one more.
        ({"N": "0"}, 1),
        ({"N": "7"}, 2),
        ({"N": "12"}, 2),
        ({"N": "123"}, 3),
        ({"N": "1234567"}, 5),
        # Leading and trailing zeros are trimmed.
        ({"N": "1000000"}, 2),
        ({"N": "0.00012"}, 2),
        ({"N": "1.50"}, 2),
        ({"N": "1.5E+20"}, 2),
        ({"N": "-12"}, 3),
        ({"N": "12345678901234567890123456789012345678"}, 20),
        # The raw bytes, given as bytes by botocore or as base64 on the wire.
        ({"B": b"\x00\x01\x02"}, 3),
        ({"B": "AAEC"}, 3),
        ({"BOOL": True}, 1),
        ({"BOOL": False}, 1),
        ({"NULL": True}, 1),
        ({"SS": ["ab", "cde"]}, 5),
        ({"NS": ["1", "123"]}, 5),
        # 3 bytes, and 1 more for each element.
        ({"L": []}, 3),
        ({"M": {}}, 3),
        ({"L": [{"S": "ab"}, {"N": "1"}]}, 3 + (1 + 2) + (1 + 2)),
        ({"M": {"key": {"S": "ab"}, "n": {"BOOL": True}}}, 3 + (1 + 3 + 2) + (1 + 1 + 1)),
        ({"L": [{"M": {"a": {"L": []}}}]}, 3 + (1 + 3 + (1 + 1 + 3))),
    ],
)
def test_an_attribute_is_as_large_as_its_name_and_its_value(value: Any, size: int) -> None:
    assert item_bytes({"name": value}) == len("name") + size


def test_a_name_counts_in_utf_8() -> None:
    assert item_bytes({"größe": {"S": ""}}) == 7


def test_an_item_is_as_large_as_its_attributes_together() -> None:
    item = {"pk": {"S": "usage#demo-org#6c"}, "sk": {"S": "abc-123"}, "quantity": {"N": "250"}}
    assert item_bytes(item) == (2 + 17) + (2 + 7) + (8 + 2)
    assert item_bytes({}) == 0


def test_an_unknown_dynamodb_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="no type X"):
        item_bytes({"name": {"X": "1"}})


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (1024, 1), (1025, 2), (2048, 2), (400 * 1024, 400)])
def test_a_write_is_billed_per_started_kib_and_twice_in_a_transaction(size: int, units: int) -> None:
    assert write_units(size) == units
    assert write_units(size, transactional=True) == 2 * units


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (4096, 1), (4097, 2), (8192, 2)])
def test_a_read_is_billed_per_started_4_kib_and_half_if_eventually_consistent(size: int, units: int) -> None:
    assert read_units(size, consistent=True) == units
    assert read_units(size, consistent=False) == units / 2


def test_an_entry_is_as_large_as_its_texts_and_14_bytes_of_time() -> None:
    entry = {"EventBusName": "any", "Source": "saas.billing", "DetailType": "é", "Detail": "{}"}
    assert entry_bytes(entry) == 12 + 2 + 2
    assert entry_bytes(entry | {"Time": 1795393204, "Resources": ["ab", "c"]}) == 16 + 14 + 3


def test_an_event_is_billed_per_started_64_kib() -> None:
    assert billed_events([{"Detail": "x" * 65_536}]) == 1
    assert billed_events([{"Detail": "x" * 65_537}]) == 2
    # Each entry is billed separately.
    assert billed_events([{"Detail": "x"}, {"Detail": "x"}, {"Detail": "x" * 70_000}]) == 4
    assert billed_events([]) == 0


@pytest.mark.parametrize(("size", "requests"), [(0, 1), (524_288, 1), (524_289, 2), (1_048_576, 2)])
def test_a_request_is_billed_per_started_512_kib(size: int, requests: int) -> None:
    assert billed_http_requests(size) == requests
