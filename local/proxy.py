"""The proxy: an ASGI application in front of the emulator's own, in the emulator's process.

The emulator accepts any signature whose access key id fits, answers any `Host` and resets itself for anybody. Through
it a page in the developer's browser can run code as the developer. So the proxy decides by this list, first match:

    a `Host` that is not this stack's       403
    a target that does not begin with `/`   400: a URL, `*`
    `/_ministack/…`, `/_proxy/…`            the emulator, the proxy; 403 without the runner's secret
    an AWS credential                       the emulator; 403 if the key id is unknown or a browser sent it for a page
    anything else                           the API at the root, as on AWS; 503 until `/_proxy/api/<id>` names it

WebSockets are refused. Run as a file by the emulator's Python, so it imports the standard library and ministack only.
"""

import hmac
import importlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

SECRET_HEADER = "X-Proxy-Secret"  # noqa: S105 - its name
SECRET_VARIABLE = "DOOR_SECRET"  # noqa: S105 - its name
FUNCTIONS_LOG_VARIABLE = "DOOR_FUNCTIONS_LOG"
API_PATH = "/_proxy/api/"

_RUNNERS_PATHS = ("/_ministack", "/_proxy")
# As every SDK and command line signs. Stricter than the emulator, so that both read the same key id out of it.
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([A-Za-z0-9]+)/[^,\s]+, ?SignedHeaders=[^,\s]+, ?Signature=[0-9a-f]+"
)
# The query parameters that the emulator takes a key id from: presigned requests, versions 4 and 2.
_CREDENTIAL_PARAMETERS = ("x-amz-credential", "awsaccesskeyid")
_FORM = "application/x-www-form-urlencoded"

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """What the proxy decides by."""

    target: str
    """What stood between method and query, as it was sent."""
    path: str
    """The target decoded, as the emulator routes by it."""
    query: str
    headers: Sequence[tuple[str, str]]
    """With names in lower case."""

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each == name]


class Destination(Enum):
    API = auto()
    EMULATOR = auto()
    DOOR = auto()


@dataclass(frozen=True)
class Refusal:
    status: int
    message: str
    code: str = ""
    """What AWS calls the error; empty if no SDK is to read it."""


def own_hosts(port: int) -> frozenset[str]:
    """The `Host` headers of requests that are meant for a server of ours on `port`.

    Another name may have been made to resolve to this machine, so that a page reads our answers as its own.
    """
    names = ("127.0.0.1", "localhost")
    return frozenset(f"{name}:{port}" for name in names) | frozenset(names if port == 80 else ())


def is_from_page(origins: Iterable[str], sites: Iterable[str]) -> bool:
    """Whether a browser sent the request for a page, by the values of its headers Origin and Sec-Fetch-Site."""
    return any(True for _ in origins) or any(site != "none" for site in sites)


def decide(request: Request, port: int, secret: str, is_known: Callable[[str], bool]) -> Destination | Refusal:
    """Where a request may go that came in on `port`; `is_known` says whether an access key id is one of this run."""
    if not _has_one_of(request.all("host"), own_hosts(port)):
        return Refusal(403, f"This Host is not the local stack's: call http://127.0.0.1:{port}.")
    if not request.target.startswith("/"):
        return Refusal(400, "The request's target begins with /: send a path, and the host in the header Host.")
    if request.path.startswith(_RUNNERS_PATHS):
        if not _is_secret(request.all(SECRET_HEADER.lower()), secret):
            return Refusal(403, f"{request.path} is for the process that runs the stack and nobody else.")
        return Destination.DOOR if request.path.startswith("/_proxy") else Destination.EMULATOR
    claimed = _access_key_ids(request)
    if not claimed:
        return Destination.API
    if not all(key is not None and is_known(key) for key in claimed):
        message = "The access key id is not one of this run: take accessKeyId from build/local.json."
        return Refusal(403, message, "InvalidClientTokenId")
    if is_from_page(request.all("origin"), request.all("sec-fetch-site")):
        return Refusal(403, "A web page cannot call the emulated AWS: call it from outside the browser.")
    return Destination.EMULATOR


def _has_one_of(values: Sequence[str], allowed: Iterable[str]) -> bool:
    return len(values) == 1 and values[0].lower() in allowed


def _is_secret(values: Sequence[str], secret: str) -> bool:
    return len(values) == 1 and hmac.compare_digest(values[0].encode(), secret.encode())


def _access_key_ids(request: Request) -> list[str | None]:
    """Every access key id that the request names, None for a credential that names none; empty without a credential."""
    claimed: list[str | None] = []
    for authorization in request.all("authorization"):
        if authorization.lower().startswith("aws"):
            signed = _SIGNED.fullmatch(authorization)
            claimed.append(signed[1] if signed else None)
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        if name.lower() in _CREDENTIAL_PARAMETERS:
            claimed.append(value.partition("/")[0] or None)
    # The emulator joins repeated headers; nobody needs them, and what it reads there may differ from what we read.
    if claimed and len(request.all("authorization")) > 1:
        claimed.append(None)
    return claimed


