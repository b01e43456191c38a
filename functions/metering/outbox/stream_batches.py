"""A batch of the table's stream, as Lambda sends it, and the answer to Lambda.

    event:   `{"Records": [{eventName, eventSource, dynamodb: {Keys, NewImage?, OldImage?, SequenceNumber}}]}`
    answer:  `{"batchItemFailures": [{itemIdentifier}]}`

Lambda sends the batch again from the record whose SequenceNumber is the itemIdentifier. The eventSource is
`aws:dynamodb`. SQS, S3 and Kinesis use the same outer form with their own `eventSource`, and SNS with an `EventSource`.

Source: AWS Lambda developer guide, "Using AWS Lambda with Amazon DynamoDB".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metering.model.errors import MeteringError
from metering.model.mappings import mapping_in

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

_SOURCE = "aws:dynamodb"
# The number and length of an unexpected event's keys that are logged. They are enough to identify the sender.
_MAX_KEYS, _KEY_LENGTH = 20, 64


class NotAStreamBatch(MeteringError):
    """A stream function received an event that is not a batch of the table's stream. Its trigger is misconfigured.

    The message names the event's `keys`, but no values.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"the event is not a batch of the table's stream; its keys are {', '.join(keys) or 'none'}")
        self.keys = tuple(keys)


def records_in(event: Any, logger: "Logger") -> list[Any]:
    """Return the records of a batch of the table's stream, in order. A record can still be malformed.

    Raises:
        NotAStreamBatch: `event` is something else. The log shows only the event's keys.
    """
    records = event.get("Records") if isinstance(event, Mapping) else None
    if isinstance(records, list) and not any(_is_foreign(record) for record in records):
        return records
    keys = [key[:_KEY_LENGTH] for key in _keys(event, records)][:_MAX_KEYS]
    logger.error("event is not a batch of the table's stream", extra={"keys": keys})
    raise NotAStreamBatch(keys)


def change_in(record: Any) -> Mapping[str, Any]:
    """Return the item's change in the stream record; empty if there is none."""
    return mapping_in(record, "dynamodb")


def sequence_number(record: Any) -> str:
    """Return the stream record's sequence number in its shard of the stream; empty if the record has none."""
    return str(change_in(record).get("SequenceNumber", ""))


def answer(first_not_done: str | None) -> dict[str, Any]:
    """Return the answer that makes Lambda resend all records from this sequence number on; with None, no record."""
    return {"batchItemFailures": [] if first_not_done is None else [{"itemIdentifier": first_not_done}]}


def _is_foreign(record: Any) -> bool:
    record = mapping_in(record)
    return any(record.get(name, _SOURCE) != _SOURCE for name in ("eventSource", "EventSource"))


def _keys(event: Any, records: Any) -> Iterator[str]:
    yield from map(str, mapping_in(event))
    if isinstance(records, list):
        for record in records[:1]:
            yield from (f"Records.0.{key}" for key in mapping_in(record))
