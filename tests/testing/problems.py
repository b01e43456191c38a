"""Checks that an answer is a problem of the contract."""

from tests.testing.service import Reply

PROBLEM_MEMBERS = {
    "type", "title", "status", "code", "detail", "category", "severity", "retryable", "traceId",
}  # fmt: skip


def assert_problem(reply: Reply, status: int, code: str, category: str = "validation") -> None:
    assert (reply.status, reply.body["status"]) == (status, status)
    assert (reply.body["code"], reply.body["category"]) == (code, category)
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.body.keys() >= PROBLEM_MEMBERS
    assert reply.body["severity"] == ("warning" if status < 500 else "error")
    assert reply.body["retryable"] is (status == 503)
    assert reply.body["traceId"] == "AbC1dEfGoAMEJrg="
