"""A page to read and try the API: its OpenAPI document in Swagger UI, on loopback.

/               Swagger UI, from the package that local/package-lock.json pins
/openapi.json   the document, leading to the two below
/token          OAuth 2.0 client credentials: the client's id is the organization, any secret will do
/api/…          the local stack's API; by this way because a browser asks no other origin without its consent
"""

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from local.setup import ROOT
from ops import openapi

if TYPE_CHECKING:
    from email.message import Message

_PACKAGE = ROOT / "local" / "node_modules" / "swagger-ui-dist"
_FILES = {
    "/swagger-ui.css": "text/css",
    "/swagger-ui-bundle.js": "text/javascript",
    "/favicon-32x32.png": "image/png",
}
_TOKEN_LIFETIME_S = 3600
_MOST_BYTES = 10 * 1024 * 1024  # as API Gateway

_INDEX = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>usage-metering</title>
<link rel="stylesheet" href="swagger-ui.css">
<link rel="icon" href="favicon-32x32.png">
</head>
<body>
<div id="page"></div>
<script src="swagger-ui-bundle.js"></script>
<script>
const page = SwaggerUIBundle({url: "openapi.json", dom_id: "#page", tryItOutEnabled: true, validatorUrl: null});
page.initOAuth({clientId: "demo-org", clientSecret: "any", scopes: "usage:write usage:read"});
</script>
</body>
</html>
"""

# Signs a token for an organization with these scopes and this lifetime in seconds.
Sign = Callable[[str, Sequence[str], int], str]


@contextmanager
def serving(api_url: str, sign: Sign) -> Iterator[str]:
    """Serve the page of the API at `api_url`, on a free port.

    Yields: the page's URL.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Page, api_url, sign)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def document() -> dict[str, Any]:
    """The API's document, with the local stack's server and token endpoint."""
    local = openapi.document()
    local["servers"] = [{"url": "/api", "description": "The local stack"}]
    local["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]["tokenUrl"] = "/token"
    return local


class _Page(BaseHTTPRequestHandler):
    timeout = 60

    def __init__(self, api_url: str, sign: Sign, *arguments: Any) -> None:
        self._api_url = api_url
        self._sign = sign
        super().__init__(*arguments)

    def parse_request(self) -> bool:
        # Only by the name it was started under: a page of another origin may have its name resolved to here.
        if not super().parse_request():
            return False
        host = self.headers.get("Host", "").partition(":")[0]
        if host in {"127.0.0.1", "localhost"} and self.headers.get("Content-Length", "0").isdecimal():
            return True
        self.send_error(400)
        return False

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._answer(200, _INDEX, "text/html; charset=utf-8")
        elif path == "/openapi.json":
            self._answer(200, openapi.as_text(document()).encode(), "application/json")
        elif path in _FILES:
            self._answer(200, (_PACKAGE / path[1:]).read_bytes(), _FILES[path])
        else:
            self._pass_on()

    def do_POST(self) -> None:
        if self.path == "/token":
            self._issue()
        else:
            self._pass_on()

    do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names that http.server asks for

    def _issue(self) -> None:
        # Source: RFC 6749, 4.4 and 2.3.1: the client says who it is by Basic authentication or in the form.
        form = parse_qs(self._body().decode(errors="replace"))
        organization = (_basic_user(self.headers) or form.get("client_id", [""])[0]).strip()
        if not organization:
            self._answer(401, b'{"error":"invalid_client"}', "application/json")
            return
        scopes = form.get("scope", ["usage:write usage:read"])[0].split()
        token = self._sign(organization, scopes, _TOKEN_LIFETIME_S)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": _TOKEN_LIFETIME_S}
        self._answer(200, json.dumps(answer).encode(), "application/json")

    def _pass_on(self) -> None:
        prefix, _, path = self.path.partition("/api/")
        if prefix:
            self._answer(404, b"not found", "text/plain")
            return
        names = ("Authorization", "Content-Type", "Idempotency-Key")
        headers = {name: self.headers[name] for name in names if name in self.headers}
        request = urllib.request.Request(  # noqa: S310 - the local stack's URL
            f"{self._api_url}/{path}", self._body() or None, headers, method=self.command
        )
        # Without the proxies that the user may have set: this is loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                self._relay(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as refused:
            self._relay(refused.code, refused.headers, refused.read())
        except (OSError, HTTPException):
            self._answer(502, b"the local stack does not answer", "text/plain")

    def _relay(self, status: int, headers: "Message[str, str]", body: bytes) -> None:
        told = {name: headers[name] for name in ("Idempotent-Replayed", "Retry-After", "Allow") if name in headers}
        self._answer(status, body, headers.get("Content-Type", "application/json"), told)

    def _answer(self, status: int, body: bytes, media_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": media_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        return self.rfile.read(min(int(self.headers.get("Content-Length") or 0), _MOST_BYTES))

    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal belongs to the events."""


def _basic_user(headers: "Message[str, str]") -> str:
    kind, _, encoded = headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return ""
    try:
        return unquote(base64.b64decode(encoded).decode().partition(":")[0])
    except ValueError:
        return ""
