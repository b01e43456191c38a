"""The proxy between the functions and AWS, which injects the faults.

One HTTP server receives every call. Each environment has its own endpoint, `/<its number>`. The proxy forwards calls of
DynamoDB to the engine and answers calls of EventBridge, S3 and SQS itself. It also cancels a transaction that needs an
item of another transaction in flight. DynamoDB does so, but no engine.
"""

import http.client
import json
import threading
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.faults.bus import Bus, FailureBucket, Queue
from tests.faults.environment import Environment
from tests.faults.faults import TRANSACTIONS, Call, Faults

# DynamoDB holds an item for about 6 ms of a transaction. Less is enough here, because all calls are faster.
_HELD_S = 0.001
# Longer than a call's timeout, than a request's deadline, and than most functions' timeouts.
_SLOW_S = (3.0, 9.0, 70.0)


@dataclass(frozen=True)
class Answer:
    """The answer of a service."""

    status: int
    content: bytes
    headers: tuple[tuple[str, str], ...] = ()


class _Broken(Exception):
    """The connection breaks without an answer."""


@dataclass
class Wire:
    """Forwards or answers calls, and injects their faults."""

    engine: str
    faults: Faults
    bus: Bus
    store: FailureBucket
    queue: Queue
    environments: dict[int, Environment] = field(default_factory=dict)
    url: str = ""
    conflicts: int = 0
    """Transactions that conflicted without an injected fault."""
    _held: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _mine: threading.local = field(default_factory=threading.local)

    def pass_on(self, environment: Environment, request: "_Request") -> Answer:
        """Make one call with its fault and return the answer.

        Raises:
            _Broken: the connection breaks without an answer.
        """
        call = environment.next_call(request.operation, request.parts, request.counters)
        fault = self.faults.at(call)
        match fault:
            case None:
                return self._make(request, call)
            case "not sent":
                raise _Broken
            case "answer lost":
                self._make(request, call)
                raise _Broken
            case "throttled":
                return _error(request, *((503, "SlowDown") if request.is_s3 else (400, "ThrottlingException")))
            case "failed":
                return _error(request, 500, "InternalServerError")
            case "failed after all":
                self._make(request, call)
                return _error(request, 500, "InternalServerError")
            case "slow" | "slow and lost":
                answer = self._make(request, call)
                environment.fall_behind(self.faults.random(call).choice(_SLOW_S))
                if fault == "slow":
                    return answer
                raise _Broken
            case "killed before":
                environment.kill()
                raise _Broken
            case "killed after":
                self._make(request, call)
                environment.kill()
                raise _Broken
            case "some refused":
                return self._make(request, call, failing=0.5)
            case "all refused":
                return self._make(request, call, failing=1.0)
        kind, _, item = fault.partition(" on ")
        code = {"conflict": "TransactionConflict", "throttled": "ThrottlingError"}[kind]
        return _cancelled(call.parts, {int(item)}, code)

    def _make(self, request: "_Request", call: Call, failing: float = 0.0) -> Answer:
        if request.is_s3:
            self.store.put(request.path, request.body)
            return Answer(200, b"", (("ETag", '"0"'),))
        if request.operation == "PutEvents":
            status, body = self.bus.put_events(request.body, failing, self.faults.random(call))
            return _json(status, body)
        if request.operation == "SendMessage":
            return _json(200, self.queue.send(request.body))
        held = request.items if request.operation == "TransactWriteItems" else []
        if conflicting := self._conflicting(request.items) if not held else self._acquire(held):
            return _cancelled(call.parts, conflicting, "TransactionConflict")
        try:
            answer = self._ask_engine(request)
            if held:
                time.sleep(_HELD_S)
            return answer
        finally:
            self._release(held)

    def _acquire(self, items: list[str]) -> set[int]:
        """Hold all items, or none if another transaction holds one.

        Returns: the indexes of the items that another transaction holds.
        """
        with self._lock:
            conflicting = self._conflicting(items)
            if conflicting:
                self.conflicts += 1
            else:
                self._held.update(items)
            return conflicting

    def _conflicting(self, items: list[str]) -> set[int]:
        """The indexes of the items that a writing transaction holds. Two reading transactions never conflict."""
        return {index for index, item in enumerate(items) if item in self._held}

    def _release(self, items: list[str]) -> None:
        with self._lock:
            self._held.difference_update(items)

    def _ask_engine(self, request: "_Request") -> Answer:
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(urlsplit(self.engine).netloc, timeout=60)
            self._mine.connection = connection
        try:
            # The emulator's proxy only accepts its own host name.
            host = urlsplit(self.engine).netloc
            headers = {**request.headers, "Host": host, "Content-Length": str(len(request.body))}
            connection.request("POST", "/", request.body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            self._mine.connection = None
            connection.close()
            raise
        kept = tuple((name, value) for name, value in answer.getheaders() if name.lower() == "content-type")
        return Answer(answer.status, content, kept)


@dataclass(frozen=True)
class _Request:
    path: str
    headers: dict[str, str]
    body: bytes
    operation: str

    @property
    def is_s3(self) -> bool:
        return self.operation == "PutObject"

    @property
    def items(self) -> list[str]:
        """The keys of the items that the transaction writes or reads."""
        if self.operation not in TRANSACTIONS:
            return []
        return [_key(item) for item in json.loads(self.body)["TransactItems"]]

    @property
    def parts(self) -> int:
        if self.operation == "PutEvents":
            return len(json.loads(self.body)["Entries"])
        return len(self.items)

    @property
    def counters(self) -> tuple[int, ...]:
        return tuple(index for index, item in enumerate(self.items) if item.startswith("counter#"))


def _key(item: dict[str, Any]) -> str:
    key = item["Put"]["Item"] if "Put" in item else next(iter(item.values()))["Key"]
    return f"{key['pk']['S']} {key['sk']['S']}"


@contextmanager
def serving(wire: Wire) -> Iterator[None]:
    """Serve `wire` at its `url` until the end of the block."""
    handler = type("Handler", (_Handler,), {"wire": wire})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        wire.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Send each answer in one packet. Otherwise the body waits 40 ms for the acknowledgment of the headers.
    wbufsize = -1
    disable_nagle_algorithm = True
    wire: Wire

    def do_POST(self) -> None:
        self._pass_on(self.headers["X-Amz-Target"].rpartition(".")[2])

    def do_PUT(self) -> None:
        self._pass_on("PutObject")

    def _pass_on(self, operation: str) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            # The process was killed because of another call that it made in parallel.
            self.close_connection = True
            return
        number, _, path = self.path.removeprefix("/").partition("/")
        request = _Request(path, dict(self.headers.items()), body, operation)
        try:
            answer = self.wire.pass_on(self.wire.environments[int(number)], request)
        except _Broken:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in (*answer.headers, ("Content-Length", str(len(answer.content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def handle_expect_100(self) -> bool:
        # Flush now, because S3's client waits up to a second for this answer.
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def handle(self) -> None:
        # The calling process may have been killed.
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


def _json(status: int, body: Any) -> Answer:
    return Answer(status, json.dumps(body).encode(), (("Content-Type", "application/x-amz-json-1.0"),))


def _error(request: _Request, status: int, code: str) -> Answer:
    if request.is_s3:
        content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>not now</Message></Error>"
        return Answer(status, content.encode(), (("Content-Type", "application/xml"),))
    return _json(status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "not now"})


def _cancelled(items: int, at: Container[int], code: str) -> Answer:
    reasons = [{"Code": code if item in at else "None"} for item in range(items)]
    kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
    return _json(400, {"__type": kind, "Message": "cancelled", "CancellationReasons": reasons})
