"""Tokens of the local stack's issuer, signed with RS256 as the HTTP API's JWT authorizer requires."""

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

SCOPES = ("usage:write", "usage:read")


def sign(
    key: RSAPrivateKey, issuer: str, audience: str, organization: str | None, scopes: Sequence[str], expires_in_s: int
) -> str:
    """Sign a token for `organization`, or without an organization. A negative `expires_in_s` makes an expired token.

    `iat` is the current time rounded down to a second, because authorizers do not accept tokens from the future.
    """
    now_s = int(time.time())
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": "local-service" if organization is None else f"local-user@{organization}",
        "scope": " ".join(scopes),
        "iat": now_s,
        "exp": now_s + expires_in_s,
        "jti": str(uuid.uuid4()),
    }
    return encode(key, claims if organization is None else {**claims, "org_id": organization})


def encode(key: RSAPrivateKey, claims: dict[str, Any]) -> str:
    """Sign a token with these claims."""
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": public_jwk(key)["kid"]})


def public_jwk(key: RSAPrivateKey) -> dict[str, Any]:
    """The public key of `key` as a member of a key set. Its `kid` is its thumbprint (RFC 7638)."""
    full = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    members = {name: full[name] for name in ("e", "kty", "n")}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest()
    kid = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return {**members, "alg": "RS256", "use": "sig", "kid": kid}


def load_key(pem: bytes) -> RSAPrivateKey:
    """Load the key that the local stack's issuer saved."""
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, RSAPrivateKey):
        raise TypeError(f"the issuer's key must be an RSA key, not {type(key).__name__}")
    return key
