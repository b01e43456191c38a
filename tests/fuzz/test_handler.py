"""Arbitrary events, headers, bodies and query strings always get a documented answer from the handlers."""

import base64
import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering.http.operations import (
    FEATURE_CHECK,
    OPERATIONS,
    RECORD_USAGE,
    RECORD_USAGES,
    USAGE_GET,
    USAGE_LIST,
    USAGE_SUMMARY,
    Operation,
)
from metering.model.names import KEY_PATTERN
from metering.model.plans import Plan
from metering.model.usage import RecordFilter
from metering.usage.cursors import START, position_after, to_text
from moto import mock_aws

from tests.fuzz.closed import DOCUMENT, assert_adds_up
from tests.fuzz.settings import FUZZ
from tests.testing.aws import SESSION
from tests.testing.payloads import batch_request, example, payload, query_request, record_request
from tests.testing.service import Clock, Context, QueryFunction, RecordFunction
from tests.testing.subscribed import FEATURES, SUBSCRIBED
from tests.testing.table import create_table, put_on_plan

pytestmark = pytest.mark.verify

# These texts include halves of surrogate pairs, which Python's strings can hold and UTF-8 cannot.
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
# Mostly the contract's members, with mostly wrong values. json.dumps writes NaN and lone surrogates, as callers might.
BODIES = st.one_of(
    st.dictionaries(NAMES | TEXT, VALUES, max_size=7).map(lambda members: json.dumps({**example(), **members})),
    JSON.map(json.dumps),
    TEXT,
    st.text(st.sampled_from('{}[]",:\\ue1-.0'), max_size=40),
)
# Mostly valid records, with few keys and small quantities so that they collide, and some values that are no records.
RECORDS = st.one_of(
    st.builds(
        example,
        feature=st.sampled_from(["api_calls", "seats", "unheard_of"]),
        quantity=st.integers(1, 2),
        idempotencyKey=st.sampled_from([f"k-{number}" for number in range(30)]),
    ),
    st.dictionaries(NAMES | TEXT, VALUES, max_size=7).map(lambda members: {**example(), **members}),
    JSON,
)
FEW = st.lists(RECORDS, min_size=1, max_size=6)
FEW_MANY_TIMES = st.builds(lambda few, number: (few * number)[:number], FEW, st.sampled_from([99, 100, 101]))
BATCHES = st.one_of(FEW, FEW, FEW, FEW_MANY_TIMES, JSON)
ENCODED = st.one_of(BODIES, st.binary().map(lambda data: base64.b64encode(data).decode()), st.none())
HEADER_NAMES = st.sampled_from(
    ["content-type", "Content-Type", "CONTENT-TYPE", "idempotency-key", "Idempotency-Key", "x"]
)
HEADER_VALUES = st.sampled_from(["application/json", "text/plain", "abc-123", '"abc-123"', '"', "", "k,k", '"k,k"'])
# Idempotency keys that a header can hold unquoted.
KEYS = st.from_regex(KEY_PATTERN, fullmatch=True).filter(lambda key: not key.startswith('"'))
HEADERS = st.dictionaries(HEADER_NAMES | TEXT, HEADER_VALUES | TEXT | JSON, max_size=5)
METHODS = st.sampled_from(["GET", "HEAD", "OPTIONS", "POST"])
PATHS = st.sampled_from(sorted(OPERATIONS))
QUERIES = st.sampled_from([operation for operation in OPERATIONS.values() if operation.kind == "query"])
# Mostly the contract's parameters, with mostly valid values, and some that no client sends.
PARAMETERS = st.sampled_from(
    [
        *("feature", "quantity", "idempotencyKey", "billingPeriod", "period", "by", "pageSize", "cursor"),
        *("organizationId", "%66eature"),
    ]
)
_CURSORS = [to_text(position, "demo-org", RecordFilter()) for position in (START, position_after("abc-123"))]
ASKED = st.sampled_from(
    [
        *("api_calls", "abc-123", "seats", "2026-11", "current", "2026-12", "day", "1", "007", "1.0", "1000", ""),
        *("a%23b", "%C3%BC", *_CURSORS),
    ]
)
ODD = st.text(st.sampled_from("%&=+#,;af0 \u00fc"), max_size=8) | TEXT
QUERY_STRINGS = st.lists(st.tuples(PARAMETERS, ASKED) | st.tuples(PARAMETERS | ODD, ASKED | ODD), max_size=3).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)


@pytest.fixture(scope="module")
def function() -> Iterator[RecordFunction]:
    with mock_aws():
        client = SESSION.client("dynamodb")
        create_table(client, "usage")
        yield RecordFunction(client)


@pytest.fixture(scope="module")
def ask(function: RecordFunction) -> QueryFunction:
    """The query function. `demo-org` has usage, a plan and a subscription."""
    put_on_plan(function.client, "usage", SUBSCRIBED, Plan("pro", "Pro", FEATURES))
    function(payload("http-record.json"))
    function(payload("http-record-all-members.json"))
    return QueryFunction(function.client)


