"""The proxy's decision about each request, and the requests that it passes on to the application behind it."""

import asyncio
import json
import subprocess
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from local import proxy
from local.proxy import Destination, FunctionsLog, Message, Proxy, Receive, Refusal, Request, Scope, Send
from tools import setup

PORT = 4566
HOST = ("host", f"127.0.0.1:{PORT}")
SECRET = ("x-proxy-secret", "the-runners")
ROOT_KEY, SESSION_KEY = "LOCAL0123ABCD", "ASIA0123"
KNOWN = {ROOT_KEY, SESSION_KEY}


def signed(key: str) -> tuple[str, str]:
    scope = f"{key}/20261127/us-east-1/lambda/aws4_request"
    return "authorization", f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature=0a1b"


def decide(path: str, *headers: tuple[str, str], query: str = "") -> Destination | Refusal:
    request = Request(path, path, query, headers)
    return proxy.decide(request, PORT, SECRET[1], KNOWN.__contains__)


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LOCALHOST:{PORT}"])
@pytest.mark.parametrize("key", sorted(KNOWN))
def test_a_known_key_reaches_the_emulator(host: str, key: str) -> None:
    assert decide("/2015-03-31/functions/", ("host", host), signed(key)) is Destination.EMULATOR
    assert decide("/", ("host", host), signed(key), ("sec-fetch-site", "none")) is Destination.EMULATOR
    presigned = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={key}%2F20261127%2Fus-east-1%2Fs3%2Faws4_request"
    assert decide("/bucket/key", ("host", host), query=presigned) is Destination.EMULATOR


@pytest.mark.parametrize(
    "path", ["/", "/saas/billing/usage/record/v1.0.0", "/2015-03-31/functions/", "/%00", "/health"]
)
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("authorization", "Bearer token"),),
        (("authorization", "Bearer token"), ("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")),
        (("authorization", "Basic dGVzdDp0ZXN0"),),
    ],
)
def test_a_request_without_aws_credential_reaches_the_api_and_nothing_else(
    path: str, headers: tuple[tuple[str, str], ...]
) -> None:
    assert decide(path, HOST, *headers) is Destination.API


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        ("evil.example",),
        (f"evil.example:{PORT}",),
        ("127.0.0.1",),
        ("127.0.0.1:80",),
        (f"127.0.0.1.evil.example:{PORT}",),
        (f"bucket.localhost:{PORT}",),
        (f"1a2b3c4d.execute-api.localhost:{PORT}",),
        (f"127.0.0.1:{PORT}", "evil.example"),
        ("",),
    ],
)
@pytest.mark.parametrize("headers", [(), (signed(ROOT_KEY),), (SECRET,)])
@pytest.mark.parametrize("path", ["/", "/_ministack/health"])
def test_a_foreign_host_is_refused_whatever_comes_with_it(
    hosts: tuple[str, ...], headers: tuple[tuple[str, str], ...], path: str
) -> None:
    verdict = decide(path, *(("host", host) for host in hosts), *headers)
    assert isinstance(verdict, Refusal)
    assert (verdict.status, f"call http://127.0.0.1:{PORT}." in verdict.message) == (403, True)


def test_the_host_may_omit_port_80() -> None:
    assert {"localhost", "127.0.0.1:80"} <= proxy.own_hosts(80)


@pytest.mark.parametrize(
    "authorization",
    [
        *(signed(key)[1] for key in ("test", "000000000000", "usage-metering-local", "AKIAIOSFODNN7EXAMPLE", "")),
        "AWS4-HMAC-SHA256",
        signed(ROOT_KEY)[1].replace(", SignedHeaders", ", Credential=test/a/b/c/d, SignedHeaders"),
        signed("test")[1] + f", Credential={ROOT_KEY}/a/b/c/d",
        f"AWS {ROOT_KEY}:c2lnbmF0dXJl",
        f"AWS4-ECDSA-P256-SHA256 Credential={ROOT_KEY}/20261127/s3/aws4_request, SignedHeaders=host, Signature=0a",
        signed(ROOT_KEY)[1].lower(),
    ],
)
def test_another_credential_is_refused(authorization: str) -> None:
    verdict = decide("/", HOST, ("authorization", authorization))
    assert isinstance(verdict, Refusal)
    assert "accessKeyId" in verdict.message


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Credential=test/20261127/us-east-1/lambda/aws4_request",
        "x-amz-credential=test/a",
        "X%2DAmz%2DCredential=test/a",
        "X-Amz-Credential=",
        "AWSAccessKeyId=000000000000&Signature=x",
        f"X-Amz-Credential={ROOT_KEY}/a&X-Amz-Credential=test/a",
        f"X-Amz-Credential={ROOT_KEY}/a&AWSAccessKeyId=test",
    ],
)
def test_each_credential_in_the_query_must_be_known_too(query: str) -> None:
    assert isinstance(decide("/", HOST, query=query), Refusal)
    assert isinstance(decide("/", HOST, signed(ROOT_KEY), query=query), Refusal)
    assert isinstance(decide("/", HOST, ("authorization", "Bearer token"), query=query), Refusal)


