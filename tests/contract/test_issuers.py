"""The issuers of the guide: their tokens as API Gateway renders them, with the settings of the guide."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from metering.http.caller import TokenRules

from tests.testing.payloads import payload
from tests.testing.problems import assert_problem
from tests.testing.service import RecordFunction
from tests.testing.table import counted

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_GUIDE = (Path(__file__).parents[2] / "docs" / "how-to" / "connect-your-issuer.md").read_text()

# The settings at the start of each section, by the section's title.
SETTINGS: dict[str, dict[str, Any]] = {
    title: tomllib.loads(block)
    for title, block in re.findall(r"^## ([^\n]+)\n\n```toml\n(.*?)```$", _GUIDE, re.M | re.S)
}

EVENTS = {
    "http-record-cognito.json": "Amazon Cognito",
    "http-record-auth0.json": "Auth0",
    "http-record-okta.json": "Okta",
    "http-record-entra-id.json": "Microsoft Entra ID",
    "http-record-entra-id-app.json": "Microsoft Entra ID",
    "http-record-keycloak.json": "Keycloak",
}

for_each_event = pytest.mark.parametrize("file", EVENTS)


def test_the_guide_has_an_event_of_each_issuer() -> None:
    assert SETTINGS.keys() == set(EVENTS.values())


@for_each_event
def test_the_token_is_from_the_guides_issuer_and_for_its_audience(file: str) -> None:
    settings, claims = SETTINGS[EVENTS[file]], _claims(payload(file))
    assert claims["iss"] == settings["issuer"]
    # API Gateway compares the audience in this way.
    audience: str = claims["aud"] if "aud" in claims else claims["client_id"]
    assert settings["audience"] in audience.strip("[]").split(" ")


@for_each_event
def test_usage_is_recorded_for_the_tokens_organization(file: str, dynamodb: "DynamoDBClient") -> None:
    reply = _function(file, dynamodb)(payload(file))
    assert reply.body == {"recorded": True, "currentUsage": 1, "limitReached": False}
    assert counted(dynamodb, "usage", "demo-org") == (1, 1)


@for_each_event
def test_a_token_that_may_only_read_records_nothing(file: str, dynamodb: "DynamoDBClient") -> None:
    event = payload(file)
    claims = _claims(event)
    (granted,) = claims.keys() & {"scope", "scp", "roles"}
    assert "usage:write" in claims[granted]
    claims[granted] = claims[granted].replace("usage:write", "usage:read")
    reply = _function(file, dynamodb)(event, 403)
    assert_problem(reply, 403, "FORBIDDEN", "auth")
    assert "scope usage:write" in reply.body["detail"]
    assert counted(dynamodb, "usage", "demo-org") == (0, 0)


def _claims(event: Any) -> dict[str, Any]:
    claims: dict[str, Any] = event["requestContext"]["authorizer"]["jwt"]["claims"]
    return claims


def _function(file: str, client: "DynamoDBClient") -> RecordFunction:
    """The record function with the settings that the guide names for the event's issuer."""
    function = RecordFunction(client)
    settings = {name: value for name, value in SETTINGS[EVENTS[file]].items() if name not in {"issuer", "audience"}}
    function.service = replace(function.service, rules=TokenRules(**settings))
    return function
