"""The table's stream: a record of each change, as Lambda delivers it to a function."""

from typing import Any

from tests.simulation.expressions import Item, is_equal
from tests.simulation.table import Key, key_item

ARN = "arn:aws:dynamodb:eu-central-1:123456789012:table/usage/stream/2026-11-01T00:00:00.000"


def record_of(key: Key, before: Item | None, after: Item | None, number: int, at_s: float) -> dict[str, Any] | None:
    """The record of a change at `at_s` seconds since 1970; None if the write changed nothing.

    `number` grows with every change. Sequence numbers have the same order as texts and as numbers.
    """
    if before is after or (before is not None and after is not None and is_equal({"M": before}, {"M": after})):
        return None
    change: dict[str, Any] = {
        "ApproximateCreationDateTime": at_s,
        "Keys": key_item(key),
        "SequenceNumber": f"{number:021d}",
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    if before is not None:
        change["OldImage"] = before
    if after is not None:
        change["NewImage"] = after
    name = "INSERT" if before is None else "REMOVE" if after is None else "MODIFY"
    return {
        "eventID": f"{number:032x}",
        "eventName": name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-central-1",
        "dynamodb": change,
        "eventSourceARN": ARN,
    }
