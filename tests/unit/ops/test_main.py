import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import jwt
import pytest
from metering.model.organizations import Organization
from metering.model.periods import billing_period_of
from metering.model.usage import CounterId
from metering.storage.organization_items import organization_item
from metering.storage.plan_items import FEATURES_KEY, known_features, plan_from_item, plan_key
from metering.storage.usage_records import usage_key
from moto import mock_aws

from local import issuer, lock
from ops import local_stack, tail
from ops.environments import Outputs
from ops.errors import EnvironmentNotDeployed
from ops.main import main
from tests.testing.local_stack import STACK
from tests.testing.payloads import batch_request, example
from tests.testing.service import RecordFunction
from tests.testing.table import create_table, put_counter
from tests.testing.terminal import Terminal

# Another parser reads these as other numbers, or a person takes them for typing errors.
ODD_NUMBERS = ["007", "+5", "1_0", " 5", "5 ", "\u0663", "1e1", "-0", ""]
PLANS = local_stack.ROOT / "docs" / "plans.example.yaml"


@pytest.fixture
def local_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stack that seems to run, although nothing listens at its endpoint."""
    path = tmp_path / "local.json"
    monkeypatch.setenv("METERING_LOCAL", str(path))
    local_stack.folder(path).mkdir()
    issuer.make_key(local_stack.key_file(path))
    local_stack.events_file(path).write_text("old\n")
    with lock.held(local_stack.lock_file(path), wait_s=0, say_waiting=lambda: None):
        local_stack.write(replace(STACK, endpoint="http://127.0.0.1:9"), path)
        yield path


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS account with the parts of the environment dev that the command reads."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with mock_aws():
        create_table(boto3.client("dynamodb", region_name="eu-west-1"), "the-table")
        monkeypatch.setattr("ops.environments.outputs_of", _outputs_of)
        yield


def _outputs_of(_client: object, environment: str) -> Outputs:
    if environment != "dev":
        raise EnvironmentNotDeployed("it is not there.")
    return Outputs(table="the-table", bus="default", url="https://a.example", queue_url="https://q.example")


def _exit_code(*arguments: str) -> int:
    """The exit code that a shell sees."""
    try:
        return main(arguments)
    except SystemExit as left:
        return int(left.code or 0)


def _returned(module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that is set once the module's function of this name has returned."""
    function, has_returned = getattr(module, name), threading.Event()

    def call(*arguments: Any) -> Any:
        answer = function(*arguments)
        has_returned.set()
        return answer

    monkeypatch.setattr(module, name, call)
    return has_returned


