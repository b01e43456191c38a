"""The published document against the deployed stack, over HTTP, with a valid token."""

import itertools
import re
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from metering.http.caller import ORGANIZATION_HEADER
from metering.http.operations import OPERATIONS, RECORD_USAGE, RECORD_USAGES
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz import closed
from tests.fuzz.closed import assert_adds_up
from tests.fuzz.settings import CASES, FUZZ
from tests.testing.local_stack import LocalStack
from tests.testing.payloads import example
from tests.testing.table import counted, items, records

pytestmark = pytest.mark.verify

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
API = schemathesis.openapi.from_dict(closed.document())
RECORD = API[RECORD_USAGE.path][RECORD_USAGE.method]
RECORD_BATCH = API[RECORD_USAGES.path][RECORD_USAGES.method]
QUERIES = [API[operation.path][operation.method] for operation in OPERATIONS.values() if operation.kind == "query"]

_NUMBERS = itertools.count()


def _name_no_other_organization(draw: st.DrawFn, case: Any) -> None:
    """Remove most Organization-Id headers, because a header that names another organization fails the request."""
    if draw(st.integers(0, 15)):
        case.headers = {name: value for name, value in (case.headers or {}).items() if name != ORGANIZATION_HEADER}


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """Requests that fit the document, mostly as a client would send them, and requests that do not."""
    mode = draw(st.sampled_from([GenerationMode.POSITIVE] * 7 + [GenerationMode.NEGATIVE]))
    case: Any = draw(RECORD.as_strategy(generation_mode=mode))
    _name_no_other_organization(draw, case)
    if mode is GenerationMode.POSITIVE and draw(st.integers(0, 15)):
        # Copy the body, because it may be the document's own example.
        case.body = dict(case.body)
        # JSON Schema takes 1.0 for an integer, and the contract does not. One of the two keys is required.
        case.body["quantity"] = int(case.body["quantity"])
        # Each case needs a new key, because drawn values repeat.
        key = case.body["idempotencyKey"] = f"{draw(st.sampled_from(['k-', '#', '~!']))}{next(_NUMBERS)}"
        case.headers = {"Idempotency-Key": key} if draw(st.booleans()) else {}
    return case


@pytest.mark.timeout(0)
def test_any_request_gets_a_documented_answer(stack: LocalStack, capsys: pytest.CaptureFixture[str]) -> None:
    organization = stack.new_organization()
    statuses: Counter[int] = Counter()
    accepted: dict[str, int] = {}

    def say(statuses: Counter[int]) -> None:
        with capsys.disabled():
            by_status = ", ".join(f"{status}: {number}" for status, number in sorted(statuses.items()))
            print(f"\nfuzz: {sum(statuses.values())} cases over HTTP with the statuses {by_status}", flush=True)

    @FUZZ
    @given(requests())
    def send(case: Any) -> None:
        token = stack.token(organization)
        answer = case.call(base_url=stack.stack.url, headers={"Authorization": f"Bearer {token}"})
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code == 200:
            key = case.body.get("idempotencyKey") or _unquoted(case.headers["Idempotency-Key"])
            accepted[key] = case.body["quantity"]
        if sum(statuses.values()) % 500 == 0:
            say(statuses)

    send()
    say(statuses)
    assert sum(statuses.values()) >= CASES
    assert statuses[200] >= sum(statuses.values()) / 3
    # Each accepted usage is stored once, and the other requests wrote nothing.
    assert counted(stack.dynamodb, stack.table, organization) == (sum(accepted.values()), len(accepted))
    assert len(records(stack.dynamodb, stack.table, organization)) == len(accepted)


def _unquoted(header: str) -> str:
    # `"k"` and `k` are the same key. Source: RFC 8941, section 3.3.3.
    return re.sub(r"\\(.)", r"\1", header[1:-1]) if header.startswith('"') else header


