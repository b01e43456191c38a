import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ops import tokens

ISSUER = "http://127.0.0.1:4999"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_a_token_passes_the_checks_of_an_authorizer(key: rsa.RSAPrivateKey) -> None:
    token = tokens.sign(key, ISSUER, "audience", "demo-org", tokens.SCOPES, 60)

    published = jwt.PyJWK(tokens.public_jwk(key))
    assert jwt.get_unverified_header(token)["kid"] == published.key_id
    claims = jwt.decode(token, published, algorithms=["RS256"], issuer=ISSUER, audience="audience")
    assert claims["org_id"] == "demo-org"
    assert claims["scope"] == "usage:write usage:read"
    assert claims["exp"] - claims["iat"] == 60
    assert set(claims) == {"iss", "aud", "sub", "org_id", "scope", "iat", "exp", "jti"}


def test_a_token_is_never_from_the_future(key: rsa.RSAPrivateKey) -> None:
    claims = jwt.decode(
        tokens.sign(key, ISSUER, "a", "o", [], 60), key.public_key(), algorithms=["RS256"], audience="a"
    )

    assert claims["iat"] <= time.time()


def test_no_two_tokens_have_the_same_id(key: rsa.RSAPrivateKey) -> None:
    ids = {
        jwt.decode(tokens.sign(key, ISSUER, "a", "o", [], 60), options={"verify_signature": False})["jti"]
        for _ in range(3)
    }

    assert len(ids) == 3


def test_a_token_with_a_negative_life_has_expired(key: rsa.RSAPrivateKey) -> None:
    token = tokens.sign(key, ISSUER, "a", "o", [], -1)

    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(token, key.public_key(), algorithms=["RS256"], audience="a")


def test_the_published_key_holds_nothing_private(key: rsa.RSAPrivateKey) -> None:
    assert set(tokens.public_jwk(key)) == {"kty", "n", "e", "alg", "use", "kid"}


def test_another_key_has_another_id(key: rsa.RSAPrivateKey) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    assert tokens.public_jwk(other)["kid"] != tokens.public_jwk(key)["kid"]


def test_a_saved_key_signs_as_the_same_one(key: rsa.RSAPrivateKey) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    assert tokens.public_jwk(tokens.load_key(pem)) == tokens.public_jwk(key)


def test_a_key_of_another_kind_is_refused() -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    with pytest.raises(TypeError, match="RSA"):
        tokens.load_key(pem)
