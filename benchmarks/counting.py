"""Counts what the calls of a client are billed as, attempt by attempt, below everything that may hide one.

Hooks on the client's own events: they see each request as it is sent and each answer as it comes, botocore's retries,
failures and cancelled transactions included. How large the items are that a call wrote or read is not in its answer: an
`observer`, another client of the same table, looks at them before and after. For one thread per table.

What a call costs that was not simply done:
- A failed condition costs what the write would have cost.
- A cancelled transaction is counted in full, whatever it was cancelled for: an upper bound, as DynamoDB does not say.
- A throttled or malformed call costs nothing.
- A lost answer costs what its call did.

Source: DynamoDB developer guide, "DynamoDB read and write operations" and "Amazon DynamoDB Transactions: How it works".
"""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.units import billed_events, item_bytes, read_units, write_units

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient

Item: TypeAlias = dict[str, Any]

# Turned away before anything was done.
_NOT_DONE = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "ValidationException",
}
# What of a Query narrows its answer and nothing else. None of ours has placeholders for names in its key condition.
_SELECTING = {"ProjectionExpression", "FilterExpression", "ExpressionAttributeNames", "ReturnConsumedCapacity"}
# What BatchGetItem takes at most.
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
    """The code that it was answered with, or the exception that stood for an answer."""
    reported_units: float | None = None
    """What the emulator says that it has consumed, where it was asked."""


@dataclass(frozen=True)
class Change:
    """An item that was written, as a stream has it; empty where there was, or is, none."""

    key: Item
    before: Item
    after: Item


@dataclass
class Tally:
    """What was counted so far."""

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

    @property
    def by_operation(self) -> Counter[str]:
        return Counter(call.operation for call in self.calls)

    def take(self) -> "Tally":
        """What was counted since the last time; from now on it begins anew."""
        taken = Tally(self.calls[:], self.changes[:])
        self.calls.clear()
        self.changes.clear()
        return taken


def count_dynamodb(client: "DynamoDBClient", observer: "DynamoDBClient", tally: Tally, *, ask: bool = False) -> None:
    """Count the calls of `client` in `tally` from now on; if `ask`, also what the engine says that they consumed."""
    counting = _DynamoDB(observer, tally)
    events: Any = client.meta.events
    # First, as an emulator in process does the call right there.
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
    """One item that a request writes, or makes a condition on."""

    table: str
    key: Item
    transactional: bool
    put: Item = field(default_factory=dict)


@dataclass(frozen=True)
class _Sent:
    """A request that is under way, and what was there before it."""

    operation: str
    asked: dict[str, Any]
    writes: list[_Write]
    before: list[Item]


class _DynamoDB:
    def __init__(self, observer: "DynamoDBClient", tally: Tally) -> None:
        self._observer = observer
        self._tally = tally
        # An attempt's answer comes in the thread that sent it.
        self._mine = threading.local()
        self._keys: dict[str, list[str]] = {}

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
            if before != after:
                self._tally.changes.append(Change(write.key, before, after))
        self._tally.calls.append(
            Call(
                sent.operation,
                write_units=units,
                # Here, as botocore would take what is raised before an answer for a failure of the call.
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

    def _reads(self, operation: str, asked: dict[str, Any]) -> Iterator[float]:
        """The units of each read in the request: what it answers of the items that it read does not matter."""
        match operation:
            case "GetItem":
                yield self._read(asked["TableName"], asked["Key"], asked)
            case "TransactGetItems":
                for each in asked["TransactItems"]:
                    part = each["Get"]
                    # Twice what a consistent read costs.
                    yield 2 * self._read(part["TableName"], part["Key"], {"ConsistentRead": True})
            case "Query":
                # All that it reads, whatever it selects of it.
                whole = {name: each for name, each in asked.items() if name not in _SELECTING}
                size = sum(item_bytes(item) for item in self._observer.query(**whole)["Items"])
                yield read_units(size, consistent=asked.get("ConsistentRead", False))
            case _:
                # Better none than one that is not counted.
                raise NotImplementedError(f"what {operation} costs is not known here")

    def _read(self, table: str, key: Item, asked: Mapping[str, Any]) -> float:
        (item,) = self._look([_Write(table, key, transactional=False)])
        return read_units(item_bytes(item), consistent=asked.get("ConsistentRead", False))

    def _look(self, writes: list[_Write]) -> list[Item]:
        """The items as they are at this moment."""
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
            # They may all be out.
            published = entries
        elif error is not None:
            published = []
        else:
            answers = zip(entries, parsed_response["Entries"], strict=True)
            published = [entry for entry, answer in answers if "ErrorCode" not in answer]
        # Appending is atomic: threads may share a tally.
        self._tally.calls.append(Call(operation, events=billed_events(published), error=error))


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
