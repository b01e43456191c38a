"""A page to read and try the API: its OpenAPI document in Swagger UI, on loopback, beside the issuer's paths.

/               Swagger UI, from the package that local/package-lock.json pins
/openapi.json   the document, leading to the issuer's token endpoint and to the one below
/api/…          the local stack's API; by this way because a browser asks no other origin without its consent
"""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, InvalidURL
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from local import issuer
from tools import openapi
from tools.setup import ROOT

if TYPE_CHECKING:
    from email.message import Message

_PACKAGE = ROOT / "local" / "node_modules" / "swagger-ui-dist"
_FILES = {
    "/swagger-ui.css": "text/css",
    "/swagger-ui-bundle.js": "text/javascript",
    "/favicon-32x32.png": "image/png",
}

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


@contextmanager
def serving(key: RSAPrivateKey, api_url: str, port: int) -> Iterator[str]:
    """Serve the page of the API at `api_url`, and the issuer of `key`'s tokens, on `port`.

    Yields: the issuer, which is the page's URL without the slash at its end.
    """
    page = type("Page", (_Page,), {"api_url": api_url, "passed_on": _headers_of_requests()})
    with issuer.serving(key, port, page) as url:
        yield url


def document() -> dict[str, Any]:
    """The API's document, with the local stack's server and token endpoint."""
    local = openapi.document()
    local["servers"] = [{"url": "/api", "description": "The local stack"}]
    flows = local["components"]["securitySchemes"]["oauth2"]["flows"]
    flows["clientCredentials"]["tokenUrl"] = issuer.TOKEN_PATH
    return local


def _headers_of_requests() -> frozenset[str]:
    """The headers that the API reads: its parameters, the token's, and the body's."""
    operations = [operation for path in document()["paths"].values() for operation in path.values()]
    parameters = {given["name"] for each in operations for given in each["parameters"] if given["in"] == "header"}
    return frozenset({"Authorization", "Content-Type", "Content-Encoding", *parameters})


class _Page(issuer.Handler):
    api_url: str
    passed_on: frozenset[str]
    """The names of the headers that a call is passed on with."""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
        path = self.path.partition("?")[0]
        if path == "/":
            self.answer(200, _INDEX, "text/html; charset=utf-8")
        elif path == "/openapi.json":
            self.answer(200, openapi.as_text(document()).encode(), "application/json")
        elif path in _FILES:
            self.answer(200, (_PACKAGE / path[1:]).read_bytes(), _FILES[path])
        elif path.startswith("/api/"):
            self._pass_on()
        else:
            super().do_GET()

    def do_POST(self) -> None:  # noqa: N802
        if self.path.startswith("/api/"):
            self._pass_on()
        else:
            super().do_POST()

    def _pass_on(self) -> None:
        path = self.path.removeprefix("/api/")
        headers = {name: self.headers[name] for name in self.passed_on if name in self.headers}
        request = urllib.request.Request(  # noqa: S310 - the local stack's URL
            f"{self.api_url}/{path}", self.body() or None, headers, method=self.command
        )
        # Without the proxies that the user may have set: this is loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                self._relay(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as refused:
            self._relay(refused.code, refused.headers, refused.read())
        except (UnicodeEncodeError, InvalidURL):
            self.answer(400, b"the path has characters that no URL has: send them percent-encoded", "text/plain")
        except (OSError, HTTPException):
            self.answer(502, b"the local stack does not answer", "text/plain")

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 - the names that http.server asks for

    def _relay(self, status: int, headers: "Message[str, str]", body: bytes) -> None:
        told = {name: headers[name] for name in ("Idempotent-Replayed", "Retry-After", "Allow") if name in headers}
        self.answer(status, body, headers.get("Content-Type", "application/json"), told)
