"""Authorization: the caller's scopes and organization, from the verified token's claims and one header.

    scope, scp        the token's scopes: a text separated by spaces, or a list, which API Gateway passes as "[a b]"
    roles             the same for a token without `scope` and `scp`, if ROLES_AS_SCOPES is `yes`
    org_id            the caller's organization, unless ORGANIZATION_CLAIM names another claim
    Organization-Id   header: the organization that a caller with the scope usage:any-organization acts for

No other part of a request names an organization.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from metering.http.request import Request
from metering.model.errors import BadRequest, Forbidden
from metering.model.names import ORGANIZATION_NAME_PATTERN

ANY_ORGANIZATION = "usage:any-organization"
ORGANIZATION_HEADER = "Organization-Id"
# HTTP allows these characters around a header's value. Source: RFC 9110, section 5.5.
_SPACES = " \t"
_NAME = "1 to 64 letters, digits, `_` or `-`, except null, true and false"


@dataclass(frozen=True)
class TokenRules:
    """The form of the tokens of the deployment environment's issuer."""

    organization_claim: str = "org_id"
    scope_prefix: str = ""
    """An optional prefix of our scopes, with its separator, such as `metering/` for a resource server `metering`."""
    roles_as_scopes: bool = False
    """Whether the claim `roles` counts as scopes in a token without scopes.

    Only Entra ID needs this. The default is off, because ID tokens can have roles, too.
    """


def authorize(request: Request, scope: str, rules: TokenRules) -> str:
    """Return the organization that the caller is allowed to act for with `scope`.

    Raises:
        Forbidden: the token lacks `scope` or an organization, or the header and the token name two organizations.
        BadRequest: the token is valid for any organization, and the header names none, or its name is malformed.
    """
    scopes = _scopes(request.claims, rules)
    if scope not in scopes:
        wanted = f"{scope} or {rules.scope_prefix}{scope}" if rules.scope_prefix else scope
        raise Forbidden(f"The token lacks the scope {wanted}. Request a token with that scope from the issuer.")
    named = request.headers.get(ORGANIZATION_HEADER.lower())
    if ANY_ORGANIZATION in scopes:
        return _named(named)
    own = request.claims.get(rules.organization_claim)
    if not isinstance(own, str) or re.fullmatch(ORGANIZATION_NAME_PATTERN, own) is None:
        raise Forbidden(
            f"The token names no organization. Request a token whose claim {rules.organization_claim} is a name of "
            f"{_NAME}."
        )
    if named is not None and named.strip(_SPACES) != own:
        raise Forbidden(
            f"The {ORGANIZATION_HEADER} header does not name the token's organization, which is in its claim "
            f"{rules.organization_claim}. Remove the header, or use a token with the scope {ANY_ORGANIZATION}."
        )
    return own


def _named(header: str | None) -> str:
    name = (header or "").strip(_SPACES)
    if not name:
        message = f"The token is valid for any organization. Name the organization in the {ORGANIZATION_HEADER} header."
        raise BadRequest("missing", message, ORGANIZATION_HEADER)
    if re.fullmatch(ORGANIZATION_NAME_PATTERN, name) is None:
        message = f"The {ORGANIZATION_HEADER} header must name one organization: {_NAME}."
        raise BadRequest("malformed", message, ORGANIZATION_HEADER)
    return name


def _scopes(claims: Mapping[str, Any], rules: TokenRules) -> frozenset[str]:
    """Return the token's scopes without the prefix of `rules`.

    Source: RFC 6749, section 3.3, for `scope`. Okta and Microsoft Entra ID use `scp`. Entra ID uses `roles` for a
    service that calls on its own behalf.
    """
    names = [name for name in ("scope", "scp") if name in claims]
    if not names and rules.roles_as_scopes:
        names = ["roles"]
    granted = [text for name in names for text in _texts(claims.get(name))]
    return frozenset(scope.removeprefix(rules.scope_prefix) for scope in granted)


def _texts(claim: Any) -> Iterator[str]:
    for text in claim if isinstance(claim, list) else [claim]:
        if isinstance(text, str):
            is_list = text.startswith("[") and text.endswith("]")
            yield from (text[1:-1] if is_list else text).split(" ")
