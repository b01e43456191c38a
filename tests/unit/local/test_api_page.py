import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from openapi_spec_validator import OpenAPIV31SpecValidator

from local import api_page, issuer
from tools import openapi


class Api(BaseHTTPRequestHandler):
    """Answers with the request that it gets."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        headers = {name.title(): value for name, value in self.headers.items()}
        answer = json.dumps({"path": self.path, "headers": headers, "body": body}).encode()
        self.send_response(422 if "bad" in body else 200)
        self.send_header("Content-Type", "application/problem+json" if "bad" in body else "application/json")
        self.send_header("Idempotent-Replayed", "true")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> RSAPrivateKey:
    return issuer.make_key(tmp_path_factory.mktemp("issuer") / "key.pem")


@pytest.fixture(scope="module")
def page(key: RSAPrivateKey) -> Iterator[httpx.Client]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with (
            api_page.serving(key, f"http://127.0.0.1:{server.server_port}/stage", port=0) as url,
            httpx.Client(base_url=url, trust_env=False) as client,
        ):
            yield client
        server.shutdown()


def test_the_page_is_there_with_all_that_it_loads(page: httpx.Client) -> None:
    index = page.get("/")
    assert index.headers["content-type"].startswith("text/html")
    for file in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "openapi.json"):
        assert file in index.text
        assert page.get(f"/{file}").status_code == 200
    # The page works offline, so it loads nothing from elsewhere.
    assert "http" not in index.text.replace("<!doctype html>", "")


def test_the_document_leads_to_the_local_stack(page: httpx.Client) -> None:
    document = page.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    assert [server["url"] for server in document["servers"]] == ["/api"]


def test_the_page_is_the_issuer_too_so_that_its_own_origin_issues_tokens(page: httpx.Client) -> None:
    flows = page.get("/openapi.json").json()["components"]["securitySchemes"]["oauth2"]["flows"]
    token_url = flows["clientCredentials"]["tokenUrl"]
    assert page.post(token_url, auth=("demo-org", "any")).status_code == 200


def test_calls_are_passed_on_with_what_they_carry(page: httpx.Client) -> None:
    operations = [operation for path in openapi.document()["paths"].values() for operation in path.values()]
    described = {given["name"] for each in operations for given in each["parameters"] if given["in"] == "header"}
    assert described >= {"Idempotency-Key", "Organization-Id"}
    headers = dict.fromkeys(described | {"Authorization", "Content-Encoding"}, "x")
    answer = page.post("/api/saas/x?y=z", json={"quantity": 1}, headers={**headers, "X-Other": "x"})
    passed = answer.json()
    assert (passed["path"], json.loads(passed["body"])) == ("/stage/saas/x?y=z", {"quantity": 1})
    assert passed["headers"].items() >= {**headers, "Content-Type": "application/json"}.items()
    assert "X-Other" not in passed["headers"]
    assert answer.headers["idempotent-replayed"] == "true"


def test_a_refusal_is_passed_back_as_it_is(page: httpx.Client) -> None:
    answer = page.post("/api/x", content="bad")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


@pytest.mark.parametrize("path", ["/nothing", "/package.json", "/../setup.py", "/swagger-ui.js"])
def test_nothing_else_is_served(page: httpx.Client, path: str) -> None:
    assert page.get(path).status_code == 404


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_no_page_of_another_origin_reaches_the_api_through_it(page: httpx.Client, header: dict[str, str]) -> None:
    assert page.post("/api/x", headers=header).status_code == 403


@pytest.mark.parametrize("path", [b"a\x01b", b"\xe9"])
def test_a_path_that_cannot_be_forwarded_is_a_bad_request_and_prints_nothing(
    page: httpx.Client, path: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection((page.base_url.host, page.base_url.port or 80), timeout=10) as raw:
        raw.sendall(b"POST /api/%b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, page.base_url.netloc))
        assert b" 400 " in raw.recv(1000).split(b"\r\n")[0]
    # The terminal shows only events.
    assert capsys.readouterr() == ("", "")


def test_an_unreachable_api_is_a_bad_gateway(key: RSAPrivateKey) -> None:
    with api_page.serving(key, "http://127.0.0.1:9", port=0) as url:
        assert httpx.post(f"{url}/api/x", trust_env=False).status_code == 502
