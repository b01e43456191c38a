"""The published document against the deployed stack, over HTTP, with a valid token."""

import itertools
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from metering.contract import RECORD_USAGE
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz import closed
from tests.fuzz.settings import CASES, FUZZ
from tests.local_stack import LocalStack
from tests.table import counted, records

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
RECORD = schemathesis.openapi.from_dict(closed.document())[RECORD_USAGE.path][RECORD_USAGE.method]

_NUMBERS = itertools.count()


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """What fits the document and what does not; most of what fits as a caller of ours would send it."""
    mode = draw(st.sampled_from([GenerationMode.POSITIVE] * 7 + [GenerationMode.NEGATIVE]))
    case: Any = draw(RECORD.as_strategy(generation_mode=mode))
    if mode is GenerationMode.POSITIVE and draw(st.integers(0, 15)):
        # A copy: it may be the document's own example.
        case.body = dict(case.body)
        # To JSON Schema 1.0 is an integer, to the contract it is not; and one of the two keys has to be there.
        case.body["quantity"] = int(case.body["quantity"])
        # One usage per case: whatever is drawn repeats.
        key = case.body["idempotencyKey"] = f"{draw(st.sampled_from(['k-', '#', '~!']))}{next(_NUMBERS)}"
        case.headers = {"Idempotency-Key": key} if draw(st.booleans()) else {}
    return case


@pytest.mark.timeout(0)
def test_whatever_is_sent_the_answer_is_a_documented_one(stack: LocalStack, capsys: pytest.CaptureFixture[str]) -> None:
    organization = stack.new_organization()
    statuses: Counter[int] = Counter()
    accepted: dict[str, int] = {}

    def say(statuses: Counter[int]) -> None:
        with capsys.disabled():
            by_status = ", ".join(f"{status}: {number}" for status, number in sorted(statuses.items()))
            print(f"\nfuzz: {sum(statuses.values())} cases over HTTP, by status: {by_status}", flush=True)

    @FUZZ
    @given(requests())
    def send(case: Any) -> None:
        token = stack.token(organization)
        answer = case.call(base_url=stack.stack.url, headers={"Authorization": f"Bearer {token}"})
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code == 200:
            key = case.body.get("idempotencyKey") or case.headers["Idempotency-Key"]
            accepted[key] = case.body["quantity"]
        if sum(statuses.values()) % 500 == 0:
            say(statuses)

    send()
    say(statuses)
    assert sum(statuses.values()) >= CASES
    assert statuses[200] >= sum(statuses.values()) / 3
    # Whatever was refused wrote nothing, and whatever was accepted is there once.
    assert counted(stack.dynamodb, stack.table, organization) == (sum(accepted.values()), len(accepted))
    assert len(records(stack.dynamodb, stack.table, organization)) == len(accepted)