def test_repeated_authorizations_are_refused_if_one_is_a_credential() -> None:
    for other in (signed(ROOT_KEY), ("authorization", "Bearer token")):
        assert isinstance(decide("/", HOST, signed(ROOT_KEY), other), Refusal)


@pytest.mark.parametrize(
    "header",
    [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", f"http://127.0.0.1:{PORT}"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "same-origin"),
    ],
)
def test_a_page_cannot_use_even_the_right_credential(header: tuple[str, str]) -> None:
    verdict = decide("/", HOST, signed(ROOT_KEY), header)
    assert isinstance(verdict, Refusal)
    assert "web page" in verdict.message


@pytest.mark.parametrize("path", ["/_ministack/reset", "/_ministack/sqs/messages", "/_ministack", "/_proxy/api/x"])
@pytest.mark.parametrize(
    "headers",
    [(), (signed(ROOT_KEY),), (("x-proxy-secret", "guessed"),), (SECRET, SECRET), (("x-proxy-secret", ""),)],
)
def test_the_runners_paths_need_its_secret(path: str, headers: tuple[tuple[str, str], ...]) -> None:
    assert isinstance(decide(path, HOST, *headers), Refusal)


def test_the_runner_reaches_the_emulators_paths_and_the_proxys() -> None:
    assert decide("/_ministack/ready", HOST, SECRET) is Destination.EMULATOR
    assert decide("/_proxy/api/1a2b3c4d", HOST, SECRET) is Destination.PROXY


