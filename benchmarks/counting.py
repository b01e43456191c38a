"""Counts the billed units of a client's calls, attempt by attempt.

Hooks on the client's own events see each request and each answer, with botocore's retries, failures and cancelled
transactions. Answers do not contain the sizes of the items. So an `observer`, another client of the same table, reads
the items before and after each call. Use one thread per table.

Calls that fail:
- A failed condition costs as much as the write.
- A cancelled transaction counts in full, for any reason. DynamoDB does not say, so this is an upper bound.
- A throttled or malformed call costs nothing.
- A call whose answer is lost costs as much as an answered one.

Source: DynamoDB developer guide, "DynamoDB read and write operations" and "Amazon DynamoDB Transactions".
"""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.units import billed_events, item_bytes, read_units, write_units

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient

Item: TypeAlias = dict[str, Any]

# Errors that DynamoDB answers before it does anything.
_NOT_DONE = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "ValidationException",
}
# Parameters of a Query that narrow its answer and not its reads. Our key conditions have no placeholders for names.
_SELECTING = {"ProjectionExpression", "FilterExpression", "ExpressionAttributeNames", "ReturnConsumedCapacity"}
# The maximum of BatchGetItem.
_MOST_LOOKED_AT = 100


@dataclass(frozen=True)
class Call:
    """One attempt of one call."""

    operation: str
    write_units: int = 0
    read_units: float = 0
    events: int = 0
    written_items: int = 0
    error: str | None = None
    """The error code of the answer, or the name of the exception if there was no answer."""
    reported_units: float | None = None
    """The units that the engine reported, if it was asked for them."""


@dataclass(frozen=True)
class Change:
    """A written item, as a stream record shows it. `before` or `after` is empty if there was no item."""

    key: Item
    before: Item
    after: Item


@dataclass
class Tally:
    """The calls and changes counted so far."""

    calls: list[Call] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    @property
    def write_units(self) -> int:
        return sum(call.write_units for call in self.calls)

    @property
    def read_units(self) -> float:
        return sum(call.read_units for call in self.calls)

    @property
    def events(self) -> int:
        return sum(call.events for call in self.calls)

    def take(self) -> "Tally":
        """Return the calls and changes since the last `take`, and start again from zero."""
        taken = Tally(self.calls[:], self.changes[:])
        self.calls.clear()
        self.changes.clear()
        return taken


def count_dynamodb(client: "DynamoDBClient", observer: "DynamoDBClient", tally: Tally, *, ask: bool = False) -> None:
    """Count the calls of `client` in `tally` from now on. If `ask`, record the units that the engine reports, too."""
    counting = _DynamoDB(observer, tally)
    events: Any = client.meta.events
    # First, because an in-process emulator executes the call at this event.
    events.register_first("before-send.dynamodb", counting.sent)
    events.register("response-received.dynamodb", counting.answered)
    if ask:
        events.register("provide-client-params.dynamodb", _asking)


def count_events(client: "EventBridgeClient", tally: Tally) -> None:
    """Count the calls of `client` in `tally` from now on."""
    counting = _EventBridge(tally)
    events: Any = client.meta.events
    events.register_first("before-send.events", counting.sent)
    events.register("response-received.events", counting.answered)


