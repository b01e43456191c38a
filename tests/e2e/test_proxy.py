"""The local stack's answers to each kind of caller, over real connections to the emulator behind its proxy."""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError
from metering.http.operations import USAGE_GET

from ops import local_stack
from ops.access import to_emulator
from tests.e2e.steps import until
from tests.testing.local_stack import LocalStack
from tests.testing.payloads import example


def ask(stack: LocalStack, method: str, path: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, f"{stack.stack.endpoint}{path}", headers=named, timeout=60, trust_env=False)


def signed(key: str) -> str:
    scope = f"{key}/20261127/us-east-1/lambda/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"


@pytest.mark.parametrize("key", ["test", "000000000000", "usage-metering-local"])
def test_only_this_runs_key_id_reaches_the_emulated_aws(stack: LocalStack, key: str) -> None:
    stranger = to_emulator(stack.stack.endpoint, stack.stack.region, key, "not-a-secret")
    with pytest.raises(ClientError) as refused:
        stranger.dynamodb().scan(TableName=stack.table)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("s3", "list_buckets"),
        ("iam", "list_roles"),
        ("sts", "get_caller_identity"),
        ("sqs", "list_queues"),
        ("dynamodb", "list_tables"),
        ("lambda", "list_functions"),
    ],
)
def test_an_sdk_shows_why_a_key_id_of_another_run_is_refused(stack: LocalStack, service: Any, operation: str) -> None:
    stale = to_emulator(stack.stack.endpoint, stack.stack.region, "LOCAL0123ABCD", "not-a-secret")
    client: Any = stale.session.client(service, endpoint_url=stale.endpoint, config=stale.config)
    with pytest.raises(ClientError) as refused:
        getattr(client, operation)()
    assert refused.value.response["Error"]["Code"] == "InvalidClientTokenId"
    assert "use accessKeyId from build/local.json" in refused.value.response["Error"]["Message"]


def test_a_workers_credentials_do_not_follow_from_its_functions_name(stack: LocalStack) -> None:
    assert stack.record(stack.new_organization(), example()).status_code == 200
    access = stack.access
    functions: Any = access.session.client("lambda", endpoint_url=access.endpoint, config=access.config)
    derived = [
        hashlib.sha256(f"{function['FunctionArn']}:{function['Role']}".encode()).hexdigest()
        for function in functions.list_functions()["Functions"]
        if "RecordFunction" in function["FunctionName"]
    ]
    assert derived
    for digest in derived:
        # The emulator itself derives credentials in this way.
        client: Any = access.session.client(
            "sts",
            aws_access_key_id=f"ASIA{digest[:16].upper()}",
            aws_secret_access_key=hashlib.sha256(f"secret:{digest}".encode()).hexdigest(),
            aws_session_token=hashlib.sha256(f"token:{digest}".encode()).hexdigest(),
            endpoint_url=access.endpoint,
            config=access.config,
        )
        with pytest.raises(ClientError) as refused:
            client.get_caller_identity()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_web_page_cannot_use_the_key_id(stack: LocalStack) -> None:
    authorization = signed(stack.stack.access_key_id)
    functions = "/2015-03-31/functions/"
    assert ask(stack, "GET", functions, Authorization=authorization).status_code == 200
    assert ask(stack, "GET", functions, Authorization=authorization, Origin="http://evil.example").status_code == 403


def test_a_foreign_host_is_refused(stack: LocalStack) -> None:
    answer = ask(stack, "GET", "/saas/billing/usage/summary/v1.0.0", Host="evil.example")
    assert (answer.status_code, answer.json()["message"].partition(":")[0]) == (
        403,
        "The Host header does not name the local stack",
    )


@pytest.mark.parametrize(("method", "path"), [("GET", "/_ministack/sqs/messages"), ("GET", "/%5fministack/health")])
def test_the_emulators_own_paths_are_for_the_runner(stack: LocalStack, method: str, path: str) -> None:
    assert ask(stack, method, path).status_code == 403


def test_nobody_resets_the_stack(stack: LocalStack) -> None:
    assert ask(stack, "POST", "/_ministack/reset").status_code == 403
    assert stack.dynamodb.describe_table(TableName=stack.table)["Table"]["TableStatus"] == "ACTIVE"