def _started(*arguments: str, stdout: Any = subprocess.PIPE) -> "subprocess.Popen[str]":
    """Start the command as a shell starts a background job, with Ctrl-C ignored."""
    return subprocess.Popen(
        [sys.executable, "-m", "ops.main", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["organizations"],
        ["organizations", "put"],
        ["organizations", "put", "acme", "--status", "closed"],
        ["organizations", "delete", "acme"],
        ["token"],
        ["token", "--organization", "acme", "--expires-in", "soon"],
        ["events", "--count", "0"],
        ["events", "--count", "x"],
        *(["events", "--all", "--timeout", "0", "--count", one] for one in ODD_NUMBERS),
        *(["events", "--all", "--count", "1", "--timeout", one] for one in ODD_NUMBERS),
        *(["token", "--organization", "acme", "--expires-in", one] for one in ODD_NUMBERS),
        ["events", "--timeout", "-1"],
        ["events", "--timeout", "nan"],
        ["events", "--all", "--env", "dev"],
        ["token", "--organization", "acme", "--env", "dev"],
        ["organizations", "put", "a b"],
        ["organizations", "get", "a#b"],
        ["organizations", "put", "acme", "--limit", "api_calls"],
        ["organizations", "put", "acme", "--period-end", "2026-11-01", "--plan", "a b"],
        ["organizations", "list", "acme"],
        ["plans"],
        ["plans", "apply"],
        ["plans", "get", "a b"],
        ["plans", "delete"],
        ["plans", "delete", "a b"],
        ["usage"],
        ["usage", "show"],
        ["usage", "show", "--organization", "a b"],
        ["usage", "list", "--organization", "acme", "--feature", "1st"],
        ["usage", "get", "--organization", "acme"],
        ["usage", "get", "a b", "--organization", "acme"],
        ["usage", "export", "--organization", "acme"],
        ["usage", "export", "--organization", "acme", "--period", "2026-11", "--format", "xlsx"],
        *(["usage", "list", "--organization", "acme", "--period", one] for one in ("2026-13", "current", "", "2026")),
    ],
)
@pytest.mark.usefixtures("local_json")
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(*arguments) == 2

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.strip()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["events"], "--json no effect: this command always prints one JSON object per event"),
        (["token"], "Print an access token for the API of the running local stack."),
        (["organizations", "put"], "such as 2026-12-01T00:00:00Z"),
    ],
)
@pytest.mark.usefixtures("local_json")
def test_help_describes_what_differs(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(*arguments, "--help") == 0
    assert text in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["organizations", "get", "acme"],
        ["organizations", "put", "acme"],
        ["organizations", "list"],
        ["plans", "apply", str(PLANS)],
        ["plans", "get", "pro"],
        ["plans", "list"],
        ["plans", "delete", "pro"],
        ["token", "--organization", "a"],
        ["events"],
        ["usage", "show", "--organization", "a"],
        ["usage", "get", "k", "--organization", "a"],
        ["usage", "list", "--organization", "a"],
        ["usage", "export", "--organization", "a", "--period", "2026-11"],
    ],
)
def test_without_a_running_stack_every_command_says_so(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METERING_LOCAL", str(tmp_path / "local.json"))

    assert _exit_code(*arguments) == 1

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        "metering: the local stack is not running: start it with `make run`, or name a deployment environment with "
        "--env.\n"
    )


@pytest.mark.usefixtures("local_json")
def test_an_emulator_that_does_not_answer_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("organizations", "get", "acme") == 1

    assert capsys.readouterr().err == "metering: no connection to http://127.0.0.1:9/: check that it is running.\n"


@pytest.mark.usefixtures("local_json")
def test_a_token_is_printed_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("token", "--organization", "demo-org") == 0

    output = capsys.readouterr()
    assert output.err == ""
    claims = jwt.decode(output.out.strip(), options={"verify_signature": False})
    assert claims["iss"] == STACK.issuer
    assert claims["aud"] == "usage-metering-local"
    assert claims["org_id"] == "demo-org"
    assert claims["scope"] == "usage:write usage:read"
    assert claims["exp"] - claims["iat"] == 3600


