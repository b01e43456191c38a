"""Arbitrary events, headers and bodies against the handler: an answer as documented, always."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import boto3
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering.contract import RECORD_USAGE
from metering.record_api import respond
from moto import mock_aws

from tests.fuzz import closed
from tests.fuzz.settings import FUZZ
from tests.payloads import example, payload, record_request
from tests.service import Clock, Context, RecordFunction
from tests.table import create_table

DOCUMENT = closed.document()

# With halves of surrogate pairs, which Python's strings can hold and UTF-8 cannot.
TEXT = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["feature", "quantity", "idempotencyKey", "sourceId", "sourceType", "metadata", "organizationId"]
)
VALUES = JSON | st.sampled_from(["api_calls", "abc-123", 1, 10**9, 1.0, {}, {"a": {"b": 1}}])
# Mostly the contract's members with mostly wrong values; json.dumps writes NaN and lone surrogates as callers might.
BODIES = st.one_of(
    st.dictionaries(NAMES | TEXT, VALUES, max_size=7).map(lambda members: json.dumps({**example(), **members})),
    JSON.map(json.dumps),
    TEXT,
    st.text(st.sampled_from('{}[]",:\\ue1-.0'), max_size=40),
)
ENCODED = st.one_of(BODIES, st.binary().map(lambda data: base64.b64encode(data).decode()), st.none())
HEADER_NAMES = st.sampled_from(
    ["content-type", "Content-Type", "CONTENT-TYPE", "idempotency-key", "Idempotency-Key", "x"]
)
HEADER_VALUES = st.sampled_from(["application/json", "text/plain", "abc-123", '"abc-123"', '"', ""])
HEADERS = st.dictionaries(HEADER_NAMES | TEXT, HEADER_VALUES | TEXT | JSON, max_size=5)
METHODS = st.sampled_from(["GET", "HEAD", "OPTIONS", "POST"])


@pytest.fixture(scope="module")
def function() -> Iterator[RecordFunction]:
    with mock_aws():
        client = boto3.client("dynamodb")
        create_table(client, "usage")
        yield RecordFunction(client)


def assert_documented(function: RecordFunction, event: Any) -> None:
    context: Any = Context(Clock())
    answer = respond(event, context, function.service)
    function.log.seek(0)
    assert_answer_documented(answer)


def assert_answer_documented(answer: dict[str, Any]) -> None:
    # What Lambda returns has to be JSON; what API Gateway sends has to be UTF-8.
    json.dumps(answer)
    body = json.loads(answer["body"].encode())
    status = str(answer["statusCode"])
    assert status not in {"500", "503"}
    if status == "200":
        response = DOCUMENT["paths"][RECORD_USAGE.path]["post"]["responses"]["200"]
    else:
        response = DOCUMENT["components"]["responses"][f"Problem{status}"]
    always = {"Content-Type"} if status == "200" else {"Content-Type", *response["headers"]}
    assert always <= answer["headers"].keys() <= {"Content-Type", *response["headers"]}
    schema = response["content"][answer["headers"]["Content-Type"]]["schema"]
    jsonschema.validate(body, {**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize(
    "change",
    [{"table": "usage-table"}, {"category": "other"}, {"retryable": True}, {"severity": "error"}, {"code": "OTHER"}],
)
def test_an_undocumented_answer_would_be_seen(function: RecordFunction, change: dict[str, Any]) -> None:
    context: Any = Context(Clock())
    answer = respond(record_request(raw="{"), context, function.service)
    assert_answer_documented(answer)
    spoilt = answer | {"body": json.dumps(json.loads(answer["body"]) | change)}
    with pytest.raises(jsonschema.ValidationError):
        assert_answer_documented(spoilt)


@FUZZ
@given(event=JSON)
def test_an_event_of_any_shape(function: RecordFunction, event: Any) -> None:
    assert_documented(function, event)


@FUZZ
@given(body=ENCODED, is_base64=st.booleans())
def test_a_body_of_any_content(function: RecordFunction, body: str | None, is_base64: bool) -> None:
    assert_documented(function, record_request() | {"body": body, "isBase64Encoded": is_base64})


@FUZZ
@given(headers=HEADERS | st.none(), body=BODIES)
def test_headers_of_any_kind(function: RecordFunction, headers: Any, body: str) -> None:
    assert_documented(function, record_request(raw=body) | {"headers": headers})


@FUZZ
@given(claims=st.dictionaries(st.sampled_from(["org_id", "scope", "sub"]), JSON | st.just("usage:write")) | JSON)
def test_claims_of_any_kind(function: RecordFunction, claims: Any) -> None:
    event = record_request()
    event["requestContext"]["authorizer"]["jwt"]["claims"] = claims
    assert_documented(function, event)


@FUZZ
@given(data=st.data())
def test_an_event_with_any_part_missing_or_changed(function: RecordFunction, data: st.DataObject) -> None:
    event = payload(data.draw(st.sampled_from(["http-record.json", "http-record-all-members.json"])))
    part = event
    while True:
        name = data.draw(st.sampled_from(sorted(part)))
        if not isinstance(part[name], dict) or not part[name] or data.draw(st.booleans()):
            break
        part = part[name]
    if data.draw(st.booleans()):
        del part[name]
    else:
        part[name] = data.draw(JSON)
    assert_documented(function, event)


@FUZZ
@given(
    version=st.sampled_from(["1.0", "2.0", "3.0"]) | TEXT,
    values=st.dictionaries(HEADER_NAMES, st.lists(HEADER_VALUES, min_size=1, max_size=3)),
    body=BODIES,
)
def test_another_version_and_headers_with_several_values(
    function: RecordFunction, version: str, values: dict[str, list[str]], body: str
) -> None:
    # API Gateway joins several values by commas; format 1.0 lists them.
    joined = {name: ",".join(several) for name, several in values.items()}
    event = record_request(raw=body) | {"version": version, "headers": joined, "multiValueHeaders": values}
    assert_documented(function, event)


@FUZZ
@given(method=METHODS | TEXT, path=TEXT | st.just(RECORD_USAGE.path))
def test_any_route(function: RecordFunction, method: str, path: str) -> None:
    event = record_request() | {"routeKey": "$default", "rawPath": path}
    event["requestContext"]["http"]["method"] = method
    assert_documented(function, event)