def test_the_api_is_at_the_root_and_answers_unknown_routes(stack: LocalStack) -> None:
    assert stack.stack.url == stack.stack.endpoint
    assert ask(stack, "GET", "/no%20such/route?a=1&a=2").status_code == 401
    token = stack.token(stack.new_organization())
    answer = ask(stack, "GET", "/no%20such/route?a=1&a=2", Authorization=f"Bearer {token}")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_path_query_repeated_headers_and_body_reach_the_api_as_they_were_sent(stack: LocalStack) -> None:
    organization = stack.new_organization()
    key = "a+b/c%d&e=f~"
    assert stack.record(organization, {**example(), "idempotencyKey": key}).status_code == 200
    found = stack.ask(organization, USAGE_GET, idempotencyKey=key)
    assert found.json()["idempotencyKey"] == key
    token = ("Authorization", f"Bearer {stack.token(organization)}")
    twice = [token, ("Content-Type", "application/json"), ("Idempotency-Key", "k"), ("Idempotency-Key", "k")]
    refused = httpx.post(
        f"{stack.stack.endpoint}/saas/billing/usage/record/v1.0.0",
        content=json.dumps({"feature": "a", "quantity": 1}),
        headers=twice,
        timeout=60,
        trust_env=False,
    )
    assert refused.status_code == 400


@pytest.mark.parametrize("path", ["/saas/billing/usage/record/v1.0.0", "/2015-03-31/functions/", "/"])
def test_no_answer_lets_a_page_of_another_origin_read_it(stack: LocalStack, path: str) -> None:
    preflight = ask(
        stack,
        "OPTIONS",
        path,
        Origin="http://evil.example",
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization",
    )
    assert [name for name in preflight.headers if name.startswith("access-control-")] == []


def test_the_key_id_is_in_local_json_and_nowhere_else(stack: LocalStack) -> None:
    key = stack.stack.access_key_id.encode()
    files = [path for path in stack.local_json.parent.rglob("*") if path.is_file()]
    assert [path for path in files if key in path.read_bytes()] == [stack.local_json]
    assert stack.local_json.stat().st_mode & 0o777 == 0o600


def test_nobody_but_the_user_can_read_the_logs(stack: LocalStack) -> None:
    logs = sorted(local_stack.folder(stack.local_json).glob("*.log"))
    assert [(log.name, log.stat().st_mode & 0o777) for log in logs] == [
        ("deploy.log", 0o600),
        ("emulator.log", 0o600),
        ("functions.log", 0o600),
    ]


def test_a_problems_trace_id_finds_the_functions_log_line(stack: LocalStack) -> None:
    trace_id = stack.record(stack.new_organization(), {"feature": "a"}).json()["traceId"]
    log = local_stack.folder(stack.local_json) / "functions.log"

    def logged() -> list[Any]:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return [(line["message"], line["function"]) for line in lines if line.get("correlation_id") == trace_id]

    assert until(logged)
    ((message, function),) = logged()
    assert message == "invalid request"
    assert "RecordFunction" in function


def test_a_worker_knows_neither_the_key_id_nor_the_runners_secret(stack: LocalStack) -> None:
    assert stack.record(stack.new_organization(), example()).status_code == 200
    workers = _workers(local_stack.folder(stack.local_json) / "tmp")
    if not workers:
        pytest.skip("the test finds processes in /proc, which this system lacks")
    for process in workers:
        environment = Path(f"/proc/{process}/environ").read_bytes()
        assert b"AWS_ACCESS_KEY_ID=ASIA" in environment
        assert stack.stack.access_key_id.encode() not in environment
        assert b"EMULATOR_PROXY_" not in environment


def test_a_killed_workers_copy_of_the_bundle_is_deleted(stack: LocalStack) -> None:
    assert stack.record(stack.new_organization(), example()).status_code == 200
    copies = local_stack.folder(stack.local_json) / "tmp"
    workers = _workers(copies)
    if not workers:
        pytest.skip("the test finds processes in /proc, which this system lacks")
    for process in workers:
        os.kill(process, signal.SIGKILL)
    gone = set(workers.values())
    assert until(lambda: not any(copy.exists() for copy in gone))
    # The next request starts a new worker.
    assert stack.record(stack.new_organization(), example()).status_code == 200


def _workers(copies: Path) -> dict[int, Path]:
    """The running workers, and their copies of the bundle."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        for argument in arguments[1:2]:
            script = Path(os.fsdecode(argument))
            if script.is_relative_to(copies):
                found[int(process.name)] = script.parent
    return found
