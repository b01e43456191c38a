"""The issuer of local tokens on loopback: its key, its discovery documents and its token endpoint.

/.well-known/openid-configuration   the discovery document
/.well-known/jwks.json              the key set
/token                              OAuth 2.0 client credentials; the client id is the organization, with any secret
"""

import base64
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, unquote

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from metering.model.names import ORGANIZATION_NAME_PATTERN

from local.proxy import is_from_page, own_hosts
from ops import tokens
from ops.local_stack import AUDIENCE

if TYPE_CHECKING:
    from email.message import Message

    Headers: TypeAlias = Message[str, str]

TOKEN_PATH = "/token"  # noqa: S105 - a path
_DISCOVERY = "/.well-known/openid-configuration"
_KEY_SET = "/.well-known/jwks.json"
_TOKEN_LIFETIME_S = 3600
_MAX_BYTES = 10 * 1024 * 1024  # API Gateway's limit


def make_key(path: Path) -> RSAPrivateKey:
    """Create a key and save it as `path`, readable by the user only."""
    key = generate_private_key(public_exponent=65537, key_size=2048)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


class Issuer(ThreadingHTTPServer):
    """A server on loopback that signs tokens with `key`."""

    daemon_threads = True

    def __init__(self, port: int, key: RSAPrivateKey, handler: type["Handler"]) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.key = key
        self.url = f"http://127.0.0.1:{self.server_port}"
        """The issuer: the `iss` of its tokens and the base URL of its documents."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect before the answer. The terminal shows events only."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Handles requests of local programs and of pages from its own origin, under its own host names only."""

    server: Issuer
    timeout = 60

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if not self.headers.get("Content-Length", "0").isdecimal():
            self.send_error(400, "Content-Length is not a number")
            return False
        if not _is_ours(self.headers, self.server.server_port):
            self.send_error(403, f"Call {self.server.url}, and not from a page of another origin")
            return False
        return True

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == _DISCOVERY:
            self.answer_json(200, _discovery(self.server.url))
        elif path == _KEY_SET:
            self.answer_json(200, {"keys": [tokens.public_jwk(self.server.key)]})
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        if self.path.partition("?")[0] == TOKEN_PATH:
            self._issue()
        else:
            self.send_error(404)

    def _issue(self) -> None:
        # The client sends its id by Basic authentication or in the form. Source: RFC 6749, sections 4.4 and 2.3.1.
        form = parse_qs(self.body().decode(errors="replace"))
        organization = (_basic_user(self.headers) or form.get("client_id", [""])[0]).strip()
        if not re.fullmatch(ORGANIZATION_NAME_PATTERN, organization):
            self.answer_json(401, {"error": "invalid_client"})
            return
        if form.get("grant_type", ["client_credentials"]) != ["client_credentials"]:
            self.answer_json(400, {"error": "unsupported_grant_type"})
            return
        scopes = form.get("scope", [" ".join(tokens.SCOPES)])[0].split()
        token = tokens.sign(self.server.key, self.server.url, AUDIENCE, organization, scopes, _TOKEN_LIFETIME_S)
        self.answer_json(200, {"access_token": token, "token_type": "Bearer", "expires_in": _TOKEN_LIFETIME_S})

    def answer_json(self, status: int, content: object) -> None:
        self.answer(status, json.dumps(content).encode(), "application/json")

    def answer(self, status: int, body: bytes, media_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": media_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(min(int(self.headers.get("Content-Length") or 0), _MAX_BYTES))

    def log_message(self, *_: Any) -> None:
        """Print nothing. The terminal shows events only."""


@contextmanager
def serving(key: RSAPrivateKey, port: int = 0, handler: type[Handler] = Handler) -> Iterator[str]:
    """Serve the issuer of tokens signed by `key` on `port`, with `handler`. Port 0 is any free port.

    Yields: the issuer's URL.
    """
    with Issuer(port, key, handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def _discovery(issuer: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "jwks_uri": issuer + _KEY_SET,
        "token_endpoint": issuer + TOKEN_PATH,
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "response_types_supported": ["token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }


def _is_ours(headers: "Headers", port: int) -> bool:
    hosts = headers.get_all("Host") or []
    if len(hosts) != 1 or hosts[0].lower() not in own_hosts(port):
        return False
    origins = [origin for origin in headers.get_all("Origin") or [] if origin.lower() != f"http://{hosts[0].lower()}"]
    sites = [site for site in headers.get_all("Sec-Fetch-Site") or [] if site != "same-origin"]
    return not is_from_page(origins, sites)


def _basic_user(headers: "Headers") -> str:
    kind, _, encoded = headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return ""
    try:
        return unquote(base64.b64decode(encoded).decode().partition(":")[0])
    except ValueError:
        return ""
