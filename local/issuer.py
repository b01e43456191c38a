"""The issuer of local tokens: its key, and the documents by which an authorizer checks them. Loopback only."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ops import tokens

_DISCOVERY = "/.well-known/openid-configuration"
_KEY_SET = "/.well-known/jwks.json"


def make_key(path: Path) -> rsa.RSAPrivateKey:
    """A new key, saved as `path` for nobody but the user."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


@contextmanager
def serving(key: rsa.RSAPrivateKey) -> Iterator[str]:
    """Serve the discovery document and the key set of `key`'s issuer, on a free port.

    Yields: the issuer, which is the `iss` of its tokens and where its documents are.
    """
    documents: dict[str, bytes] = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Documents, documents)) as server:
        issuer = f"http://127.0.0.1:{server.server_port}"
        documents[_DISCOVERY] = _json(
            {
                "issuer": issuer,
                "jwks_uri": issuer + _KEY_SET,
                "response_types_supported": ["token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )
        documents[_KEY_SET] = _json({"keys": [tokens.public_jwk(key)]})
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()


class _Documents(BaseHTTPRequestHandler):
    """Answers GET with the document of the path."""

    timeout = 10

    def __init__(self, documents: dict[str, bytes], *arguments: Any) -> None:
        self._documents = documents
        super().__init__(*arguments)

    def do_GET(self) -> None:
        document = self._documents.get(self.path.partition("?")[0])
        if document is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal belongs to the events."""


def _json(content: object) -> bytes:
    return json.dumps(content).encode()
