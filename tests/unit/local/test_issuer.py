import json
from pathlib import Path

import httpx
import jwt
import pytest

from local import issuer
from ops import tokens


def test_a_token_is_verified_by_nothing_but_its_issuers_documents(tmp_path: Path) -> None:
    key = issuer.make_key(tmp_path / "key.pem")
    with issuer.serving(key) as url:
        token = tokens.sign(key, url, "audience", "demo-org", tokens.SCOPES, 60)

        discovered = httpx.get(f"{url}/.well-known/openid-configuration").json()
        assert discovered["issuer"] == url
        (published,) = httpx.get(discovered["jwks_uri"]).json()["keys"]
        assert published["kid"] == jwt.get_unverified_header(token)["kid"]
        jwt.decode(token, jwt.PyJWK(published), algorithms=["RS256"], issuer=url, audience="audience")


def test_the_key_set_holds_nothing_private(tmp_path: Path) -> None:
    with issuer.serving(issuer.make_key(tmp_path / "key.pem")) as url:
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


def test_nothing_else_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with issuer.serving(issuer.make_key(tmp_path / "key.pem")) as url:
        assert httpx.get(f"{url}/key.pem").status_code == 404

    # The terminal belongs to the events.
    assert capsys.readouterr() == ("", "")


def test_the_issuer_stops_answering_at_the_end(tmp_path: Path) -> None:
    with issuer.serving(issuer.make_key(tmp_path / "key.pem")) as url:
        pass

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/.well-known/jwks.json")
