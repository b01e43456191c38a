"""The commands, as processes, when their output cannot be written or displayed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from metering.model.organizations import Organization
from metering.model.periods import billing_period_of
from metering.model.usage import CounterId
from metering.storage.organization_items import organization_item
from metering.storage.plan_items import plan_key

from local import emulator, issuer, lock
from ops import local_stack, organizations
from tests.testing import engine
from tests.testing.engine import Engine
from tests.testing.local_stack import STACK
from tests.testing.table import create_table, put_counter
from tools.setup import ROOT

_METERING = [sys.executable, "-m", "ops.main"]
# Commands with `--help`, and whether each continues after its output is closed.
_COMMANDS = {
    "ops.main": False,
    "local": True,
    "infra.deploy": True,
    "infra.synth": True,
    "tests.faults": True,
    "tests.mutations": True,
    "tests.simulation": False,
    "benchmarks": True,
    "benchmarks.scale": True,
}
_LISTINGS = [
    ["organizations", "get", "acme"],
    ["organizations", "list"],
    ["plans", "list"],
    ["plans", "apply", "docs/plans.example.yaml", "--dry-run"],
    ["token", "--organization", "acme"],
    ["events", "--all"],
    ["--help"],
]
_PLANS = "plans: {pro: {name: Café, features: {exports: {limit: 1, unit: €}}}}\n"

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine.running(tmp_path_factory.mktemp("engine")) as found:
        yield found


@pytest.fixture
def table(running: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A table with the organizations `acme` and `demo-org`, which the commands use as the local stack's."""
    name = f"usage-{tmp_path.name}"
    create_table(running.dynamodb, name)
    local_json = tmp_path / "local.json"
    monkeypatch.setenv("METERING_LOCAL", str(local_json))
    local_stack.folder(local_json).mkdir()
    issuer.make_key(local_stack.key_file(local_json))
    local_stack.events_file(local_json).write_text('{"name": "é\u202e"}\n', encoding="utf-8")
    with lock.held(local_stack.lock_file(local_json), wait_s=0, say_waiting=lambda: None):
        stack = replace(
            STACK,
            endpoint=running.endpoint,
            region=emulator.REGION,
            access_key_id=running.keys.access_key_id,
            secret_access_key=emulator.SECRET_ACCESS_KEY,
            table=name,
        )
        local_stack.write(stack, local_json)
        yield running
    running.drop_table(name)


@pytest.fixture
def plans(table: Engine, tmp_path: Path) -> Path:
    """The file of an applied plan."""
    file = tmp_path / "plans.yaml"
    file.write_text(_PLANS, encoding="utf-8")
    assert _run(["plans", "apply", str(file)]).returncode == 0
    assert _has_plan(table, "pro")
    return file


def _run(arguments: list[str], **how: Any) -> "subprocess.CompletedProcess[str]":
    """Run `metering` with these arguments."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.run([*_METERING, *arguments], **{**pipes, **how}, cwd=ROOT, text=True, timeout=60, check=False)


def _closed(*numbers: int) -> dict[str, Callable[[], None]]:
    """Close these file descriptors, as a shell's `>&-` does."""

    def close() -> None:
        for number in numbers:
            os.close(number)

    return {"preexec_fn": close}