@pytest.mark.usefixtures("local_json")
def test_a_token_has_the_scopes_and_the_life_that_were_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--scope", "metering/usage:write", "--scope", "other", "--expires-in", "-60", "--json"]

    assert _exit_code("token", "--organization", "acme", *arguments) == 0

    token = json.loads(capsys.readouterr().out)["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["scope"] == "metering/usage:write other"
    assert claims["exp"] - claims["iat"] == -60


@pytest.mark.usefixtures("local_json")
def test_a_token_for_any_organization_names_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("token", "--any-organization", "--scope", "usage:write") == 0

    claims = jwt.decode(capsys.readouterr().out.strip(), options={"verify_signature": False})
    assert claims["scope"] == "usage:write usage:any-organization"
    assert "org_id" not in claims


@pytest.mark.parametrize("options", [[], ["--organization", "acme", "--any-organization"]])
def test_a_token_is_for_one_organization_or_for_any(options: list[str]) -> None:
    assert _exit_code("token", *options) == 2


@pytest.mark.usefixtures("cloud")
def test_an_environment_in_the_cloud_is_found_by_its_stacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("organizations", "put", "acme", "--env", "dev", "--status", "inactive") == 0
    assert capsys.readouterr().out == "acme was changed and is inactive.\n  status: active -> inactive\n"

    assert _exit_code("organizations", "get", "acme", "--env", "dev", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["organizationId"], shown["status"]) == ("acme", "inactive")


@pytest.mark.usefixtures("cloud")
def test_put_reports_whether_the_organization_was_created_or_changed(capsys: pytest.CaptureFixture[str]) -> None:
    put = ["organizations", "put", "new-org", "--env", "dev"]
    assert _exit_code(*put, "--if-exists") == 1
    assert capsys.readouterr() == (
        "",
        "metering: there is no organization new-org: nothing was written. Omit --if-exists to create it.\n",
    )
    assert _exit_code("organizations", "get", "new-org", "--env", "dev") == 1
    capsys.readouterr()

    assert _exit_code(*put) == 0
    assert capsys.readouterr().out == "new-org was created and is active.\n"
    assert _exit_code(*put, "--if-exists", "--status", "inactive") == 0
    assert capsys.readouterr().out == "new-org was changed and is inactive.\n  status: active -> inactive\n"
    assert _exit_code(*put, "--status", "inactive") == 0
    assert capsys.readouterr().out == "new-org has these settings already and is inactive.\n"
    assert _exit_code(*put, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["change"], shown["organizationId"], shown["status"]) == ("changed", "new-org", "inactive")


@pytest.mark.usefixtures("cloud")
def test_the_given_settings_of_an_organization_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("plans", "apply", str(PLANS), "--env", "dev") == 0
    capsys.readouterr()
    arguments = ["--plan", "pro", "--limit", "api_calls=5", "--limit", "sms=unlimited", "--no-cancel-at-period-end"]
    assert _exit_code("organizations", "put", "acme", "--env", "dev", *arguments) == 0
    changed = (
        "acme was changed and is active.\n"
        "  plan: none -> pro\n"
        "  cancel-at-period-end: none -> false\n"
        "  limit api_calls: plan -> 5\n"
        "  limit sms: plan -> unlimited\n"
    )
    assert capsys.readouterr() == (changed, "")

    assert _exit_code("organizations", "get", "acme", "--env", "dev") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "organizationId: acme",
        "status: active",
        "planId: pro",
        "cancelAtPeriodEnd: false",
        "limits.api_calls: 5",
        "limits.sms: unlimited",
    ]
    assert sorted(line.partition(":")[0] for line in lines[6:]) == ["changed.cancelAtPeriodEnd", "changed.planId"]


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize(("applied", "stored"), [([], "none"), ([PLANS], "free, pro")])
def test_an_undefined_plan_is_reported_with_its_effect_and_the_stored_plans(
    capsys: pytest.CaptureFixture[str], applied: list[Path], stored: str
) -> None:
    for file in applied:
        assert _exit_code("plans", "apply", str(file), "--env", "dev") == 0
    assert _exit_code("organizations", "put", "acme", "--env", "dev", "--plan", "gold") == 0
    assert capsys.readouterr().err == (
        "metering: there is no plan gold. Until you apply this plan, acme has access only to features with a limit of "
        f"its own. Stored plans: {stored}.\n"
    )


def test_each_mistake_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("organizations", "put", "acme", "--env", "dev", "--plan", "a b", "--limit", "a") == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line[:20] for line in lines] == ["metering: --plan is ", "metering: --limit is"]


@pytest.mark.usefixtures("cloud")
def test_organizations_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--plan", "pro", "--subscription-status", "PAUSED"]
    assert _exit_code("organizations", "put", "acme", "--env", "dev", *arguments) == 0
    capsys.readouterr()

    assert _exit_code("organizations", "list", "--env", "dev") == 0
    assert capsys.readouterr().out == "acme  active  pro  PAUSED\ndemo-org  active  -  -\n"
    assert _exit_code("organizations", "list", "--env", "dev", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["organizations"]
    assert [organization["organizationId"] for organization in listed] == ["acme", "demo-org"]


def _record(*records: dict[str, Any]) -> None:
    """Record usage of demo-org in the cloud's table on 23 November 2026."""
    function = RecordFunction(boto3.client("dynamodb", region_name="eu-west-1"), table="the-table")
    assert function(batch_request(list(records))).body["totals"]["recorded"] == len(records)


@pytest.mark.usefixtures("cloud")
def test_a_usage_record_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _record(example(sourceId="a\u202eb", metadata={"a": ["\n", 1]}))
    get = ["usage", "get", "abc-123", "--organization", "demo-org", "--env", "dev"]
    capsys.readouterr()
    assert _exit_code(*get) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["idempotencyKey: abc-123", "feature: api_calls", "quantity: 1", "billingPeriod: 2026-11"]
    assert lines[-2:] == ["sourceId: a\\u202eb", 'metadata: {"a": ["\\n", 1]}']
    assert _exit_code(*get, "--json") == 0
    assert json.loads(capsys.readouterr().out)["metadata"] == {"a": ["\n", 1]}

    assert _exit_code("usage", "get", "other", "--organization", "demo-org", "--env", "dev") == 1
    assert capsys.readouterr() == (
        "",
        "metering: demo-org has no usage record under the key other, or it has expired.\n",
    )


@pytest.mark.usefixtures("cloud")
def test_usage_records_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    listing = ["usage", "list", "--organization", "demo-org", "--env", "dev"]
    assert _exit_code(*listing) == 0
    assert capsys.readouterr() == ("", "")
    assert _exit_code(*listing, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"records": []}

    _record(example(idempotencyKey="a"), example(idempotencyKey="b", feature="exports", quantity=7))
    capsys.readouterr()
    assert _exit_code(*listing, "--feature", "exports", "--period", "2026-11") == 0
    assert capsys.readouterr().out == "2026-11-23T00:20:04.123Z  exports  7  b\n"
    assert _exit_code(*listing, "--json") == 0
    listed = json.loads(capsys.readouterr().out)["records"]
    assert sorted(record["idempotencyKey"] for record in listed) == ["a", "b"]


@pytest.mark.usefixtures("cloud")
def test_usage_is_exported_to_standard_output_or_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _record(example(quantity=5))
    capsys.readouterr()
    export = ["usage", "export", "--organization", "demo-org", "--env", "dev", "--period", "2026-11"]
    assert _exit_code(*export) == 0
    output = capsys.readouterr()
    assert [line.partition(",")[0] for line in output.out.splitlines()] == ['"idempotencyKey"', '"abc-123"']
    said = "metering: 1 record of demo-org in 2026-11: api_calls 5. The sums equal the counters.\n"
    assert output.err == said

    path = tmp_path / "usage.jsonl"
    assert _exit_code(*export, "--format", "jsonl", "--output", str(path)) == 0
    assert capsys.readouterr() == ("", said)
    assert json.loads(path.read_text().splitlines()[-1])["summary"]["counters"] == "equal"


@pytest.mark.usefixtures("cloud")
def test_an_export_whose_sums_differ_is_exit_code_1_with_a_complete_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _record(example(quantity=5))
    client = boto3.client("dynamodb", region_name="eu-west-1")
    client.delete_item(TableName="the-table", Key=usage_key("demo-org", "abc-123"))
    capsys.readouterr()
    path = tmp_path / "usage.csv"
    export = ["usage", "export", "--organization", "demo-org", "--env", "dev", "--period", "2026-11"]
    assert _exit_code(*export, "--output", str(path)) == 1
    assert capsys.readouterr().err.splitlines() == [
        "metering: 0 records of demo-org in 2026-11: no usage.",
        "metering: the records of api_calls add up to 0, but the counter held 5.",
    ]
    assert path.exists()


@pytest.mark.usefixtures("cloud")
def test_usage_of_a_period_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _record(example(quantity=5))
    capsys.readouterr()
    show = ["usage", "show", "--organization", "demo-org", "--env", "dev"]
    assert _exit_code(*show, "--period", "2026-11") == 0
    shown = "demo-org, 2026-11\n\napi_calls  5\n\nday         api_calls\n2026-11-23          5\n"
    assert capsys.readouterr() == (shown, "")
    assert _exit_code(*show, "--json") == 0
    assert json.loads(capsys.readouterr().out)["billingPeriod"] == billing_period_of(datetime.now(UTC))


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize(
    "action", [["show"], ["get", "k"], ["list"], ["export", "--period", "2026-11"]], ids=lambda action: action[0]
)
def test_usage_of_an_unknown_organization_is_no_empty_result(
    action: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code("usage", *action, "--organization", "acne", "--env", "dev") == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("metering: there is no organization acne")


@pytest.mark.usefixtures("cloud")
def test_plans_are_applied_once_and_shown_as_the_file_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code("plans", "apply", str(PLANS), "--env", "dev", "--dry-run") == 0
    output = capsys.readouterr().out.splitlines()
    assert (output[0], output[-1]) == ("free: created", "Nothing was written: this was a dry run.")
    assert _exit_code("plans", "get", "free", "--env", "dev") == 1
    assert capsys.readouterr().err == "metering: there is no plan free: `metering plans list` shows all plans.\n"

    assert _exit_code("plans", "apply", str(PLANS), "--env", "dev") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["free was written.", "pro was written."]
    assert _exit_code("plans", "list", "--env", "dev") == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(capsys.readouterr().out)

    assert _exit_code("plans", "apply", str(shown), "--env", "dev", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert [(plan, said["change"]) for plan, said in content["plans"].items()] == [
        ("free", "unchanged"),
        ("pro", "unchanged"),
    ]
    assert _exit_code("plans", "get", "pro", "--env", "dev", "--json") == 0
    assert json.loads(capsys.readouterr().out)["features"]["storage_gb"]["limit"] == "unlimited"


@pytest.mark.usefixtures("cloud")
def test_a_plan_is_deleted_once_no_organization_is_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("plans", "apply", str(PLANS), "--env", "dev") == 0
    assert _exit_code("organizations", "put", "acme", "--env", "dev", "--plan", "free") == 0
    capsys.readouterr()

    assert _exit_code("plans", "delete", "free", "--env", "dev") == 1
    reason = "metering: the plan free was not deleted, because organizations are on it: acme. Put them on another plan"
    assert capsys.readouterr() == ("", f"{reason} first.\n")
    assert _exit_code("plans", "get", "free", "--env", "dev", "--json") == 0
    free = json.loads(capsys.readouterr().out)

    assert _exit_code("organizations", "put", "acme", "--env", "dev", "--plan", "pro") == 0
    capsys.readouterr()
    assert _exit_code("plans", "delete", "free", "--env", "dev", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"change": "deleted", **free}
    assert _exit_code("plans", "delete", "free", "--env", "dev") == 1
    assert capsys.readouterr().err == "metering: there is no plan free: `metering plans list` shows all plans.\n"

    assert _exit_code("organizations", "put", "acme", "--env", "dev", "--plan", "other") == 0
    capsys.readouterr()
    assert _exit_code("plans", "delete", "pro", "--env", "dev") == 0
    assert capsys.readouterr() == ("pro was deleted.\n", "")
    assert _exit_code("plans", "list", "--env", "dev", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"plans": {}}
    dynamodb = boto3.client("dynamodb", region_name="eu-west-1")
    assert known_features(dynamodb.get_item(TableName="the-table", Key=FEATURES_KEY)["Item"]) == set()


@pytest.mark.usefixtures("cloud")
def test_a_feature_in_use_goes_only_after_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code("plans", "apply", str(PLANS), "--env", "dev") == 0
    assert _exit_code("organizations", "put", "acme", "--env", "dev", "--plan", "free") == 0
    dynamodb = boto3.client("dynamodb", region_name="eu-west-1")
    put_counter(dynamodb, "the-table", CounterId("acme", billing_period_of(datetime.now(UTC)), "exports"))
    file = tmp_path / "plans.yaml"
    file.write_text("plans: {free: {name: Free, features: {api_calls: {limit: 1}}}}\n")
    capsys.readouterr()

    def apply(*arguments: str, answer: str | None = None) -> tuple[int, str, bool]:
        """The exit code, the text on stderr, and whether the feature was removed."""
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n") if answer is None else Terminal(answer))
        code = _exit_code("plans", "apply", str(file), "--env", "dev", *arguments)
        stored = dynamodb.get_item(TableName="the-table", Key=plan_key("free"))["Item"]
        return code, capsys.readouterr().err, "exports" not in plan_from_item(stored).features

    code, error, gone = apply()
    assert (code, gone) == (1, False)
    assert error.startswith("metering: free loses exports, which acme used in ")
    assert error.endswith(": pass --yes to remove the feature anyway.\n")
    assert apply("--dry-run") == (0, "", False)
    code, error, gone = apply(answer="no\n")
    assert (code, gone) == (1, False)
    assert error.endswith("[y/N] metering: nothing was written.\n")
    assert apply(answer="yes\n")[0::2] == (0, True)

    assert _exit_code("plans", "apply", str(PLANS), "--env", "dev", "--json") == 0
    assert apply("--yes", "--json") == (0, "", True)


@pytest.mark.usefixtures("cloud")
def test_a_file_with_mistakes_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plans.yaml"
    file.write_text("plans:\n  good: {name: Good, features: {}}\n  bad: {name: 5, features: {}}\nextra: 1\n")
    assert _exit_code("plans", "apply", str(file), "--env", "dev") == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert [line.split(" ")[:2] for line in output.err.splitlines()] == [
        ["metering:", f"{file}:3:"],
        ["metering:", f"{file}:4:"],
    ]
    assert _exit_code("plans", "list", "--env", "dev", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"plans": {}}


def test_a_message_escapes_line_breaks_of_quoted_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plans.yaml"
    file.write_text('plans: {pro: {name: P, features: {a: {limit: "1\\u2028metering: done\\x85\\u202e."}}}}\n')
    assert _exit_code("plans", "apply", str(file), "--env", "dev") == 1
    (message, nothing) = capsys.readouterr().err.split("\n")
    assert 'limit is "1\\u2028metering: done\\u0085\\u202e."' in message
    assert nothing == ""


@pytest.mark.usefixtures("local_json")
@pytest.mark.parametrize(
    "arguments", [["organizations", "list", "%s"], ["token", "--organization", "a", "--env", "%s"]]
)
def test_a_message_escapes_line_breaks_of_the_command_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(*(one.replace("%s", "x\nmetering: done\u2028") for one in arguments)) == 2
    assert "x\\u000ametering: done\\u2028" in capsys.readouterr().err.split("\n")[-2]


@pytest.mark.usefixtures("cloud")
def test_a_listing_escapes_line_breaks_of_stored_values(capsys: pytest.CaptureFixture[str]) -> None:
    item: Any = {**organization_item(Organization("acme")), "status": {"S": "a\nb\u2028c\x1b[2J\u202ed"}}
    boto3.client("dynamodb", region_name="eu-west-1").put_item(TableName="the-table", Item=item)
    shown = "a\\u000ab\\u2028c\\u001b[2J\\u202ed"
    assert _exit_code("organizations", "get", "acme", "--env", "dev") == 0
    assert capsys.readouterr().out == f"organizationId: acme\nstatus: {shown}\n"
    assert _exit_code("organizations", "list", "--env", "dev") == 0
    assert capsys.readouterr().out.split("\n")[0] == f"acme  {shown}  -  -"


@pytest.mark.usefixtures("cloud")
def test_an_unknown_organization_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("organizations", "get", "nobody", "--env", "dev") == 1

    assert capsys.readouterr().err == (
        "metering: there is no organization nobody: `metering organizations list` shows all organizations.\n"
    )


@pytest.mark.usefixtures("cloud")
def test_an_environment_that_is_not_deployed_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("organizations", "get", "acme", "--env", "prod") == 1

    assert capsys.readouterr().err == "metering: it is not there.\n"


def test_a_missing_region_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)

    assert _exit_code("organizations", "get", "acme", "--env", "dev") == 1

    assert capsys.readouterr().err == (
        "metering: no AWS region is set: set AWS_REGION, or a region in your AWS profile.\n"
    )


def test_missing_credentials_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    assert _exit_code("organizations", "get", "acme", "--env", "dev") == 1

    assert capsys.readouterr().err == "metering: cannot call AWS: Unable to locate credentials.\n"


@pytest.mark.usefixtures("cloud")
def test_cloud_events_are_those_since_the_command_started(capsys: pytest.CaptureFixture[str]) -> None:
    events = boto3.client("events", region_name="eu-west-1")

    def deliver() -> None:
        while not any(
            events.list_targets_by_rule(Rule=rule["Name"])["Targets"] for rule in events.list_rules()["Rules"]
        ):
            time.sleep(0.01)
        for number in (1, 2):
            events.put_events(Entries=[{"Source": "s", "DetailType": "t", "Detail": json.dumps({"id": number})}])

    delivering = threading.Thread(target=deliver)
    delivering.start()
    assert _exit_code("events", "--env", "dev", "--count", "2", "--timeout", "30") == 0
    delivering.join()

    assert [json.loads(line)["detail"] for line in capsys.readouterr().out.splitlines()] == [{"id": 1}, {"id": 2}]
    assert events.list_rules()["Rules"] == []


@pytest.mark.usefixtures("local_json")
def test_all_events_are_those_since_the_stack_started(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("events", "--all", "--count", "1") == 0

    assert capsys.readouterr().out == "old\n"


def test_events_are_those_since_the_command_started(
    local_json: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    has_started = _returned(tail, "end_of", monkeypatch)

    def deliver() -> None:
        has_started.wait(30)
        with local_stack.events_file(local_json).open("a") as file:
            file.write("new\n")

    delivery = threading.Thread(target=deliver)
    delivery.start()

    assert _exit_code("events", "--count", "1", "--timeout", "30") == 0

    assert capsys.readouterr().out == "new\n"
    delivery.join()


@pytest.mark.usefixtures("local_json")
def test_waiting_for_events_gives_up_with_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("events", "--all", "--count", "2", "--timeout", "0.2") == 1

    output = capsys.readouterr()
    assert output.out == "old\n"
    assert output.err == "metering: gave up after 0.2 s.\n"


def test_events_end_when_the_stack_does(
    local_json: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    was_found = _returned(local_stack, "read", monkeypatch)

    def stop() -> None:
        was_found.wait(30)
        local_json.unlink()

    stopping = threading.Thread(target=stop)
    stopping.start()

    assert _exit_code("events") == 0

    assert capsys.readouterr().err == "metering: the local stack has stopped.\n"
    stopping.join()


@pytest.mark.parametrize(
    ("arguments", "stop", "expected"),
    [
        ([], signal.SIGINT, 0),
        ([], signal.SIGTERM, 0),
        # The events that it waits for did not come.
        (["--count", "5"], signal.SIGINT, 130),
    ],
)
@pytest.mark.usefixtures("local_json")
def test_events_end_cleanly_when_interrupted(arguments: list[str], stop: signal.Signals, expected: int) -> None:
    viewing = _started("events", "--all", *arguments)
    assert viewing.stdout is not None
    assert viewing.stdout.readline() == "old\n"

    viewing.send_signal(stop)

    assert viewing.communicate(timeout=10) == ("", "")
    assert viewing.returncode == expected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
@pytest.mark.usefixtures("local_json")
def test_an_output_that_cannot_be_written_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        showing = _started("events", "--all", stdout=full)
    _, error = showing.communicate(timeout=60)
    assert (showing.returncode, error) == (1, "metering: cannot write to standard output (No space left on device).\n")


@pytest.mark.usefixtures("local_json")
def test_events_end_when_nobody_reads_them_any_more() -> None:
    viewing = _started("events", "--all")
    assert viewing.stdout is not None
    assert viewing.stderr is not None
    assert viewing.stdout.readline() == "old\n"

    viewing.stdout.close()

    assert viewing.wait(10) == 141
    assert viewing.stderr.read() == ""
    viewing.stderr.close()
