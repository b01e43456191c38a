"""What DynamoDB does and no emulator shows: transactions that hold items, throttling, answers that get lost.

Hooks on a client's own events, so everything above the wire is real. They see the calls of one process.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ReadTimeoutError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# What may be held; in a single record's transaction, the positions.
RECORD, COUNTER = 0, 1


@dataclass
class Contention:
    """Answers a transaction with TransactionConflict while another one on the same client holds one of its items.

    `watch` are the kinds of items that may conflict; one is held for the call's own time and `hold_s` more.
    """

    client: "DynamoDBClient"
    watch: tuple[int, ...] = (RECORD, COUNTER)
    hold_s: float = 0.0
    conflicts: int = 0
    _held: set[tuple[int, str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _mine: threading.local = field(default_factory=threading.local)

    def __post_init__(self) -> None:
        events: Any = self.client.meta.events
        events.register("before-send.dynamodb.TransactWriteItems", self._acquire)
        events.register("response-received.dynamodb.TransactWriteItems", self._release)

    def _acquire(self, request: Any, **_: Any) -> Any:
        keys = _keys(request)
        watched = [index for index, (kind, _) in enumerate(keys) if kind in self.watch]
        with self._lock:
            conflicting = {index for index in watched if keys[index] in self._held}
            if conflicting:
                self.conflicts += 1
                self._mine.keys = set()
                return cancelled("TransactionConflict" if at in conflicting else "None" for at in range(len(keys)))
            self._mine.keys = {keys[index] for index in watched}
            self._held |= self._mine.keys
        return None

    def _release(self, **_: Any) -> None:
        if self._mine.keys and self.hold_s:
            time.sleep(self.hold_s)
        with self._lock:
            self._held -= self._mine.keys


def answer_with(client: "DynamoDBClient", operation: str, answers: Iterable[AWSResponse | None]) -> list[Any]:
    """Answer the next calls of `operation` with these, each None let through; the requests are collected."""
    waiting = iter(answers)
    seen: list[Any] = []

    def respond(params: Any, **_: Any) -> tuple[AWSResponse, Any] | None:
        seen.append(json.loads(params["body"]))
        answer = next(waiting, None)
        return None if answer is None else (answer, parsed(answer))

    # Before the call rather than before it is sent: moto runs a call that another hook has answered already.
    events: Any = client.meta.events
    events.register(f"before-call.dynamodb.{operation}", respond)
    return seen


def hold_counters(client: "DynamoDBClient", is_held: Callable[[str], bool]) -> list[set[str]]:
    """Cancel what adds to a feature that `is_held`; the features of each transaction are collected."""
    seen: list[set[str]] = []

    def respond(params: Any, **_: Any) -> tuple[AWSResponse, Any] | None:
        actions = json.loads(params["body"])["TransactItems"]
        features = [
            each["Update"]["Key"]["sk"]["S"].rpartition("#")[0] if "Update" in each else None for each in actions
        ]
        seen.append({feature for feature in features if feature is not None})
        codes = ["TransactionConflict" if each is not None and is_held(each) else "None" for each in features]
        if "TransactionConflict" not in codes:
            return None
        answer = cancelled(codes)
        return answer, parsed(answer)

    events: Any = client.meta.events
    events.register("before-call.dynamodb.TransactWriteItems", respond)
    return seen


def show_late(client: "DynamoDBClient", operation: str, conflicts: int) -> Callable[[], bool]:
    """Let a committed transaction become visible item by item, which no emulator does.

    Reads by `operation` (Query, BatchGetItem) find nothing until so many transactional reads have been answered with a
    conflict. Says whether all is visible by now.
    """
    met = 0

    def find_nothing(parsed: Any, **_: Any) -> None:
        if met <= conflicts:
            for name in ("Items", "Responses"):
                if name in parsed:
                    parsed[name] = type(parsed[name])()

    def conflict(params: Any, **_: Any) -> tuple[AWSResponse, Any] | None:
        nonlocal met
        met += 1
        if met > conflicts:
            return None
        keys = json.loads(params["body"])["TransactItems"]
        answer = cancelled(["TransactionConflict", *["None"] * (len(keys) - 1)])
        return answer, parsed(answer)

    events: Any = client.meta.events
    events.register(f"after-call.dynamodb.{operation}", find_nothing)
    events.register("before-call.dynamodb.TransactGetItems", conflict)
    return lambda: met > conflicts


def lose_answers(client: "DynamoDBClient", operation: str, times: int) -> Callable[[], int]:
    """Let the next calls of `operation` be applied and lose their answers; says how many were lost so far."""
    lost = 0

    def lose(**_: Any) -> None:
        nonlocal lost
        if lost < times:
            lost += 1
            raise ReadTimeoutError(endpoint_url="https://dynamodb")

    client.meta.events.register(f"needs-retry.dynamodb.{operation}", lose)
    return lambda: lost


def cancelled(codes: Iterable[str]) -> Any:
    """A cancelled transaction with these reasons, in the order of its items."""
    return failed("TransactionCanceledException", CancellationReasons=[{"Code": code} for code in codes])


def failed(code: str, status: int = 400, **members: Any) -> Any:
    """DynamoDB's answer with this error."""
    body = {
        "__type": f"com.amazonaws.dynamodb.v20120810#{code}",
        "message": f"{code} of table/usage-metering-table",
        **members,
    }
    response: Any = AWSResponse("https://dynamodb", status, HTTPHeaders(), None)
    response._content = json.dumps(body).encode()
    return response


def parsed(answer: AWSResponse) -> dict[str, Any]:
    """The answer as botocore has read it, for a hook that answers before a call."""
    body = json.loads(answer.content)
    error = {"Code": body["__type"].split("#")[1], "Message": body["message"]}
    return {**body, "Error": error, "ResponseMetadata": {"HTTPStatusCode": answer.status_code}}


def _keys(request: Any) -> list[tuple[int, str]]:
    """The kind and the key of each item."""
    items = json.loads(request.body)["TransactItems"]
    return [_key(item) for item in items]


def _key(item: dict[str, Any]) -> tuple[int, str]:
    kind, key = (RECORD, item["Put"]["Item"]) if "Put" in item else (COUNTER, item["Update"]["Key"])
    return kind, f"{key['pk']['S']} {key['sk']['S']}"