def _unread(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run `metering` with its output in a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return _run(arguments, stdout=writing)
    finally:
        os.close(writing)


def _into_full(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    with Path("/dev/full").open("w") as full:
        return _run(arguments, stdout=full)


def _status(table: Engine, organization: str) -> str:
    name = local_stack.read(local_stack.default_path()).table
    return str(organizations.get(table.dynamodb, name, organization)["status"])


def _has_plan(table: Engine, plan: str) -> bool:
    name = local_stack.read(local_stack.default_path()).table
    return organizations.has_plan(table.dynamodb, name, plan)


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_putting_an_organization_exits_with_0_even_if_nobody_reads_the_output(table: Engine, json: list[str]) -> None:
    closed = _run(["organizations", "put", "closed", "--status", "inactive", *json], **_closed(1))
    unread = _unread(["organizations", "put", "unread", "--status", "inactive", *json])
    assert (closed.returncode, closed.stderr) == (0, "")
    assert (unread.returncode, unread.stderr) == (0, "")
    assert _status(table, "closed") == _status(table, "unread") == "inactive"


@needs_dev_full
def test_a_result_that_a_full_output_cannot_hold_goes_to_stderr(table: Engine) -> None:
    done = _into_full(["organizations", "put", "acme", "--status", "inactive"])
    assert (done.returncode, _status(table, "acme")) == (0, "inactive")
    first, *lost = done.stderr.splitlines()
    assert first == "Cannot write to standard output (No space left on device). The lost output:"
    assert lost == ["acme was changed and is inactive.", "  status: active -> inactive"]


@needs_dev_full
def test_every_plan_is_applied_even_if_nobody_reads_the_output(table: Engine) -> None:
    for cut, plan in ((lambda arguments: _run(arguments, **_closed(1)), "a"), (_unread, "b"), (_into_full, "c")):
        file = local_stack.default_path().with_name("plans.yaml")
        file.write_text(f"plans: {{{plan}1: {{name: A, features: {{}}}}, {plan}2: {{name: B, features: {{}}}}}}\n")
        assert cut(["plans", "apply", str(file)]).returncode == 0
        assert _has_plan(table, f"{plan}1")
        assert _has_plan(table, f"{plan}2")


@pytest.mark.parametrize("arguments", _LISTINGS, ids=" ".join)
@pytest.mark.usefixtures("plans")
def test_a_listing_that_nobody_reads_is_exit_code_141(arguments: list[str]) -> None:
    unread = _unread(arguments)
    assert (unread.returncode, unread.stderr) == (141, "")
    closed = _run(arguments, **_closed(1))
    assert (closed.returncode, closed.stderr) == (141, "")


@needs_dev_full
@pytest.mark.parametrize("arguments", _LISTINGS, ids=" ".join)
@pytest.mark.usefixtures("plans")
def test_a_listing_that_cannot_be_written_is_exit_code_1_and_one_sentence(arguments: list[str]) -> None:
    full = _into_full(arguments)
    assert (full.returncode, full.stderr) == (
        1,
        "metering: cannot write to standard output (No space left on device).\n",
    )


def test_a_listing_whose_reader_leaves_exits_like_other_filters(table: Engine) -> None:
    name = local_stack.read(local_stack.default_path()).table
    # This exceeds the buffer of a pipe, so that the command still writes when its reader leaves.
    long = {**organization_item(Organization("long")), "status": {"S": "x" * 300_000}}
    table.dynamodb.put_item(TableName=name, Item=long)
    command = [*_METERING, "organizations", "list", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        assert listing.stdout.read(1) == b"{"
        listing.stdout.close()
        assert (listing.wait(60), listing.stderr.read()) == (141, b"")


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=str,
)
def test_a_listing_escapes_characters_that_the_terminal_cannot_show(plans: Path, environment: dict[str, str]) -> None:
    def listed(*arguments: str) -> str:
        done = _run([*arguments], env={**os.environ, **environment}, encoding=environment.get("PYTHONIOENCODING"))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    plans.write_text(listed("plans", "list"), encoding="ascii")
    again = _run(["plans", "apply", str(plans)], env={**os.environ, **environment})
    assert again.stdout == "pro: unchanged\n"
    event = listed("events", "--all", "--count", "1")
    assert event.replace("\\u00e9", "é") == '{"name": "é\\u202e"}\n'


def test_a_message_that_a_terminal_cannot_show_is_shown_escaped(tmp_path: Path) -> None:
    wrong = tmp_path / "é\u2028\n\u202e.yaml"
    wrong.write_text("€: 1\n", encoding="utf-8")
    done = _run(["plans", "apply", str(wrong)], env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    start = f"metering: {wrong.parent}/\\u00e9\\u2028\\u000a\\u202e.yaml:1: "
    assert done.stderr.splitlines() == [
        f"{start}plans is missing.",
        f"{start}\\u20ac is unknown: expected plans.",
    ]


def test_without_standard_input_the_message_names_the_option(table: Engine, plans: Path) -> None:
    assert _run(["organizations", "put", "acme", "--plan", "pro"]).returncode == 0
    name = local_stack.read(local_stack.default_path()).table
    put_counter(table.dynamodb, name, CounterId("acme", billing_period_of(datetime.now(UTC)), "exports"))
    plans.write_text("plans: {pro: {name: Pro, features: {}}}\n")

    done = _run(["plans", "apply", str(plans)], stdin=None, **_closed(0))

    assert done.returncode == 1
    assert done.stderr.endswith(": pass --yes to remove the feature anyway.\n")
    assert "traceback" not in done.stderr.lower()
    stored = table.dynamodb.get_item(TableName=name, Key=plan_key("pro"))["Item"]
    assert "exports" in stored["features"]["M"]


@pytest.mark.usefixtures("table")
def test_with_stderr_closed_no_message_goes_to_stdout() -> None:
    failed = _run(["organizations", "get", "nobody"], **_closed(2))
    assert (failed.returncode, failed.stdout) == (1, "")
    wrong = _run(["organizations", "gut"], **_closed(2))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    put = _run(["organizations", "put", "acme", "--plan", "unknown"], **_closed(2))
    assert put.returncode == 0
    assert put.stdout.splitlines() == ["acme was changed and is active.", "  plan: none -> unknown"]


def test_with_nothing_open_at_all_the_work_is_done(table: Engine) -> None:
    assert _run(["organizations", "put", "acme", "--status", "inactive"], **_closed(0, 1, 2)).returncode == 0
    assert _status(table, "acme") == "inactive"


@needs_dev_full
@pytest.mark.parametrize("module", _COMMANDS)
def test_every_command_survives_an_output_that_cannot_be_written(module: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            timeout=120,
            check=False,
        )
    assert ("usage: " in done.stderr, done.returncode) == ((True, 0) if _COMMANDS[module] else (False, 1))
    assert "write to standard output (No space left on device)." in done.stderr
    assert "Exception" not in done.stderr