def assert_documented(
    function: RecordFunction | QueryFunction, event: Any, operation: Operation = RECORD_USAGE
) -> dict[str, Any]:
    context: Any = Context(Clock())
    answer = function.answer(event, context)
    function.log.seek(0)
    assert_answer_documented(answer, operation)
    return answer


def assert_answer_documented(answer: dict[str, Any], operation: Operation = RECORD_USAGE) -> None:
    # Lambda must return JSON, and API Gateway must send UTF-8.
    json.dumps(answer)
    body = json.loads(answer["body"].encode())
    status = str(answer["statusCode"])
    assert status not in {"500", "503"}
    if status == "200":
        response = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]["200"]
    else:
        response = DOCUMENT["components"]["responses"][f"Problem{status}"]
    named = {"Content-Type", *response.get("headers", {})}
    always = {"Content-Type"} if status == "200" else named
    assert always <= answer["headers"].keys() <= named
    schema = response["content"][answer["headers"]["Content-Type"]]["schema"]
    jsonschema.validate(body, {**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer: answer["results"].reverse(),
        lambda answer: answer["results"].pop(),
        lambda answer: answer["totals"].update(recorded=2),
        lambda answer: answer["results"][0].pop("currentUsage"),
        lambda answer: answer["results"][1].update(currentUsage=99),
        lambda answer: answer["results"][2]["problem"].update(code="OTHER"),
        lambda answer: answer["results"][2].update(currentUsage=1),
    ],
    ids=["another order", "one missing", "totals", "no total", "another total", "another problem", "both"],
)
def test_the_check_detects_a_batch_answer_that_does_not_add_up(
    function: RecordFunction, spoil: Callable[[Any], None]
) -> None:
    records = [example(idempotencyKey="adds"), example(idempotencyKey="up"), example(quantity="1")]
    answer = function(batch_request(records)).body
    assert_adds_up(answer, records)
    spoil(answer)
    with pytest.raises((AssertionError, jsonschema.ValidationError)):
        assert_adds_up(answer, records)


@pytest.mark.parametrize(
    "change",
    [{"table": "usage-table"}, {"category": "other"}, {"retryable": True}, {"severity": "error"}, {"code": "OTHER"}],
)
def test_the_check_detects_an_undocumented_answer(function: RecordFunction, change: dict[str, Any]) -> None:
    context: Any = Context(Clock())
    answer = function.answer(record_request(raw="{"), context)
    assert_answer_documented(answer)
    spoilt = answer | {"body": json.dumps(json.loads(answer["body"]) | change)}
    with pytest.raises(jsonschema.ValidationError):
        assert_answer_documented(spoilt)


@FUZZ
@given(event=JSON)
def test_an_event_of_any_shape_gets_a_documented_answer(function: RecordFunction, event: Any) -> None:
    assert_documented(function, event)


@FUZZ
@given(body=ENCODED, is_base64=st.booleans())
def test_a_body_of_any_content_gets_a_documented_answer(
    function: RecordFunction, body: str | None, is_base64: bool
) -> None:
    assert_documented(function, record_request() | {"body": body, "isBase64Encoded": is_base64})


def test_a_batch_of_any_records_gets_a_documented_answer(function: RecordFunction) -> None:
    seen: Counter[str] = Counter()

    @FUZZ
    @given(records=BATCHES)
    def send(records: Any) -> None:
        answer = assert_documented(function, batch_request(raw=json.dumps({"records": records})), RECORD_USAGES)
        seen[str(answer["statusCode"])] += 1
        if answer["statusCode"] == 200:
            assert_adds_up(json.loads(answer["body"]), records)
            seen.update(json.loads(answer["body"])["totals"])

    send()
    assert min(seen[each] for each in ("recorded", "replayed", "conflict", "invalid", "400", "422")) > 0


@FUZZ
@given(
    body=ENCODED | st.dictionaries(st.just("records") | NAMES | TEXT, BATCHES | VALUES, max_size=3).map(json.dumps),
    headers=st.none() | HEADERS,
    is_base64=st.booleans(),
)
def test_a_batch_of_any_content_gets_a_documented_answer(
    function: RecordFunction, body: str | None, headers: Any, is_base64: bool
) -> None:
    event = batch_request() | {"body": body, "isBase64Encoded": is_base64}
    assert_documented(function, event if headers is None else event | {"headers": headers}, RECORD_USAGES)


@FUZZ
@given(headers=HEADERS | st.none(), body=BODIES)
def test_headers_of_any_kind_get_a_documented_answer(function: RecordFunction, headers: Any, body: str) -> None:
    assert_documented(function, record_request(raw=body) | {"headers": headers})


