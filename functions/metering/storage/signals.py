"""What storage tells its callers when it does not do what was asked. No caller of the API ever sees one.

MeteringError
├── StoreBusy                     DynamoDB throttled or did not answer; whether a write landed is not known
│   └── ItemsHeld                 a read of several items met a transaction, or a throttle, at some of them
├── Contended                     another transaction held one of our items; nothing was written
├── LimitExceeded                 the usage does not fit a hard limit; nothing was written
├── CounterIsSoft                 the counter began without a hard limit this period; nothing was written
├── CounterIsHard                 a hard limit holds that the caller did not know; nothing was written
└── MalformedItem                 an item in the table is not what its key says
"""

from collections.abc import Sequence

from metering.model.errors import MeteringError


class StoreBusy(MeteringError):
    """DynamoDB throttled the call, failed, or did not answer; whether a write landed is not known.

    `on_counter` says that it throttled the counter's shard, and that alone: nothing was written, and another shard may
    be free.
    """

    def __init__(self, message: str = "DynamoDB is busy", *, on_counter: bool = False) -> None:
        super().__init__(message)
        self.on_counter = on_counter


class ItemsHeld(StoreBusy):
    """Another transaction held some of the items that were to be read together, or DynamoDB throttled them.

    `positions` says which. Nothing was read of any.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__("another transaction holds some of the items")
        self.positions = tuple(positions)


class Contended(MeteringError):
    """Another transaction held one of the items; nothing was written.

    `on_counter` says that it was the counter's shard: another shard may be free.
    """

    def __init__(self, *, on_counter: bool) -> None:
        super().__init__("another transaction held the " + ("counter" if on_counter else "record"))
        self.on_counter = on_counter


class LimitExceeded(MeteringError):
    """The usage would have taken the counter beyond its hard limit; nothing was written. `total` is what it held."""

    def __init__(self, total: int) -> None:
        super().__init__("the usage does not fit the limit")
        self.total = total


class CounterIsSoft(MeteringError):
    """The counter was begun in this period without a hard limit, which therefore holds from the next one on."""


class CounterIsHard(MeteringError):
    """The counter is under a hard limit, and the usage was to be added without one: read its plan again."""


class MalformedItem(MeteringError):
    """An item, or an image of one in the stream, lacks or breaks what its kind promises; the message says what."""