def _asking(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    return {**params, "ReturnConsumedCapacity": "TOTAL"}


@dataclass(frozen=True)
class _Write:
    """One item that a request writes, or checks with a condition."""

    table: str
    key: Item
    transactional: bool
    put: Item = field(default_factory=dict)


@dataclass(frozen=True)
class _Sent:
    """A request without an answer yet, and its items from before it."""

    operation: str
    asked: dict[str, Any]
    writes: list[_Write]
    before: list[Item]


class _DynamoDB:
    def __init__(self, observer: "DynamoDBClient", tally: Tally) -> None:
        self._observer = observer
        self._tally = tally
        # An attempt's answer arrives in the thread that sent the attempt.
        self._mine = threading.local()
        self._keys: dict[str, list[str]] = {}
        self._indexes: dict[str, list[str]] = {}

    def sent(self, request: Any, **_: Any) -> None:
        operation, asked = _operation(request), json.loads(request.body)
        writes = list(self._writes(operation, asked))
        self._mine.sent = _Sent(operation, asked, writes, self._look(writes))

    def answered(self, parsed_response: Any, exception: Any, **_: Any) -> None:
        sent: _Sent = self._mine.sent
        error = _error(parsed_response, exception)
        if error in _NOT_DONE:
            self._tally.calls.append(Call(sent.operation, error=error))
            return
        units = 0
        for write, before, after in zip(sent.writes, sent.before, self._look(sent.writes), strict=True):
            largest = max(item_bytes(each) for each in (before, after, write.put))
            units += write_units(largest, transactional=write.transactional)
            units += sum(_index_units(before.get(name), after.get(name)) for name in self._index_names(write.table))
            if before != after:
                self._tally.changes.append(Change(write.key, before, after))
        self._tally.calls.append(
            Call(
                sent.operation,
                write_units=units,
                # Computed after the answer. Before it, botocore would treat an exception here as a failure of the call.
                read_units=0 if sent.writes else sum(self._reads(sent.operation, sent.asked)),
                written_items=len(sent.writes),
                error=error,
                reported_units=_reported(parsed_response),
            )
        )

    def _writes(self, operation: str, asked: dict[str, Any]) -> Iterator[_Write]:
        match operation:
            case "PutItem" | "UpdateItem" | "DeleteItem":
                yield self._write(asked, transactional=False)
            case "TransactWriteItems":
                for item in asked["TransactItems"]:
                    (part,) = item.values()
                    yield self._write(part, transactional=True)

    def _write(self, part: dict[str, Any], *, transactional: bool) -> _Write:
        put = part.get("Item", {})
        key = part.get("Key") or {name: put[name] for name in self._key_names(part["TableName"])}
        return _Write(part["TableName"], key, transactional, put)

    def _key_names(self, table: str) -> list[str]:
        if table not in self._keys:
            described = self._observer.describe_table(TableName=table)["Table"]
            self._keys[table] = [each["AttributeName"] for each in described["KeySchema"]]
        return self._keys[table]

    def _index_names(self, table: str) -> list[str]:
        """The partition keys of the table's indexes. They hold only keys, and their other keys are the table's own."""
        if table not in self._indexes:
            described = self._observer.describe_table(TableName=table)["Table"]
            schemas = [each["KeySchema"] for each in described.get("GlobalSecondaryIndexes", ())]
            self._indexes[table] = [schema[0]["AttributeName"] for schema in schemas]
        return self._indexes[table]

    def _reads(self, operation: str, asked: dict[str, Any]) -> Iterator[float]:
        """The units of each read in the request. The part of the items that the answer contains does not matter."""
        match operation:
            case "GetItem":
                yield self._read(asked["TableName"], asked["Key"], asked)
            case "TransactGetItems":
                for each in asked["TransactItems"]:
                    part = each["Get"]
                    # Twice the units of a consistent read.
                    yield 2 * self._read(part["TableName"], part["Key"], {"ConsistentRead": True})
            case "Query":
                # Everything that it reads counts, not only the selected part.
                whole = {name: each for name, each in asked.items() if name not in _SELECTING}
                size = sum(item_bytes(item) for item in self._observer.query(**whole)["Items"])
                yield read_units(size, consistent=asked.get("ConsistentRead", False))
            case _:
                # An error is better than a call that is not counted.
                raise NotImplementedError(f"the cost of {operation} is unknown: add it to {__name__}")

    def _read(self, table: str, key: Item, asked: Mapping[str, Any]) -> float:
        (item,) = self._look([_Write(table, key, transactional=False)])
        return read_units(item_bytes(item), consistent=asked.get("ConsistentRead", False))

    def _look(self, writes: list[_Write]) -> list[Item]:
        """Read the items of `writes` as they are now. An item is empty if there is none."""
        found: dict[str, Item] = {}
        for start in range(0, len(writes), _MOST_LOOKED_AT):
            wanted: dict[str, Any] = {}
            for write in writes[start : start + _MOST_LOOKED_AT]:
                wanted.setdefault(write.table, {"Keys": [], "ConsistentRead": True})["Keys"].append(write.key)
            answers = self._observer.batch_get_item(RequestItems=wanted)["Responses"]
            for table, items in answers.items():
                names = self._key_names(table)
                found |= {_name(table, {name: item[name] for name in names}): item for item in items}
        return [found.get(_name(write.table, write.key), {}) for write in writes]


class _EventBridge:
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._mine = threading.local()

    def sent(self, request: Any, **_: Any) -> None:
        self._mine.sent = _operation(request), json.loads(request.body).get("Entries", [])

    def answered(self, parsed_response: Any, exception: Any, **_: Any) -> None:
        operation, entries = self._mine.sent
        error = _error(parsed_response, exception)
        if exception is not None:
            # The answer is lost, so all entries may be published.
            published = entries
        elif error is not None:
            published = []
        else:
            answers = zip(entries, parsed_response["Entries"], strict=True)
            published = [entry for entry, answer in answers if "ErrorCode" not in answer]
        # Appending is atomic, so threads may share a tally.
        self._tally.calls.append(Call(operation, events=billed_events(published), error=error))


def _index_units(before: Any, after: Any) -> int:
    """The write units of an index entry below 1 KB, also in a transaction: one to delete, one to put."""
    return 0 if before == after else (before is not None) + (after is not None)


def _operation(request: Any) -> str:
    target = request.headers["X-Amz-Target"]
    text: str = target.decode() if isinstance(target, bytes) else target
    return text.rpartition(".")[2]


def _error(parsed: Any, exception: Any) -> str | None:
    if exception is not None:
        return type(exception).__name__
    code: str | None = (parsed or {}).get("Error", {}).get("Code")
    return code


def _reported(parsed: Any) -> float | None:
    consumed = (parsed or {}).get("ConsumedCapacity")
    if not consumed:
        return None
    return float(sum(each["CapacityUnits"] for each in (consumed if isinstance(consumed, list) else [consumed])))


def _name(table: str, key: Item) -> str:
    return f"{table} {json.dumps(key, sort_keys=True, default=repr)}"