@FUZZ
@given(claims=st.dictionaries(st.sampled_from(["org_id", "scope", "sub"]), JSON | st.just("usage:write")) | JSON)
def test_claims_of_any_kind_get_a_documented_answer(function: RecordFunction, claims: Any) -> None:
    event = record_request()
    event["requestContext"]["authorizer"]["jwt"]["claims"] = claims
    assert_documented(function, event)


@FUZZ
@given(data=st.data())
def test_an_event_with_any_part_missing_or_changed_gets_a_documented_answer(
    function: RecordFunction, data: st.DataObject
) -> None:
    event, operation = data.draw(
        st.sampled_from(
            [
                (payload("http-record.json"), RECORD_USAGE),
                (payload("http-record-all-members.json"), RECORD_USAGE),
                (payload("http-record-batch.json"), RECORD_USAGES),
            ]
        )
    )
    event = copy.deepcopy(event)
    _change_a_part(event, data)
    assert_documented(function, event, operation)


@FUZZ
@given(
    version=st.sampled_from(["1.0", "2.0", "3.0"]) | TEXT,
    values=st.dictionaries(HEADER_NAMES, st.lists(HEADER_VALUES, min_size=1, max_size=3)),
    body=BODIES,
)
def test_another_payload_version_gets_a_documented_answer(
    function: RecordFunction, version: str, values: dict[str, list[str]], body: str
) -> None:
    # API Gateway joins several values with commas. Payload format 1.0 lists them.
    joined = {name: ",".join(several) for name, several in values.items()}
    event = record_request(raw=body) | {"version": version, "headers": joined, "multiValueHeaders": values}
    assert_documented(function, event)


@FUZZ
@given(
    sent=st.lists(KEYS | KEYS.map(lambda key: '"' + re.sub(r'(["\\])', r"\\\1", key) + '"'), min_size=2, max_size=3),
    between=st.sampled_from([",", ", "]),
    in_body=st.booleans(),
)
def test_a_key_in_headers_that_were_joined_is_never_recorded(
    function: RecordFunction, sent: list[str], between: str, in_body: bool
) -> None:
    body = example() if in_body else example(idempotencyKey=...)
    answer = assert_documented(function, record_request(body, headers={"idempotency-key": between.join(sent)}))
    assert answer["statusCode"] == 400


@FUZZ
@given(method=METHODS | TEXT, path=TEXT | PATHS)
def test_any_route_gets_a_documented_answer(
    function: RecordFunction, ask: QueryFunction, method: str, path: str
) -> None:
    event = record_request() | {"routeKey": "$default", "rawPath": path}
    event["requestContext"]["http"]["method"] = method
    operation = OPERATIONS.get(path)
    for entry, kind in ((function, "command"), (ask, "query")):
        if operation is not None and method == operation.method and kind != operation.kind:
            assert entry.reply(event).status == 503
        else:
            assert_documented(entry, event, operation or RECORD_USAGE)


@FUZZ
@given(operation=QUERIES, raw=QUERY_STRINGS | TEXT)
def test_a_query_string_of_any_content_gets_a_documented_answer(
    ask: QueryFunction, operation: Operation, raw: str
) -> None:
    assert_documented(ask, query_request(operation, raw=raw), operation)


@FUZZ
@given(operation=QUERIES, claims=st.dictionaries(st.sampled_from(["org_id", "scope"]), JSON | st.just("usage:read")))
def test_a_query_with_any_claims_gets_a_documented_answer(
    ask: QueryFunction, operation: Operation, claims: Any
) -> None:
    event = query_request(operation)
    event["requestContext"]["authorizer"]["jwt"]["claims"] = claims
    assert_documented(ask, event, operation)


@FUZZ
@given(data=st.data())
def test_a_query_event_with_any_part_missing_or_changed_gets_a_documented_answer(
    ask: QueryFunction, data: st.DataObject
) -> None:
    event = payload("http-feature-check.json")
    _change_a_part(event, data)
    assert_documented(ask, event, FEATURE_CHECK)


@pytest.mark.parametrize(
    ("operation", "raw"),
    [
        (FEATURE_CHECK, "feature=api_calls&quantity=2"),
        (USAGE_GET, "idempotencyKey=abc-123"),
        (USAGE_LIST, "pageSize=1"),
        (USAGE_SUMMARY, "period=current&by=day"),
    ],
    ids=lambda each: each.key if isinstance(each, Operation) else each,
)
def test_the_check_detects_an_undocumented_member_of_a_query_answer(
    ask: QueryFunction, operation: Operation, raw: str
) -> None:
    answer = assert_documented(ask, query_request(operation, raw=raw), operation)
    assert answer["statusCode"] == 200
    spoilt = answer | {"body": json.dumps(json.loads(answer["body"]) | {"table": "usage-table"})}
    with pytest.raises(jsonschema.ValidationError):
        assert_answer_documented(spoilt, operation)


def _change_a_part(event: Any, data: st.DataObject) -> None:
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
