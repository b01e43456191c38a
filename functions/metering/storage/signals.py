"""Failures that storage reports to its callers. None of them reaches a caller of the API.

MeteringError
├── StoreBusy                     DynamoDB throttled or did not answer; a write may have been committed
│   └── ItemsBusy                 a read of several items met a transaction, or a throttle, at some of them
└── MalformedItem                 an item in the table is not what its key says
"""

from collections.abc import Sequence

from metering.model.errors import MeteringError


class StoreBusy(MeteringError):
    """DynamoDB throttled the call, failed, or did not answer; a write may have been committed."""


class ItemsBusy(StoreBusy):
    """Another transaction held some of the items that were to be read together, or DynamoDB throttled them.

    `positions` says which. Nothing was read of any.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__("another transaction holds some of the items")
        self.positions = tuple(positions)


class MalformedItem(MeteringError):
    """An item, or an image of one in the stream, lacks or breaks what its kind promises; the message says what."""
