import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest

from local import issuer
from ops import tokens
from ops.local_stack import AUDIENCE


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The URL of a running issuer."""
    with issuer.serving(issuer.make_key(tmp_path / "key.pem")) as serving:
        yield serving


def claims(token: str) -> dict[str, object]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def test_a_token_is_verified_by_nothing_but_its_issuers_documents(url: str) -> None:
    discovered = httpx.get(f"{url}/.well-known/openid-configuration").json()
    assert discovered["issuer"] == url

    token = httpx.post(discovered["token_endpoint"], auth=("demo-org", "any")).json()["access_token"]

    (published,) = httpx.get(discovered["jwks_uri"]).json()["keys"]
    assert published["kid"] == jwt.get_unverified_header(token)["kid"]
    jwt.decode(token, jwt.PyJWK(published), algorithms=["RS256"], issuer=url, audience=AUDIENCE)


def test_a_token_is_for_the_client_that_asks(url: str) -> None:
    by_basic = httpx.post(f"{url}/token", auth=("demo-org", "any"), data={"scope": "usage:read"}).json()
    assert (by_basic["token_type"], by_basic["expires_in"]) == ("Bearer", 3600)
    assert claims(by_basic["access_token"]).items() >= {"org_id": "demo-org", "scope": "usage:read"}.items()
    by_form = httpx.post(f"{url}/token", data={"client_id": "acme"}).json()
    assert claims(by_form["access_token"]).items() >= {"org_id": "acme", "scope": "usage:write usage:read"}.items()


def test_no_other_grant_is_issued(url: str) -> None:
    form = {"grant_type": "password", "username": "demo-org", "password": "any"}
    refused = httpx.post(f"{url}/token", auth=("demo-org", "any"), data=form)
    assert (refused.status_code, refused.json()) == (400, {"error": "unsupported_grant_type"})
    granted = httpx.post(f"{url}/token", auth=("demo-org", "any"), data={"grant_type": "client_credentials"})
    assert granted.status_code == 200


def test_the_token_endpoint_ignores_the_query_string(url: str) -> None:
    assert httpx.post(f"{url}/token?x=1", auth=("demo-org", "any")).status_code == 200


@pytest.mark.parametrize("authorization", ["", "Basic ???", "Basic Og==", "Bearer x"])
def test_a_request_without_a_client_gets_no_token(url: str, authorization: str) -> None:
    assert httpx.post(f"{url}/token", headers={"Authorization": authorization}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_neither_other_names_nor_pages_of_other_origins_get_a_token(url: str, headers: dict[str, str]) -> None:
    assert httpx.post(f"{url}/token", data={"client_id": "acme"}, headers=headers).status_code == 403


def test_a_page_of_its_own_origin_gets_a_token(url: str) -> None:
    for origin in (url, url.replace("127.0.0.1", "localhost")):
        headers = {"Host": origin.removeprefix("http://"), "Origin": origin, "Sec-Fetch-Site": "same-origin"}
        assert httpx.post(f"{url}/token", data={"client_id": "acme"}, headers=headers).status_code == 200


@pytest.mark.parametrize("length", ["abc", "-1", ""])
def test_an_invalid_content_length_is_a_bad_request(url: str, length: str) -> None:
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=10) as raw:
        host = f"{address.host}:{address.port}"
        raw.sendall(f"POST /token HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n".encode())
        assert b" 400 " in raw.recv(1000).split(b"\r\n")[0]


def test_the_key_set_holds_nothing_private(url: str) -> None:
    text = httpx.get(f"{url}/.well-known/jwks.json").text

    assert set(json.loads(text)["keys"][0]) == {"kty", "n", "e", "alg", "use", "kid"}


def test_nobody_but_the_user_can_read_the_key(tmp_path: Path) -> None:
    issuer.make_key(tmp_path / "key.pem")

    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_the_saved_key_is_the_one_that_is_served(tmp_path: Path) -> None:
    key = issuer.make_key(tmp_path / "key.pem")

    assert tokens.public_jwk(tokens.load_key((tmp_path / "key.pem").read_bytes())) == tokens.public_jwk(key)


def test_every_start_has_a_key_of_its_own(tmp_path: Path) -> None:
    one, other = issuer.make_key(tmp_path / "one.pem"), issuer.make_key(tmp_path / "other.pem")

    assert tokens.public_jwk(one)["kid"] != tokens.public_jwk(other)["kid"]


def test_nothing_else_is_served(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert httpx.get(f"{url}/key.pem").status_code == 404
    assert httpx.post(f"{url}/key.pem").status_code == 404

    # The terminal shows only events.
    assert capsys.readouterr() == ("", "")


def test_a_client_that_disconnects_early_prints_nothing(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    host = httpx.URL(url).netloc
    with socket.create_connection(("127.0.0.1", int(host.rpartition(b":")[2])), timeout=10) as raw:
        # This option resets the connection when the socket closes.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.sendall(b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
    # The server accepts connections in their order and starts a thread for each.
    assert httpx.get(f"{url}/.well-known/jwks.json").status_code == 200
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(10)
    assert capsys.readouterr() == ("", "")


def test_the_issuer_stops_answering_at_the_end(tmp_path: Path) -> None:
    with issuer.serving(issuer.make_key(tmp_path / "key.pem")) as url:
        pass

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/.well-known/jwks.json")