class Emulator:
    """An ASGI application that keeps the scopes that it gets and answers with headers for pages of any origin."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        headers = [(b"Access-Control-Allow-Origin", b"*"), (b"x-amzn-requestid", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"answer"})


def call(
    application: Proxy, kind: str, path: str = "/", *headers: tuple[str, str], query: bytes = b""
) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": f"{kind}.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    encoded = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "path": unquote(path), "raw_path": path.encode(), "query_string": query, "headers": encoded}
    asyncio.run(application(scope, receive, send))
    return sent


@pytest.fixture
def emulator() -> Emulator:
    return Emulator()


@pytest.fixture
def application(emulator: Emulator) -> Proxy:
    return Proxy(emulator, PORT, SECRET[1], KNOWN.__contains__)


def test_the_api_is_not_there_until_the_runner_names_it_and_then_at_the_root(
    application: Proxy, emulator: Emulator
) -> None:
    early, _ = call(application, "http", "/saas/x", HOST)
    assert (early["status"], emulator.scopes) == (503, [])
    named, _ = call(application, "http", "/_proxy/api/1a2b3c4d", HOST, SECRET)
    assert named["status"] == 200

    twice = [("idempotency-key", "a"), ("idempotency-key", "b")]
    start, body = call(application, "http", "/saas/x%20y", HOST, *twice, query=b"a=%2B&a=2")

    (inside,) = emulator.scopes
    stage = "/_aws/execute-api/1a2b3c4d/$default"
    assert (inside["path"], inside["raw_path"]) == (f"{stage}/saas/x y", f"{stage}/saas/x%20y".encode())
    assert inside["query_string"] == b"a=%2B&a=2"
    assert inside["headers"][1:] == [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]
    # The proxy has removed the header that would let pages of any origin read the answer.
    assert (start["headers"], body["body"]) == ([(b"x-amzn-requestid", b"1")], b"answer")


def test_a_refused_request_does_not_reach_the_emulator(application: Proxy, emulator: Emulator) -> None:
    start, body = call(application, "http", "/_ministack/reset", HOST)
    assert start["status"] == 403
    assert "/_ministack/reset" in json.loads(body["body"])["message"]
    assert emulator.scopes == []


@pytest.mark.parametrize("target", [f"http://127.0.0.1:{PORT}/_ministack/reset", "*", "%2f_ministack/reset", ""])
@pytest.mark.parametrize("headers", [(), (signed(ROOT_KEY),), (SECRET,)])
def test_a_request_target_that_is_no_path_is_refused(
    application: Proxy, emulator: Emulator, target: str, headers: tuple[tuple[str, str], ...]
) -> None:
    call(application, "http", "/_proxy/api/1a2b3c4d", HOST, SECRET)
    start, body = call(application, "http", target, HOST, *headers)
    assert (start["status"], emulator.scopes) == (400, [])
    assert "must begin with /" in json.loads(body["body"])["message"]


def test_a_websocket_is_refused_whatever_comes_with_it(application: Proxy, emulator: Emulator) -> None:
    assert call(application, "websocket", "/", HOST, signed(ROOT_KEY), SECRET) == [{"type": "websocket.close"}]
    assert emulator.scopes == []


def test_the_servers_start_and_end_reach_the_emulator(application: Proxy, emulator: Emulator) -> None:
    call(application, "lifespan")
    assert [scope["type"] for scope in emulator.scopes] == ["lifespan"]


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        ('{"message": "é", "correlation_id": "t="}', {"message": "é", "correlation_id": "t="}),
        ("Traceback …", {"message": "Traceback …"}),
        ("[1]", {"message": "[1]"}),
    ],
)
def test_each_line_of_the_functions_log_is_an_object_with_its_functions_name(
    tmp_path: Path, printed: str, line: dict[str, Any]
) -> None:
    path = tmp_path / "functions.log"
    log = FunctionsLog(path)
    for _ in range(2):
        log.write("record", printed)
    assert [json.loads(text) for text in path.read_text().splitlines()] == [{"function": "record", **line}] * 2
    assert path.stat().st_mode & 0o777 == 0o600


class Worker:
    """A worker of the emulator whose invocations end with the `results`."""

    func_name = "record"

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.is_alive = True

    def invoke(self, _event: object) -> Any:
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def kill(self) -> None:
        self.is_alive = False


class Runtime:
    """The emulator's workers, by function."""

    def __init__(self, log: Path) -> None:
        self.Worker = type("WatchedWorker", (Worker,), {})
        self._workers: dict[str, list[Any]] = {}
        self._lock = threading.Lock()
        proxy.watch_workers(self, FunctionsLog(log))


def test_a_worker_removed_from_the_pool_ends_after_its_invocation(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "functions.log")
    kept, forgotten = (runtime.Worker({"status": "ok"}) for _ in range(2))
    runtime._workers["record"] = [kept]

    for worker in (kept, forgotten):
        assert worker.invoke({}) == {"status": "ok"}

    assert (kept.is_alive, forgotten.is_alive) == (True, False)


def test_errors_and_failed_starts_of_a_function_are_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "functions.log"
    runtime = Runtime(log)
    trace = "Traceback …\nKeyError: 'a'"
    worker = runtime.Worker({"status": "error", "error": "'a'", "trace": trace}, RuntimeError("no module metering"))
    runtime._workers["record"] = [worker]

    worker.invoke({})
    with pytest.raises(RuntimeError):
        worker.invoke({})

    messages = [json.loads(line)["message"] for line in log.read_text().splitlines()]
    assert messages == [trace, "the function did not start: no module metering"]


def test_the_workers_credentials_of_two_emulators_differ() -> None:
    one, other = (_credentials_of_a_function() for _ in range(2))
    assert one.keys() == other.keys() == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    assert all(one[name] != other[name] for name in one)


def _credentials_of_a_function() -> dict[str, str]:
    """The credentials that a new emulator gives a worker of one function."""
    program = f"""
import importlib, json, runpy
runtime = importlib.import_module("ministack.core.lambda_runtime")
runpy.run_path({proxy.__file__!r})["salt_credentials"](runtime)
role = "arn:aws:iam::000000000000:role/record"
function = {{"FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:record", "Role": role}}
print(json.dumps(runtime.execution_credentials(function)))
"""
    command = [str(setup.EMULATOR_PYTHON), "-I", "-c", program]
    printed = subprocess.run(command, env={"AUTH": "true"}, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(printed))
