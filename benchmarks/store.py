"""A DynamoDB that gives fixed answers at once, so that only the function's own work is measured."""

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

ANSWERS: dict[str, Any] = {
    "GetItem": {
        "Item": {
            "pk": {"S": "organization#demo-org"},
            "sk": {"S": "organization"},
            "organizationId": {"S": "demo-org"},
            "status": {"S": "active"},
        }
    },
    "TransactWriteItems": {},
    "Query": {"Items": [{"sk": {"S": "api_calls#0"}, "total": {"N": "100"}}], "Count": 1, "ScannedCount": 1},
}


class Store:
    """The running store: its URL, and the calls that it received."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls: list[tuple[str, Any]] = []
        """The operation and the input of each call, in order."""


@contextmanager
def serving() -> Iterator[Store]:
    """Run the store on loopback until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    store = Store(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"store": store})
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    store: Store

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        self.store.calls.append((operation, json.loads(asked)))
        body = json.dumps(ANSWERS[operation]).encode()
        self.send_response_only(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("x-amzn-RequestId", "VVG0000000000000000000000000000000000000000000000000")
        self.send_header("x-amz-crc32", str(zlib.crc32(body)))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass
