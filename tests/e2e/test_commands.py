"""The commands as processes, as users run them: the runner of `make run`, and `metering`."""

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from local import emulator
from ops.access import to_emulator
from tests.e2e.steps import metering, until
from tests.testing.local_stack import LocalStack, ids
from tests.testing.payloads import example, payload
from tools import setup

_START_TIMEOUT_S = 120


def viewer(local_json: Path, output: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start `metering events` with its output in a file."""
    with output.open("wb") as file:
        return subprocess.Popen(
            [setup.METERING, "events", *arguments], env={**os.environ, "METERING_LOCAL": str(local_json)}, stdout=file
        )


def test_an_organization_made_by_command_may_record_with_a_token_made_by_command(stack: LocalStack) -> None:
    assert metering(stack.local_json, "organizations", "put", "by-command").returncode == 0
    got = metering(stack.local_json, "organizations", "get", "by-command", "--json")
    assert json.loads(got.stdout) == {"organizationId": "by-command", "status": "active"}
    token = metering(stack.local_json, "token", "--organization", "by-command").stdout.strip()
    assert stack.post(example(), {"Authorization": f"Bearer {token}"}).status_code == 200
    weak = metering(stack.local_json, "token", "--organization", "by-command", "--scope", "usage:read").stdout.strip()
    assert stack.post(example(), {"Authorization": f"Bearer {weak}"}).status_code == 403
    expired = metering(stack.local_json, "token", "--organization", "by-command", "--expires-in", "-5").stdout.strip()
    assert stack.post(example(), {"Authorization": f"Bearer {expired}"}).status_code == 401
    # Wait for the event, because a viewer of the next test might show it.
    assert len(stack.events("by-command", at_least=1)) == 1


def test_plans_and_limits_set_by_command_are_what_recording_answers(stack: LocalStack, tmp_path: Path) -> None:
    organization, plan = f"planned-{uuid.uuid4().hex[:8]}", f"plan-{uuid.uuid4().hex[:8]}"
    file = tmp_path / "plans.yaml"

    def apply(features: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        file.write_text(f"plans:\n  {plan}:\n    name: Plan\n    features: {features}\n")
        return metering(stack.local_json, "plans", "apply", str(file), "--json", *arguments)

    def put(*arguments: str) -> tuple[int, str]:
        done = metering(stack.local_json, "organizations", "put", organization, *arguments)
        return done.returncode, done.stderr

    created = apply("{api_calls: {limit: 10}, exports: {limit: 1}}")
    assert (created.returncode, created.stderr) == (0, "")
    again = apply("{exports: {limit: 1}, api_calls: {limit: 10}}")
    assert json.loads(again.stdout)["plans"][plan] == {"change": "unchanged", "members": []}
    assert put("--plan", plan, "--limit", "exports=5") == (0, "")
    assert put("--plan-name", "P", "--limit", "exports=7") == (0, "")

    assert stack.record(organization, example(feature="api_calls", idempotencyKey="a")).json()["limit"] == 10
    assert stack.record(organization, example(feature="exports", idempotencyKey="e")).json()["limit"] == 7

    refused = apply("{api_calls: {limit: 20}}")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{plan} loses exports, which {organization} used in " in refused.stderr
    changed = apply("{api_calls: {limit: 20}}", "--yes")
    assert (changed.returncode, changed.stderr) == (0, "")
    shown = json.loads(metering(stack.local_json, "plans", "get", plan, "--json").stdout)
    assert {name: feature["limit"] for name, feature in shown["features"].items()} == {"api_calls": 20}
    listed = json.loads(metering(stack.local_json, "organizations", "list", "--json").stdout)["organizations"]
    (ours,) = (one for one in listed if one["organizationId"] == organization)
    assert (ours["planId"], ours["planName"], ours["limits"]) == (plan, "P", {"exports": 7})

    in_use = metering(stack.local_json, "plans", "delete", plan)
    assert (in_use.returncode, f"are on it: {organization}." in in_use.stderr) == (1, True)
    assert put("--plan", "pro") == (0, "")
    assert metering(stack.local_json, "plans", "delete", plan).stdout == f"{plan} was deleted.\n"
    assert plan not in json.loads(metering(stack.local_json, "plans", "list", "--json").stdout)["plans"]
    # Wait for the events, because a viewer of the next test might show them.
    assert len(stack.events(organization, at_least=2)) == 2


def test_every_viewer_sees_every_event(stack: LocalStack, tmp_path: Path) -> None:
    organization, probe = stack.new_organization(), stack.new_organization()
    outputs = [tmp_path / "one", tmp_path / "other"]
    viewers = [viewer(stack.local_json, output) for output in outputs]
    probes = 0

    def seen(output: Path, organization: str = organization) -> dict[str, Any]:
        # Events that other tests caused may come in between.
        shown = [json.loads(line) for line in output.read_text().splitlines()]
        ours = [event for event in shown if event["detail"]["payload"].get("organizationId") == organization]
        return {event["detail"]["id"]: event for event in ours}

    def look() -> bool:
        # A viewer shows only events after its start, and does not say when it has started.
        nonlocal probes
        probes += 1
        stack.record(probe, example(idempotencyKey=f"probe-{probes}")).raise_for_status()
        return until(lambda: all(seen(output, probe) for output in outputs), timeout_s=1)

    assert until(look, _START_TIMEOUT_S)
    for number in (1, 2):
        stack.record(organization, example(idempotencyKey=f"k-{number}")).raise_for_status()
    audited = {event["detail"]["id"] for event in stack.events(organization, at_least=2)}
    # Wait for the events, because a viewer of the next test might show them.
    assert len(ids(stack.events(probe, at_least=probes))) == probes
    assert until(lambda: all(seen(output).keys() == audited for output in outputs))
    for output in outputs:
        assert all(event.keys() == payload("billing.usage.recorded.json").keys() for event in seen(output).values())
    for process in viewers:
        process.send_signal(signal.SIGINT)
    assert [process.wait(timeout=30) for process in viewers] == [0, 0]
    everything = metering(stack.local_json, "events", "--all", "--count", "2", "--timeout", "5")
    assert (everything.returncode, len(everything.stdout.splitlines())) == (0, 2)


def test_a_viewer_gives_up_in_time(stack: LocalStack) -> None:
    assert metering(stack.local_json, "events", "--count", "1", "--timeout", "0.5").returncode == 1


def test_other_credentials_are_refused(stack: LocalStack) -> None:
    stranger = to_emulator(stack.stack.endpoint, stack.stack.region, "stranger", "not-a-secret")
    with pytest.raises(ClientError):
        stranger.dynamodb().scan(TableName=stack.table)


def test_the_runner_restarts_after_a_kill_and_stops_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    directory, output, port = tmp_path / "build", tmp_path / "output", emulator.free_port()
    first = _run(directory, port, output)
    url = _ready_url(output)
    first_facts = json.loads((directory / "local.json").read_text())
    first.kill()
    first.wait()

    second = _run(directory, port, output)
    assert _ready_url(output) == url == f"http://127.0.0.1:{port}"
    local_json = directory / "local.json"
    facts = json.loads(local_json.read_text())
    assert facts.keys() == {
        "url", "endpoint", "region", "accessKeyId", "secretAccessKey", "table", "bus", "queueUrl", "issuer",
        "tokenEndpoint", "pid",
    }  # fmt: skip
    assert (facts["url"], facts["pid"]) == (url, second.pid)
    assert facts["tokenEndpoint"] == first_facts["tokenEndpoint"]
    # The key of the previous run no longer works.
    assert facts["accessKeyId"] != first_facts["accessKeyId"]

    by_command = metering(local_json, "token", "--organization", "demo-org").stdout.strip()
    issued = httpx.post(facts["tokenEndpoint"], auth=("acme", "any"), trust_env=False).json()["access_token"]
    for token in (by_command, issued):
        answer = httpx.post(
            f"{url}/saas/billing/usage/record/v1.0.0",
            json=example(),
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
        )
        assert answer.json() == {"recorded": True, "currentUsage": 1, "limitReached": False, "limit": 100_000}
    assert until(lambda: len(_events(output)) == 2)
    assert {event["detail"]["payload"]["organizationId"] for event in _events(output)} == {"demo-org", "acme"}

    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=60) == 0
    assert not local_json.exists()
    assert not emulator.is_listening(facts["endpoint"])
    logs = {"deploy.log", "emulator.log", "functions.log"}
    assert {path.name for path in (directory / "local").iterdir()} == {"events.jsonl", *logs}


def _run(directory: Path, port: int, output: Path) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if name != "MAKELEVEL"}
    command = [sys.executable, "-m", "local", "--port", str(port), "--directory", str(directory)]
    with output.open("wb") as file:
        return subprocess.Popen(command, stdout=file, env=environment)


def _ready_url(output: Path) -> str:
    def ready() -> list[str]:
        return [line for line in output.read_text().splitlines() if line.startswith("ready: ")]

    assert until(ready, _START_TIMEOUT_S)
    return ready()[0].removeprefix("ready: ")


def _events(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")]