class Proxy:
    """The ASGI application."""

    def __init__(self, emulator: Application, port: int, secret: str, is_known: Callable[[str], bool]) -> None:
        self._emulator = emulator
        self._port = port
        self._secret = secret
        self._is_known = is_known
        self._api: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._emulator(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        target = scope["raw_path"].decode("latin-1")
        request = Request(target, scope["path"], scope["query_string"].decode("latin-1"), headers)
        match decide(request, self._port, self._secret, self._is_known):
            case Refusal() as refusal:
                await _reply(send, refusal.status, *_shown(refusal, request))
            case Destination.EMULATOR:
                await self._emulator(scope, receive, _without_cors(send))
            case Destination.DOOR:
                self._api = request.path.removeprefix(API_PATH)
                await _reply(send, 200, *_as_json(f"The API {self._api} is served at the root."))
            case Destination.API if self._api is None:
                not_yet = "The API is not deployed yet: wait until `make run` says that it is ready."
                await _reply(send, 503, *_as_json(not_yet))
            case Destination.API:
                stage = f"/_aws/execute-api/{self._api}/$default"
                inside = {**scope, "path": stage + scope["path"], "raw_path": stage.encode() + scope["raw_path"]}
                await self._emulator(inside, receive, _without_cors(send))


def _shown(refusal: Refusal, request: Request) -> tuple[str, bytes]:
    """The media type and body by which the caller shows the message: as the protocol of the AWS service has errors."""
    error = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
    if refusal.code and any("/s3/aws4_request" in value for value in request.all("authorization")):
        return "application/xml", error.encode()
    if refusal.code and any(value.startswith(_FORM) for value in request.all("content-type")):
        return "text/xml", f"<ErrorResponse>{error}</ErrorResponse>".encode()
    return _as_json(refusal.message, refusal.code)


def _as_json(message: str, code: str = "") -> tuple[str, bytes]:
    # Services differ in the name of the code.
    codes = {"__type": code, "code": code} if code else {}
    return "application/json", json.dumps({**codes, "message": message}).encode()


async def _reply(send: Send, status: int, media_type: str, body: bytes) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _without_cors(send: Send) -> Send:
    """Drop the headers that let a page read an answer: the emulator adds them to many, and no caller needs them."""

    async def send_without(message: Message) -> None:
        headers = message.get("headers")
        if headers is not None:
            kept = [(name, value) for name, value in headers if not name.lower().startswith(b"access-control-")]
            message = {**message, "headers": kept}
        await send(message)

    return send_without


class FunctionsLog:
    """A file of what the functions print: a JSON object a line, as they print it, with the function's name."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, function: str, printed: str) -> None:
        try:
            fields = json.loads(printed)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            fields = {"message": printed}
        line = json.dumps({"function": function, **fields}, ensure_ascii=False)
        # One write: lines of several workers do not mix.
        os.write(self._file, f"{line}\n".encode(errors="replace"))


def watch_workers(runtime: Any, log: FunctionsLog) -> None:
    """Let the emulator's workers write to `log`, and let each one's copy of the bundle go when the worker ends.

    `runtime` is ministack.core.lambda_runtime. Of itself it keeps the copies of killed workers until somebody needs one
    again, and forgets workers that were starting while others of their function failed.
    """
    invoke = runtime.Worker.invoke

    def read_output(worker: Any) -> None:
        copy, output, lines = worker._tmpdir, worker._proc.stderr, worker._stderr_queue
        # The end of its output is the end of the worker. ValueError: text that is not UTF-8, or a file just closed.
        with suppress(OSError, ValueError):
            for line in output:
                lines.put(line.rstrip("\n"))
                log.write(worker.func_name, line.rstrip("\n"))
        shutil.rmtree(copy, ignore_errors=True)

    def invoke_and_tell(worker: Any, *arguments: Any, **options: Any) -> Any:
        try:
            result = invoke(worker, *arguments, **options)
        except Exception as failed:
            log.write(worker.func_name, f"the function did not start: {failed}")
            raise
        finally:
            with runtime._lock:
                is_kept = any(worker in workers for workers in runtime._workers.values())
            if not is_kept:
                worker.kill()
        if result.get("status") == "error":
            log.write(worker.func_name, result.get("trace") or result.get("error", ""))
        return result

    runtime.Worker._read_stderr = read_output
    runtime.Worker.invoke = invoke_and_tell


def salt_credentials(runtime: Any) -> None:
    """Give the emulator's workers credentials that are random in each run.

    `runtime` is ministack.core.lambda_runtime, before others import from it. Of itself it derives them from the ARNs of
    the function and its role, which are the same on every machine.
    """
    derive, salt = runtime.execution_credentials, secrets.token_hex(16)

    def execution_credentials(config: dict[str, Any]) -> dict[str, str]:
        # All that it takes of the role beside the hash is what follows the last slash.
        credentials: dict[str, str] = derive({**config, "Role": f"{salt}/{config.get('Role', '')}"})
        return credentials

    runtime.execution_credentials = execution_credentials


def main() -> None:
    # Taken out of the environment: workers inherit it.
    secret = os.environ.pop(SECRET_VARIABLE)
    log = FunctionsLog(Path(os.environ.pop(FUNCTIONS_LOG_VARIABLE)))
    runtime = importlib.import_module("ministack.core.lambda_runtime")
    watch_workers(runtime, log)
    salt_credentials(runtime)
    emulator = importlib.import_module("ministack.app")
    root_key = os.environ["AWS_ACCESS_KEY_ID"]

    def is_known(access_key_id: str) -> bool:
        # The emulator imports it when it makes the first session, for a worker: until then there are none.
        sessions = sys.modules.get("ministack.services.sts")
        return access_key_id == root_key or (sessions is not None and access_key_id in sessions._sessions)

    # Its main() serves whatever has this name.
    vars(emulator)["app"] = Proxy(emulator.app, int(os.environ["GATEWAY_PORT"]), secret, is_known)
    emulator.main()


if __name__ == "__main__":
    main()
