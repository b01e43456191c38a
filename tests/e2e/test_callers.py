"""Behind API Gateway's authorizer, too, a caller acts only for the organizations that its token allows."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx
import pytest

from tests.testing.local_stack import LocalStack
from tests.testing.payloads import example
from tests.testing.table import counted

ORGANIZATIONS, THREADS, RECORDS = 50, 16, 400


@pytest.mark.parametrize("claim", ["scope", "scp"])
@pytest.mark.parametrize("granted", ["openid usage:write", ["openid", "usage:write"], ["usage:write", "openid"]])
def test_scopes_count_in_either_claim_as_text_and_as_list(stack: LocalStack, claim: str, granted: Any) -> None:
    organization = stack.new_organization()
    token = stack.token_with(org_id=organization, **{claim: granted})
    assert stack.post(example(), {"Authorization": f"Bearer {token}"}).status_code == 200


# No integer is among them: API Gateway shows 7 as the text of an organization that is called 7.
@pytest.mark.parametrize("name", [None, True, False, 7.5, ["demo-org"], {"demo-org": {}}])
def test_a_claim_that_is_no_text_names_no_organization(stack: LocalStack, name: Any) -> None:
    token = stack.token_with(org_id=name, scope="usage:write")
    assert _problem(stack.post(example(), {"Authorization": f"Bearer {token}"})) == (403, "FORBIDDEN")


def test_a_service_records_for_many_organizations_with_one_token(stack: LocalStack) -> None:
    names = [stack.new_organization() for _ in range(ORGANIZATIONS)]
    choices = Random(14).choices(names, k=RECORDS)
    # Every organization uses the keys k-0, k-1 and so on, which are different records in each.
    keys = [f"k-{choices[:index].count(name)}" for index, name in enumerate(choices)]
    send = _sender(stack, stack.token(None, scopes=["usage:write", "usage:any-organization"]))
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(send, choices, keys))
    assert [answer.status_code for answer in answers] == [200] * RECORDS
    totals: dict[str, list[int]] = {name: [] for name in names}
    for name, answer in zip(choices, answers, strict=True):
        totals[name].append(answer.json()["currentUsage"])
    expected = Counter(choices)
    for name in names:
        assert counted(stack.dynamodb, stack.table, name) == (expected[name], expected[name])
        assert max(totals[name], default=0) == expected[name]


def test_a_caller_without_the_scope_cannot_record_for_other_organizations(stack: LocalStack) -> None:
    names = [stack.new_organization() for _ in range(ORGANIZATIONS)]
    own = stack.new_organization()
    for token in (stack.token(own), stack.token(None)):
        with ThreadPoolExecutor(THREADS) as threads:
            for answer in threads.map(_sender(stack, token), names, names):
                assert _problem(answer) == (403, "FORBIDDEN")
    for name in (own, *names):
        assert counted(stack.dynamodb, stack.table, name) == (0, 0)


def test_a_service_that_names_no_organization_gets_a_bad_request(stack: LocalStack) -> None:
    token = stack.token(None, scopes=["usage:write", "usage:any-organization"])
    assert _problem(stack.post(example(), {"Authorization": f"Bearer {token}"})) == (400, "BAD_REQUEST")


def _problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def _sender(stack: LocalStack, token: str) -> Callable[[str, str], httpx.Response]:
    def send(organization: str, key: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "Organization-Id": organization}
        return stack.post(example(idempotencyKey=key), headers)

    return send
