"""A batch of the table's stream, as Lambda hands it over, and what it is answered.

    {"Records": [{eventName, eventSource: "aws:dynamodb", dynamodb: {Keys, NewImage?, OldImage?, SequenceNumber}}]}
    {"batchItemFailures": [{itemIdentifier: the SequenceNumber from which Lambda is to send the rest again}]}

Source: AWS Lambda developer guide, "Using AWS Lambda with Amazon DynamoDB". SQS, S3 and Kinesis use the same outer
form with an `eventSource` of their own, SNS with an `EventSource`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metering.model.errors import MeteringError
from metering.model.mappings import mapping_in

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

_SOURCE = "aws:dynamodb"
# So many keys of an event are logged, each cut to this length: enough to see where the event comes from.
_MAX_KEYS, _KEY_LENGTH = 20, 64


class NotAStreamBatch(MeteringError):
    """A stream function got another event than a batch of the table's stream: it is wired wrongly.

    The message names the event's `keys` and no value of it.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"the event is no batch of the table's stream, it has the keys: {', '.join(keys) or 'none'}")
        self.keys = tuple(keys)


def records_in(event: Any, logger: "Logger") -> list[Any]:
    """The records of a batch of the table's stream, in order; each may still be malformed.

    Raises:
        NotAStreamBatch: `event` is something else. Its keys are logged and nothing else of it.
    """
    records = event.get("Records") if isinstance(event, Mapping) else None
    if isinstance(records, list) and not any(_is_foreign(record) for record in records):
        return records
    keys = [key[:_KEY_LENGTH] for key in _keys(event, records)][:_MAX_KEYS]
    logger.error("event is no batch of the table's stream", extra={"keys": keys})
    raise NotAStreamBatch(keys)


def change_in(record: Any) -> Mapping[str, Any]:
    """The item's change that the stream record holds; empty if it holds none."""
    return mapping_in(record, "dynamodb")


def sequence_number(record: Any) -> str:
    """The stream record's number in its shard; empty if it has none."""
    return str(change_in(record).get("SequenceNumber", ""))


def answer(first_not_done: str | None) -> dict[str, Any]:
    """What Lambda is to send again: everything from the record with this sequence number on; None: nothing."""
    return {"batchItemFailures": [] if first_not_done is None else [{"itemIdentifier": first_not_done}]}


def _is_foreign(record: Any) -> bool:
    record = mapping_in(record)
    return any(record.get(name, _SOURCE) != _SOURCE for name in ("eventSource", "EventSource"))


def _keys(event: Any, records: Any) -> Iterator[str]:
    yield from map(str, mapping_in(event))
    if isinstance(records, list):
        for record in records[:1]:
            yield from (f"Records.0.{key}" for key in mapping_in(record))
