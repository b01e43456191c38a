import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ops import access


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_is_taken_from_either_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "eu-west-3")

    assert access.to_cloud().dynamodb().meta.region_name == "eu-west-3"


def test_the_emulator_is_reached_whatever_the_user_has_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nendpoint_url = https://elsewhere.example\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "that-does-not-exist")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://elsewhere.example")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-users-own")

    client = access.to_emulator("http://127.0.0.1:4566", "us-east-1", "key", "secret").dynamodb()

    assert client.meta.endpoint_url == "http://127.0.0.1:4566"
    assert client.meta.region_name == "us-east-1"


def test_loopback_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with HTTPServer(("127.0.0.1", 0), _NoTables) as server:
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"

        tables = access.to_emulator(endpoint, "us-east-1", "key", "secret").dynamodb().list_tables()

        assert tables["TableNames"] == []
        answering.join()


class _NoTables(BaseHTTPRequestHandler):
    """A DynamoDB without tables."""

    def do_POST(self) -> None:
        body = b'{"TableNames": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
