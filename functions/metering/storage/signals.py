"""Failures that storage reports to its callers. None of them reaches a caller of the API.

MeteringError
├── StoreBusy                     DynamoDB throttled or did not answer; a write may have been committed
│   └── ItemsBusy                 a transaction held some of the items of a read, or DynamoDB throttled them
└── MalformedItem                 an item in the table does not have the form that its key requires
"""

from collections.abc import Sequence

from metering.model.errors import MeteringError


class StoreBusy(MeteringError):
    """DynamoDB throttled the call, failed, or did not answer; a write may have been committed."""


class ItemsBusy(StoreBusy):
    """Another transaction held some of the items of one read, or DynamoDB throttled them.

    `positions` are their positions in the read. No item was read.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__("another transaction holds some of the items")
        self.positions = tuple(positions)


class MalformedItem(MeteringError):
    """An item, or a stream's image of one, does not have the form of its kind. The message says where."""
