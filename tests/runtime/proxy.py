"""A proxy before the emulated AWS. It records a function's calls and can hold back an answer."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

# Well below the time that a function waits for the next byte.
_DRIP_S = 0.5


class Proxy:
    """The calls that passed, and the operation whose answers are held back."""

    def __init__(self, url: str, upstream: str) -> None:
        self.url = url
        self.upstream = urlsplit(upstream).netloc
        self.calls: list[tuple[str, bytes]] = []
        """Operation and body of each request, in order. The operation is empty if no header names it."""
        self.closing = Event()
        self._held = ""
        self._lock = threading.Lock()

    def hold_back_answers_to(self, operation: str) -> None:
        """Let this operation complete, but send its answer so slowly that it never arrives."""
        self._held = operation

    def holds(self, operation: str) -> bool:
        return operation != "" and operation == self._held

    def saw(self, operation: str, body: bytes) -> None:
        with self._lock:
            self.calls.append((operation, body))

    def take_operations(self) -> list[str]:
        """The operations since the last call of this method."""
        with self._lock:
            seen, self.calls = self.calls, []
        return [operation for operation, _ in seen]


@contextmanager
def serving(upstream: str) -> Iterator[Proxy]:
    """Run a proxy before `upstream` until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    proxy = Proxy(f"http://127.0.0.1:{server.server_port}", upstream)
    server.RequestHandlerClass = type("Handler", (_Handler,), {"proxy": proxy})
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_POST(self) -> None:
        self._pass_on()

    def do_PUT(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=30)
        try:
            # The emulator's proxy accepts only its own host name. It checks the key id and ignores the signature.
            upstream.putrequest(self.command, self.path, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "host":
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        self.proxy.saw(operation, body)
        if self.proxy.holds(operation):
            self._drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000)
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "content-length", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _drip(self, content: bytes) -> None:
        self.close_connection = True
        for byte in content:
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return  # the waiting function was killed
            if self.proxy.closing.wait(_DRIP_S):
                return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass
