"""A caller acts for the organization that its token allows, and for no other."""

from typing import Any

import pytest
from metering.http import caller, request
from metering.http.caller import TokenRules
from metering.model.errors import BadRequest, Forbidden

from tests.testing.payloads import record_request

WRITE, ANY = "usage:write", "usage:any-organization"
NO_ORGANIZATIONS = ["", "a b", "a#b", "a" * 65, "[demo-org acme]", "demo-org\n", "ü", "null", "true", "false"]
DEFAULT_RULES = TokenRules()
LIKE_NO_CLAIM = ["nullable", "trueish", "NULL", "True", "null-1", "1null"]


def organization(
    rules: TokenRules = DEFAULT_RULES, header: str | None = None, name: str = "Organization-Id", **claims: Any
) -> str:
    """The organization of a call with these claims and this header."""
    headers = {} if header is None else {name: header}
    event = record_request(headers=headers, claims={"scope": WRITE} | claims)
    return caller.authorize(request.read(event, fallback_id="lambda"), WRITE, rules)


# --- the token's organization ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NO_ORGANIZATIONS, None, 7, True, ["demo-org"]])
def test_a_token_without_a_well_formed_organization_is_forbidden(name: Any) -> None:
    with pytest.raises(Forbidden, match="claim org_id is a name of 1 to 64"):
        organization(org_id=name)


def test_a_number_is_the_text_that_api_gateway_shows() -> None:
    assert organization(org_id="7") == "7"


@pytest.mark.parametrize("name", LIKE_NO_CLAIM)
def test_a_name_that_only_resembles_a_missing_claim_is_one(name: str) -> None:
    assert organization(org_id=name) == name
    assert organization(scope=f"{WRITE} {ANY}", header=name) == name


def test_the_organization_comes_from_the_claim_that_is_set() -> None:
    claims = {"org_id": "demo-org", "https://example.com/org": "acme"}
    assert organization(TokenRules("https://example.com/org"), **claims) == "acme"


@pytest.mark.parametrize("header", ["X-Organization-Id", "X-Org-Id", "Organization", "OrganizationId"])
def test_no_other_header_names_an_organization(header: str) -> None:
    assert organization(header="acme", name=header) == "demo-org"
    with pytest.raises(Forbidden):
        organization(header="acme", name=header, org_id=None)


# --- the header ------------------------------------------------------------------------------------------------------


def test_a_header_that_names_the_tokens_own_organization_changes_nothing() -> None:
    assert organization(header="demo-org") == "demo-org"


@pytest.mark.parametrize(
    "header", ["acme", "demo-org\xa0", "\x1cdemo-org", "Demo-Org", "demo-org,demo-org", "", "null"]
)
def test_a_header_that_names_another_organization_than_the_token_is_forbidden(header: str) -> None:
    with pytest.raises(Forbidden, match="does not name the token's organization, which is in its claim org_id"):
        organization(header=header)


def test_a_header_cannot_name_the_organization_of_a_token_without_one() -> None:
    with pytest.raises(Forbidden, match="names no organization"):
        organization(header="acme", org_id=None)


@pytest.mark.parametrize("spelled", ["Organization-Id", "organization-id", "ORGANIZATION-ID"])
@pytest.mark.parametrize("org_id", [None, "demo-org", "acme", "[a b]"])
def test_a_token_for_any_organization_acts_for_the_one_in_the_header(spelled: str, org_id: str | None) -> None:
    assert organization(scope=f"{WRITE} {ANY}", header="acme", name=spelled, org_id=org_id) == "acme"


@pytest.mark.parametrize("header", [None, "", " "])
def test_a_token_for_any_organization_has_to_name_one(header: str | None) -> None:
    with pytest.raises(BadRequest, match="Organization-Id header") as refused:
        organization(scope=f"{WRITE} {ANY}", header=header)
    assert [(issue.path, issue.code) for issue in refused.value.issues] == [("Organization-Id", "missing")]


