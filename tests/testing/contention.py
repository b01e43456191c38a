"""Simulates what DynamoDB does and no emulator shows: conflicting transactions, throttling and lost answers.

The hooks use the events of one client, so all code above the network is real. They do not affect other processes.
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

# The kinds of items that a transaction may hold. For a single record they are also the positions in the transaction.
RECORD, COUNTER = 0, 1


@dataclass
class Contention:
    """Answers a transaction with TransactionConflict while another one on the same client holds one of its items.

    `watch` lists the kinds of items that may conflict. A transaction holds its items during its call and for `hold_s`
    more.
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
    """Answer the next calls of `operation` with `answers`. None passes the call on.

    Returns: a list that collects the requests.
    """
    waiting = iter(answers)
    seen: list[Any] = []

    def respond(params: Any, **_: Any) -> tuple[AWSResponse, Any] | None:
        seen.append(json.loads(params["body"]))
        answer = next(waiting, None)
        return None if answer is None else (answer, parsed(answer))

    # Hook before the call, not before it is sent, because moto also runs calls that an earlier hook answered.
    events: Any = client.meta.events
    events.register(f"before-call.dynamodb.{operation}", respond)
    return seen


def hold_counters(client: "DynamoDBClient", is_held: Callable[[str], bool]) -> list[set[str]]:
    """Cancel each transaction that adds to a feature for which `is_held` is true.

    Returns: a list that collects the features of each transaction.
    """
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
    """Make a committed transaction visible item by item, which no emulator does.

    Reads by `operation` (Query, BatchGetItem) find nothing until `conflicts` transactional reads were answered with a
    conflict.

    Returns: a function that returns whether all items are visible now.
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
    """Apply the next `times` calls of `operation`, but lose their answers.

    Returns: a function that returns the number of lost answers so far.
    """
    lost = 0

    def lose(**_: Any) -> None:
        nonlocal lost
        if lost < times:
            lost += 1
            raise ReadTimeoutError(endpoint_url="https://dynamodb")

    client.meta.events.register(f"needs-retry.dynamodb.{operation}", lose)
    return lambda: lost


def cancelled(codes: Iterable[str]) -> Any:
    """The answer for a cancelled transaction, with these cancellation reasons in the order of its items."""
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
    """The answer in botocore's parsed form, which a hook before a call must return."""
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
