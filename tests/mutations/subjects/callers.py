"""Mutations of how the organization and the scopes are read from a token."""

from tests.mutations.mutation import Edit, Mutation

CALLERS = (
    Mutation(
        "the organization taken from a header",
        "The organization comes only from the verified token.",
        Edit("authorize", "request.claims.get", 'request.headers.get("x-organization-id") or request.claims.get'),
    ),
    Mutation(
        "the organization taken from the body",
        "The organization comes only from the verified token.",
        Edit(
            "command_from_members",
            "usage =",
            """
            organization = members.pop("organizationId", organization)
            usage =
            """,
        ),
    ),
    Mutation(
        "the organization taken from another claim",
        "The organization is in the configured claim.",
        Edit("authorize", "(rules.organization_claim)", '("org_id")'),
    ),
    Mutation(
        "an organization with any characters",
        "An organization holds no `#`, so that a stored key splits into its parts in one way only.",
        Edit("authorize", "re.fullmatch(...) is None", "not own"),
    ),
    Mutation(
        "the scope not checked",
        "Only a token with the operation's scope is allowed to record.",
        Edit("authorize", "if scope not in scopes:", "if False:"),
    ),
    Mutation(
        "a scope with any prefix accepted",
        "A scope counts only with the prefix that the deployment environment names.",
        Edit("granted_scopes", "removeprefix(...)", 'rpartition("/")[2]'),
    ),
    Mutation(
        "scopes read from one claim only",
        "Scopes count in either claim: Okta and Entra ID use `scp`.",
        Edit("granted_scopes", 'for name in ("scope", "scp") if', 'for name in ("scope",) if'),
    ),
    Mutation(
        "a list of scopes read as one",
        "Scopes count in a list, which API Gateway shows in brackets.",
        Edit("claim_texts", 'text.startswith("[") and text.endswith("]")', "False"),
    ),
    Mutation(
        "roles counted beside scopes",
        "Roles count only where a token has no scopes.",
        Edit("granted_scopes", "not names and"),
    ),
    Mutation(
        "the header's organization accepted from any token",
        "Only a token for any organization acts for the organization in the header.",
        Edit("authorize", "if $ANY_ORGANIZATION in scopes:", "if named is not None:"),
    ),
    Mutation(
        "the header's organization ignored",
        "A header that names another organization than the token does is an error.",
        Edit("authorize", "named is not None and named.strip($SPACES) != own", "False"),
    ),
    Mutation(
        "a missing claim treated as a name",
        "The texts null, true and false name no organization: API Gateway turns claims of other types into these.",
        Edit(
            "ORGANIZATION_NAME_PATTERN", 'rf"(?!(?:null|true|false)$$){$ORGANIZATION_PATTERN}"', "$ORGANIZATION_PATTERN"
        ),
    ),
)