@pytest.mark.parametrize("header", [*NO_ORGANIZATIONS[1:5], "acme,acme", "null", "true", "false", '"acme"'])
def test_a_header_with_an_invalid_organization_is_a_bad_request(header: str) -> None:
    with pytest.raises(BadRequest, match="must name one organization") as refused:
        organization(scope=f"{WRITE} {ANY}", header=header)
    assert [(issue.path, issue.code) for issue in refused.value.issues] == [("Organization-Id", "malformed")]


def test_the_scope_for_any_organization_alone_does_not_allow_recording() -> None:
    with pytest.raises(Forbidden, match="lacks the scope usage:write"):
        organization(scope=ANY, header="acme")


@pytest.mark.parametrize("scope", ["usage:any-organizations", "x/usage:any-organization", "usage:*", "usage:any"])
def test_nothing_else_is_a_token_for_any_organization(scope: str) -> None:
    with pytest.raises(Forbidden):
        organization(scope=f"{WRITE} {scope}", header="acme")


# --- scopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["scope", "scp"])
@pytest.mark.parametrize(
    "granted",
    [
        "usage:write",
        "usage:read usage:write",
        "usage:write usage:read",
        # Lists, in API Gateway's text form and as real lists.
        "[usage:write]",
        "[usage:write usage:read]",
        "[usage:read usage:write]",
        "[a usage:write b]",
        ["usage:write"],
        ["usage:read", "usage:write"],
    ],
)
def test_a_scope_counts_in_either_claim_as_text_and_as_list(claim: str, granted: Any) -> None:
    assert organization(**({"scope": None} | {claim: granted})) == "demo-org"


@pytest.mark.parametrize("roles", ["[usage:write]", "usage:read usage:write", ["usage:write"]])
def test_roles_count_where_the_environment_says_so_and_a_token_has_no_scopes(roles: Any) -> None:
    assert organization(TokenRules(roles_as_scopes=True), scope=None, roles=roles) == "demo-org"
    with pytest.raises(Forbidden):
        organization(scope=None, roles=roles)


@pytest.mark.parametrize("scopes", [{"scope": "usage:read"}, {"scope": ""}, {"scope": None, "scp": "[usage:read]"}])
def test_roles_add_nothing_to_a_tokens_scopes(scopes: dict[str, Any]) -> None:
    with pytest.raises(Forbidden):
        organization(TokenRules(roles_as_scopes=True), **scopes, roles="[usage:write]")


def test_the_scopes_of_both_claims_count() -> None:
    assert organization(scope="usage:write", scp=f"[{ANY}]", header="acme") == "acme"


@pytest.mark.parametrize("claim", ["scope", "scp"])
@pytest.mark.parametrize(
    "granted",
    [
        *(None, "", "[]", [], 7, {"usage:write": True}, [["usage:write"]], "null"),
        *("usage:read", "usage:writer", "xusage:write", "usage:write,usage:read", "USAGE:WRITE", "(usage:write)"),
        *("other-api/usage:write", "/usage:write", "metering/usage:write", "https://m.example/usage:write"),
    ],
)
def test_without_the_scope_the_call_is_forbidden(claim: str, granted: Any) -> None:
    with pytest.raises(Forbidden, match=r"lacks the scope usage:write\."):
        organization(**({"scope": None} | {claim: granted}))


@pytest.mark.parametrize(
    "prefix", ["metering/", "https://metering.example/", "api://b1f2/", "metering.", "metering/v1/"]
)
@pytest.mark.parametrize("form", ["{}", "a {}", "[{}]", "[a {} b]"])
def test_a_scope_may_have_the_environments_prefix(prefix: str, form: str) -> None:
    rules = TokenRules(scope_prefix=prefix)
    assert organization(rules, scope=form.format(f"{prefix}usage:write")) == "demo-org"
    assert organization(rules, scope=form.format("usage:write")) == "demo-org"


@pytest.mark.parametrize("prefix", ["other-api/", "other/metering/", "metering/metering/", "xmetering/", "metering"])
def test_no_other_prefix_counts(prefix: str) -> None:
    with pytest.raises(Forbidden, match="lacks the scope usage:write or metering/usage:write"):
        organization(TokenRules(scope_prefix="metering/"), scope=f"{prefix}usage:write")
