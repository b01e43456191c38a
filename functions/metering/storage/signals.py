"""Failures that storage reports to its callers. None of them reaches a caller of the API.

MeteringError
├── StoreBusy                     DynamoDB throttled or did not answer; a write is possibly committed
│   └── ItemsBusy                 a transaction held some of the items of a read, or DynamoDB throttled them
└── MalformedItem                 an item in the table does not have the form that its key requires
"""

from collections.abc import Sequence

from metering.model.errors import MeteringError


class StoreBusy(MeteringError):
    """DynamoDB throttled the call, failed, or did not answer. It is unknown whether a write was committed."""


class ItemsBusy(StoreBusy):
    """Another transaction held some of the items of one read, or DynamoDB throttled them.

    `positions` are the positions of these items in the read. The read returned no item.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__("another transaction holds some of the items")
        self.positions = tuple(positions)


class MalformedItem(MeteringError):
    """An item, or its image in the stream, does not have the form that its key requires. The message says where."""