@st.composite
def batches(draw: st.DrawFn) -> Any:
    """Batches like `requests`. The keys of a valid batch are new, from an earlier batch, or in it twice."""
    mode = draw(st.sampled_from([GenerationMode.POSITIVE] * 7 + [GenerationMode.NEGATIVE]))
    case: Any = draw(RECORD_BATCH.as_strategy(generation_mode=mode))
    _name_no_other_organization(draw, case)
    if mode is GenerationMode.POSITIVE and draw(st.integers(0, 15)):
        sent = [{**record, "quantity": int(record["quantity"])} for record in case.body["records"]]
        for record in sent:
            new = f"b-{next(_NUMBERS)}"
            record["idempotencyKey"] = draw(st.sampled_from([new, new, f"b-{draw(st.integers(0, 40))}"]))
        case.body = {"records": sent + draw(st.sampled_from([[], sent, sent[:1]]))}
    return case


@pytest.mark.timeout(0)
def test_any_batch_counts_each_record_at_most_once(stack: LocalStack) -> None:
    organization = stack.new_organization()
    authorization = {"Authorization": f"Bearer {stack.token(organization)}"}
    answers: Counter[int] = Counter()
    statuses: Counter[str] = Counter()
    accepted: dict[str, int] = {}

    @FUZZ
    @given(batches())
    def send(case: Any) -> None:
        answer = case.call(base_url=stack.stack.url, headers=authorization)
        answers[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code != 200:
            return
        assert_adds_up(answer.json(), case.body["records"])
        statuses.update(answer.json()["totals"])
        for result, record in zip(answer.json()["results"], case.body["records"], strict=True):
            if result["status"] == "recorded":
                assert record["idempotencyKey"] not in accepted
                accepted[record["idempotencyKey"]] = record["quantity"]
            if result["status"] == "replayed":
                assert accepted[record["idempotencyKey"]] == record["quantity"]

    send()
    assert sum(answers.values()) >= CASES
    assert answers[200] >= CASES / 3
    assert min(statuses[status] for status in ("recorded", "replayed", "conflict", "invalid")) > 0
    assert counted(stack.dynamodb, stack.table, organization) == (sum(accepted.values()), len(accepted))
    assert len(records(stack.dynamodb, stack.table, organization)) == len(accepted)


@st.composite
def queries(draw: st.DrawFn) -> Any:
    """Queries that fit the document and queries that do not, sometimes for stored data."""
    mode = draw(st.sampled_from([GenerationMode.POSITIVE] * 3 + [GenerationMode.NEGATIVE]))
    case: Any = draw(draw(st.sampled_from(QUERIES)).as_strategy(generation_mode=mode))
    _name_no_other_organization(draw, case)
    # Absent parameters may be None. Copy the others, because they may be the document's own example.
    case.query = dict(case.query or {})
    known = {
        "feature": "api_calls",
        "idempotencyKey": "abc-123",
        "billingPeriod": "current",
        "period": "current",
        "by": "day",
    }
    case.query |= {name: known[name] for name in known.keys() & case.query.keys() if draw(st.booleans())}
    return case


@pytest.mark.timeout(0)
def test_any_query_gets_a_documented_answer_and_changes_nothing(stack: LocalStack) -> None:
    organization = stack.new_organization()
    stack.subscribe(organization)
    stack.record(organization, example())
    before = _all_of(organization, stack)
    authorization = {"Authorization": f"Bearer {stack.token(organization, scopes=['usage:read'])}"}
    statuses: Counter[int] = Counter()
    answered: set[str] = set()

    @FUZZ
    @given(queries())
    def send(case: Any) -> None:
        answer = case.call(base_url=stack.stack.url, headers=authorization)
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code == 200:
            answered.add(case.operation.path)

    send()
    assert sum(statuses.values()) >= CASES
    assert statuses[200] >= sum(statuses.values()) / 10
    assert answered == {operation.path for operation in OPERATIONS.values() if operation.kind == "query"}
    assert _all_of(organization, stack) == before


def _all_of(organization: str, stack: LocalStack) -> list[dict[str, Any]]:
    return [item for item in items(stack.dynamodb, stack.table, "") if organization in item["pk"]["S"]]
