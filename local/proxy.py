"""The proxy: an ASGI application in the emulator's process, in front of the emulator's own application.

The emulator checks only the access key id of a signature, answers any `Host` and lets any caller reset it. Without the
proxy, a page in the developer's browser could run code as the developer. The first matching line decides:

    a `Host` other than this stack's        403
    a target that does not begin with `/`   400, for example a URL or `*`
    `/_ministack/…`, `/_proxy/…`            the emulator or the proxy; 403 without the runner's secret
    an AWS credential                       the emulator; 403 for an unknown key id or a request from a web page
    anything else                           the API at the root, as on AWS; 503 until `/_proxy/api/<id>` names the API

The proxy closes WebSockets. The emulator's Python runs this file, so it imports only the standard library and
ministack.
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

SECRET_HEADER = "X-Proxy-Secret"  # noqa: S105 - a name
SECRET_VARIABLE = "EMULATOR_PROXY_SECRET"  # noqa: S105 - a name
FUNCTIONS_LOG_VARIABLE = "EMULATOR_PROXY_FUNCTIONS_LOG"
API_PATH = "/_proxy/api/"

_RUNNERS_PATHS = ("/_ministack", "/_proxy")
# The form in which every SDK and the AWS CLI sign. It is stricter than the emulator's parser, so that both read the
# same key id.
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([A-Za-z0-9]+)/[^,\s]+, ?SignedHeaders=[^,\s]+, ?Signature=[0-9a-f]+"
)
# The emulator reads key ids from these query parameters of presigned requests, versions 4 and 2.
_CREDENTIAL_PARAMETERS = ("x-amz-credential", "awsaccesskeyid")
_FORM = "application/x-www-form-urlencoded"

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """The parts of a request on which the proxy decides."""

    target: str
    """The raw text between method and query."""
    path: str
    """The decoded target, by which the emulator routes."""
    query: str
    headers: Sequence[tuple[str, str]]
    """Names are in lower case."""

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each == name]


class Destination(Enum):
    API = auto()
    EMULATOR = auto()
    PROXY = auto()


@dataclass(frozen=True)
class Refusal:
    status: int
    message: str
    code: str = ""
    """The error code of AWS, or empty if no SDK reads the answer."""


def own_hosts(port: int) -> frozenset[str]:
    """The `Host` headers that are valid for a local server on `port`.

    An attacker can let another name resolve to this machine (DNS rebinding). Then a page from that name could read the
    answers.
    """
    names = ("127.0.0.1", "localhost")
    return frozenset(f"{name}:{port}" for name in names) | frozenset(names if port == 80 else ())


def is_from_page(origins: Iterable[str], sites: Iterable[str]) -> bool:
    """Whether a browser sent the request for a page, judged by its Origin and Sec-Fetch-Site headers."""
    return any(True for _ in origins) or any(site != "none" for site in sites)


def decide(request: Request, port: int, secret: str, is_known: Callable[[str], bool]) -> Destination | Refusal:
    """Decide on a request received on `port`. `is_known` says whether an access key id belongs to this run."""
    if not _has_one_of(request.all("host"), own_hosts(port)):
        return Refusal(403, f"The Host header does not name the local stack: call http://127.0.0.1:{port}.")
    if not request.target.startswith("/"):
        return Refusal(400, "The request target must begin with /: send a path, and the host in the Host header.")
    if request.path.startswith(_RUNNERS_PATHS):
        if not _is_secret(request.all(SECRET_HEADER.lower()), secret):
            return Refusal(403, f"Only the process that runs the stack is allowed to call {request.path}.")
        return Destination.PROXY if request.path.startswith("/_proxy") else Destination.EMULATOR
    claimed = _access_key_ids(request)
    if not claimed:
        return Destination.API
    if not all(key is not None and is_known(key) for key in claimed):
        message = "The access key id is not from this run: use accessKeyId from build/local.json."
        return Refusal(403, message, "InvalidClientTokenId")
    if is_from_page(request.all("origin"), request.all("sec-fetch-site")):
        return Refusal(403, "A web page cannot call the emulated AWS: call it from outside the browser.")
    return Destination.EMULATOR


def _has_one_of(values: Sequence[str], allowed: Iterable[str]) -> bool:
    return len(values) == 1 and values[0].lower() in allowed


def _is_secret(values: Sequence[str], secret: str) -> bool:
    return len(values) == 1 and hmac.compare_digest(values[0].encode(), secret.encode())


def _access_key_ids(request: Request) -> list[str | None]:
    """The access key ids of all credentials in the request; None for a credential without a valid key id."""
    claimed: list[str | None] = []
    for authorization in request.all("authorization"):
        if authorization.lower().startswith("aws"):
            signed = _SIGNED.fullmatch(authorization)
            claimed.append(signed[1] if signed else None)
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        if name.lower() in _CREDENTIAL_PARAMETERS:
            claimed.append(value.partition("/")[0] or None)
    # The emulator joins repeated headers, so it could read another key id than the proxy. No client repeats the header.
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
            case Destination.PROXY:
                self._api = request.path.removeprefix(API_PATH)
                await _reply(send, 200, *_as_json(f"The API {self._api} is served at the root."))
            case Destination.API if self._api is None:
                not_yet = "The API is not deployed yet: wait until `make run` prints `ready`."
                await _reply(send, 503, *_as_json(not_yet))
            case Destination.API:
                stage = f"/_aws/execute-api/{self._api}/$default"
                inside = {**scope, "path": stage + scope["path"], "raw_path": stage.encode() + scope["raw_path"]}
                await self._emulator(inside, receive, _without_cors(send))


def _shown(refusal: Refusal, request: Request) -> tuple[str, bytes]:
    """The media type and body of an error.

    They follow the protocol of the called AWS service, so that SDKs show the message.
    """
    error = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
    if refusal.code and any("/s3/aws4_request" in value for value in request.all("authorization")):
        return "application/xml", error.encode()
    if refusal.code and any(value.startswith(_FORM) for value in request.all("content-type")):
        return "text/xml", f"<ErrorResponse>{error}</ErrorResponse>".encode()
    return _as_json(refusal.message, refusal.code)


def _as_json(message: str, code: str = "") -> tuple[str, bytes]:
    # AWS services use different names for the code.
    codes = {"__type": code, "code": code} if code else {}
    return "application/json", json.dumps({**codes, "message": message}).encode()


async def _reply(send: Send, status: int, media_type: str, body: bytes) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _without_cors(send: Send) -> Send:
    """Remove the CORS headers that the emulator adds. They let pages read answers, and no caller needs them."""

    async def send_without(message: Message) -> None:
        headers = message.get("headers")
        if headers is not None:
            kept = [(name, value) for name, value in headers if not name.lower().startswith(b"access-control-")]
            message = {**message, "headers": kept}
        await send(message)

    return send_without


class FunctionsLog:
    """The functions' output in a file: one JSON object a line, with the function's name added."""

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
        # One write for each line, so that lines of several workers do not mix.
        os.write(self._file, f"{line}\n".encode(errors="replace"))


def watch_workers(runtime: Any, log: FunctionsLog) -> None:
    """Let the emulator's workers write to `log`, and delete a worker's copy of the bundle when the worker ends.

    `runtime` is ministack.core.lambda_runtime. By default the emulator keeps the copies of killed workers until the
    function runs again. It also loses track of workers that are starting while another worker of their function fails.
    """
    invoke = runtime.Worker.invoke

    def read_output(worker: Any) -> None:
        copy, output, lines = worker._tmpdir, worker._proc.stderr, worker._stderr_queue
        # The output ends when the worker ends. A ValueError means invalid UTF-8 or a file just closed.
        with suppress(OSError, ValueError):
            for line in output:
                lines.put(line.rstrip("\n"))
                log.write(worker.func_name, line.rstrip("\n"))
        shutil.rmtree(copy, ignore_errors=True)

    def invoke_and_log(worker: Any, *arguments: Any, **options: Any) -> Any:
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
    runtime.Worker.invoke = invoke_and_log


def salt_credentials(runtime: Any) -> None:
    """Give the emulator's workers credentials that differ in each run.

    `runtime` is ministack.core.lambda_runtime, before other modules import from it. By default the emulator derives the
    credentials from the ARNs of the function and its role. These are the same on every machine.
    """
    derive, salt = runtime.execution_credentials, secrets.token_hex(16)

    def execution_credentials(config: dict[str, Any]) -> dict[str, str]:
        # Besides hashing the role, `derive` uses only the part after its last slash.
        credentials: dict[str, str] = derive({**config, "Role": f"{salt}/{config.get('Role', '')}"})
        return credentials

    runtime.execution_credentials = execution_credentials


def main() -> None:
    # Remove these environment variables, because the workers inherit all others.
    secret = os.environ.pop(SECRET_VARIABLE)
    log = FunctionsLog(Path(os.environ.pop(FUNCTIONS_LOG_VARIABLE)))
    runtime = importlib.import_module("ministack.core.lambda_runtime")
    watch_workers(runtime, log)
    salt_credentials(runtime)
    emulator = importlib.import_module("ministack.app")
    root_key = os.environ["AWS_ACCESS_KEY_ID"]

    def is_known(access_key_id: str) -> bool:
        # The emulator imports this module when it creates the first session. Before that, there are no sessions.
        sessions = sys.modules.get("ministack.services.sts")
        return access_key_id == root_key or (sessions is not None and access_key_id in sessions._sessions)

    # The emulator's main() serves the application with this name.
    vars(emulator)["app"] = Proxy(emulator.app, int(os.environ["GATEWAY_PORT"]), secret, is_known)
    emulator.main()


if __name__ == "__main__":
    main()
