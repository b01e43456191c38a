"""The caller's scopes and organization, from the verified token's claims and one header.

    scope, scp        the token's scopes: a text separated by spaces, or a list, which API Gateway shows as "[a b]"
    roles             the same, of a token that has neither, where the environment says so
    org_id            the caller's organization; the environment may name another claim
    Organization-Id   the organization that a caller with the scope usage:any-organization acts for

Nothing else in a request names an organization.
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
# What HTTP allows around a header's value. Source: RFC 9110, section 5.5.
_SPACES = " \t"
_NAME = "1 to 64 letters, digits, `_` and `-`, and not null, true or false"


@dataclass(frozen=True)
class TokenRules:
    """How the environment's issuer writes its tokens."""

    organization_claim: str = "org_id"
    scope_prefix: str = ""
    """What may precede our scopes, its separator included: `metering/` of a resource server `metering`."""
    roles_as_scopes: bool = False
    """Whether `roles` counts in a token without scopes. ID tokens may have roles, too; only Entra ID needs it."""


def authorize(request: Request, scope: str, rules: TokenRules) -> str:
    """The organization that the caller may act for with `scope`.

    Raises:
        Forbidden: the token lacks `scope`, names no organization, or the header names another than the token.
        BadRequest: the token is good for any organization, and the header names none.
    """
    scopes = _scopes(request.claims, rules)
    if scope not in scopes:
        wanted = f"{scope} or {rules.scope_prefix}{scope}" if rules.scope_prefix else scope
        raise Forbidden(f"The token lacks the scope {wanted}: ask its issuer for one that has it.")
    named = request.headers.get(ORGANIZATION_HEADER.lower())
    if ANY_ORGANIZATION in scopes:
        return _named(named)
    own = request.claims.get(rules.organization_claim)
    if not isinstance(own, str) or re.fullmatch(ORGANIZATION_NAME_PATTERN, own) is None:
        raise Forbidden(f"The token names no organization: its claim {rules.organization_claim} must be {_NAME}.")
    if named is not None and named.strip(_SPACES) != own:
        raise Forbidden(
            f"The {ORGANIZATION_HEADER} header names another organization than the token's claim "
            f"{rules.organization_claim}: leave the header out, or use a token with the scope {ANY_ORGANIZATION}."
        )
    return own


def _named(header: str | None) -> str:
    name = (header or "").strip(_SPACES)
    if not name:
        message = f"The token is good for any organization: name one in the {ORGANIZATION_HEADER} header."
        raise BadRequest("missing", message, ORGANIZATION_HEADER)
    if re.fullmatch(ORGANIZATION_NAME_PATTERN, name) is None:
        message = f"The {ORGANIZATION_HEADER} header must name one organization: {_NAME}."
        raise BadRequest("malformed", message, ORGANIZATION_HEADER)
    return name


def _scopes(claims: Mapping[str, Any], rules: TokenRules) -> frozenset[str]:
    """The token's scopes, those with the environment's prefix without it.

    Source: RFC 6749, section 3.3, for `scope`. Okta and Microsoft Entra ID use `scp`, and Entra ID uses `roles` where a
    service calls for itself.
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
