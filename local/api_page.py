"""A page to read and try the API: Swagger UI on loopback, on the port of the token issuer.

/               Swagger UI, from the package that local/package-lock.json pins
/openapi.json   the OpenAPI document, with the issuer's token endpoint and the path below as its server
/api/…          the local stack's API on the page's own origin, because the API has no CORS
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
    """Serve the page for the API at `api_url`, and the issuer of tokens signed by `key`, on `port`.

    Yields: the issuer's URL, which is the page's URL without the final slash.
    """
    page = type("Page", (_Page,), {"api_url": api_url, "passed_on": _headers_of_requests()})
    with issuer.serving(key, port, page) as url:
        yield url


def document() -> dict[str, Any]:
    """The OpenAPI document, with the local stack as server and its token endpoint."""
    local = openapi.document()
    local["servers"] = [{"url": "/api", "description": "The local stack"}]
    flows = local["components"]["securitySchemes"]["oauth2"]["flows"]
    flows["clientCredentials"]["tokenUrl"] = issuer.TOKEN_PATH
    return local


def _headers_of_requests() -> frozenset[str]:
    """The request headers that the API reads, for parameters, token and body."""
    operations = [operation for path in document()["paths"].values() for operation in path.values()]
    parameters = {given["name"] for each in operations for given in each["parameters"] if given["in"] == "header"}
    return frozenset({"Authorization", "Content-Type", "Content-Encoding", *parameters})


class _Page(issuer.Handler):
    api_url: str
    passed_on: frozenset[str]
    """Names of the request headers that are forwarded to the API."""

    def do_GET(self) -> None:  # noqa: N802 - http.server requires this name
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
        # Ignore the user's proxy settings, because this is loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                self._relay(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as refused:
            self._relay(refused.code, refused.headers, refused.read())
        except (UnicodeEncodeError, InvalidURL):
            self.answer(400, b"the path has characters that are invalid in a URL: percent-encode them", "text/plain")
        except (OSError, HTTPException):
            self.answer(502, b"the local stack does not answer: see the output of `make run`", "text/plain")

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 - http.server requires these names

    def _relay(self, status: int, headers: "Message[str, str]", body: bytes) -> None:
        kept = {name: headers[name] for name in ("Idempotent-Replayed", "Retry-After", "Allow") if name in headers}
        self.answer(status, body, headers.get("Content-Type", "application/json"), kept)
