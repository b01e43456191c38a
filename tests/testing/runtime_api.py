"""A Runtime API on loopback, which gives events to a Lambda runtime and receives their outcomes.

    GET  /2018-06-01/runtime/invocation/next            blocks until the next event
    POST /2018-06-01/runtime/invocation/{id}/response
    POST /2018-06-01/runtime/invocation/{id}/error
    POST /2018-06-01/runtime/init/error
    GET  /2018-06-01/runtime/restore/next

Source: Lambda developer guide, "Using the Lambda runtime API for custom runtimes".
"""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

_PREFIX = "/2018-06-01/runtime"
_FUNCTION_ARN = "arn:aws:lambda:eu-central-1:123456789012:function:usage-metering"


@dataclass(frozen=True)
class Outcome:
    """The end of an invocation or of the initialization: `response`, `error` or `init error`, with its body."""

    kind: str
    body: Any
    at_s: float
    """On the monotonic clock."""


@dataclass(frozen=True)
class _Invocation:
    id: str
    body: bytes
    deadline_ms: int


class RuntimeApi:
    """The API for one execution environment."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._invocations: SimpleQueue[_Invocation | None] = SimpleQueue()
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self._asked: SimpleQueue[float] = SimpleQueue()

    def offer(self, event: Any, timeout_s: float) -> None:
        """Give `event` to the runtime at its next request, with a deadline of `timeout_s` from now."""
        deadline_ms = int((time.time() + timeout_s) * 1000)
        self._invocations.put(_Invocation(str(uuid.uuid4()), json.dumps(event).encode(), deadline_ms))

    def outcome(self, within_s: float) -> Outcome | None:
        """Wait up to `within_s` for the next outcome; None if none arrives."""
        try:
            return self._outcomes.get(timeout=max(0.0, within_s))
        except Empty:
            return None

    def asked(self, within_s: float) -> float | None:
        """Wait up to `within_s` for the runtime to request an event.

        Returns: the monotonic time of each request once; None if no request arrives.
        """
        try:
            return self._asked.get(timeout=max(0.0, within_s))
        except Empty:
            return None

    def next_invocation(self) -> _Invocation | None:
        """Wait for the next event on behalf of the runtime; None: no more events follow."""
        self._asked.put(time.monotonic())
        return self._invocations.get()

    def finish(self, kind: str, body: bytes) -> None:
        self._outcomes.put(Outcome(kind, json.loads(body), time.monotonic()))

    def close(self) -> None:
        self._invocations.put(None)


@contextmanager
def serving() -> Iterator[RuntimeApi]:
    """Serve the API until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    api = RuntimeApi(f"127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"api": api})
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.close()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Send each answer in one piece. A second piece would wait for the acknowledgement of the first.
    wbufsize = -1
    disable_nagle_algorithm = True
    api: RuntimeApi

    def do_GET(self) -> None:
        if self.path == f"{_PREFIX}/restore/next":
            self._answer(200)
            return
        invocation = self.api.next_invocation()
        if invocation is None:
            self.close_connection = True
            return
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": _FUNCTION_ARN,
            "Lambda-Runtime-Trace-Id": "Root=1-6923a5f4-0a1b2c3d4e5f60718293a4b5;Sampled=0",
        }
        self._answer(200, headers, invocation.body)

    def do_POST(self) -> None:
        body = self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self._sized()
        if self.path == f"{_PREFIX}/init/error":
            self.api.finish("init error", body)
        else:
            self.api.finish(self.path.rpartition("/")[2], body)
        self._answer(202)

    def _sized(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass
