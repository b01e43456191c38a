"""Blocks that no test can run are parsed: AWS commands by their service's model, data by its format."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore import xform_name
from botocore.session import Session
from botocore.validate import ParamValidator
from moto import mock_aws

from infra.environments import ENVIRONMENTS
from tests.documentation.pages import NOTES, PAGES, Block, blocks, commands, syntax_error
from tests.testing.aws import SESSION
from tests.testing.payloads import payload
from tools.setup import METERING, ROOT

_BLOCKS = {f"{page.relative_to(ROOT)}:{block.line}": block for page in PAGES for block in blocks(page)}
_FOR_AN_ACCOUNT = {place: block for place, block in _BLOCKS.items() if block.note == "needs an AWS account"}
_LANGUAGES = {"", "console", "json", "mermaid", "python", "sh", "toml", "ts", "yaml"}
# Options of the AWS command line itself.
_OF_ALL_COMMANDS = {"--output", "--query", "--region", "--profile"}


@pytest.mark.parametrize("block", _BLOCKS.values(), ids=_BLOCKS.keys())
def test_every_block_is_well_formed(block: Block) -> None:
    assert block.language in _LANGUAGES
    match block.language:
        case "json":
            json.loads(block.text)
        case "yaml":
            yaml.safe_load(block.text)
        case "toml":
            tomllib.loads(block.text)
        case "python":
            ast.parse(block.text)
        case "sh" | "console":
            for command in commands(block):
                assert syntax_error(command.text) == ""
        case "":
            # A command in a block without a language would not be tested.
            assert not re.search(r"(?m)^\s*(?:\$ |make |curl |aws |python |\.venv/)", block.text)


@pytest.mark.parametrize("block", _BLOCKS.values(), ids=_BLOCKS.keys())
def test_every_note_before_a_block_is_known(block: Block) -> None:
    assert block.note in {"", *NOTES} or block.note.startswith("in: ")


@pytest.mark.parametrize("block", _FOR_AN_ACCOUNT.values(), ids=_FOR_AN_ACCOUNT.keys())
def test_every_command_for_an_account_is_valid(block: Block, tmp_path: Path) -> None:
    for program, *arguments in _calls(block, tmp_path):
        _CHECKS[program](arguments)


def _check_aws(arguments: list[str]) -> None:
    """Check the options by the model of the operation's input, and the names of stacks, buses and outputs."""
    service, operation, *options = arguments
    model = Session().get_service_model(service)
    (name,) = [each for each in model.operation_names if xform_name(each, "-") == operation]
    shape: Any = model.operation_model(name).input_shape
    members = {f"--{xform_name(member, '-')}": member for member in shape.members}
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert given.keys() <= members.keys() | _OF_ALL_COMMANDS
    values = {members[option]: text for option, text in given.items() if option in members and "file://" not in text}
    parameters = {member: _parsed(text, shape.members[member]) for member, text in values.items()}
    files = {members[option] for option, text in given.items() if "file://" in text}
    required = [member for member in shape.required_members if member not in files]
    assert set(required) <= parameters.keys()
    for member, value in parameters.items():
        assert not ParamValidator().validate(value, shape.members[member]).has_errors(), (member, value)
    text = json.dumps(parameters)
    assert set(re.findall(r"usage-metering-\w+-[a-z]+", text)) <= _STACKS
    assert set(re.findall(r"usage-metering-[a-z]+(?=\")", text)) <= {"usage-metering-rejected", *_BUSES}
    assert set(re.findall(r"OutputKey==`(\w+)`", given.get("--query", ""))) <= _OUTPUTS


def _parsed(text: str, shape: Any) -> Any:
    """An option's value as the AWS command line reads it: JSON, `Name=value,…`, or text."""
    if text[:1] in "[{" and shape.type_name != "string":
        return json.loads(text)
    if shape.type_name == "list":
        members = getattr(shape.member, "members", None)
        return [dict(part.split("=", 1) for part in text.split(",")) if members else text]
    return int(text) if shape.type_name == "integer" else text


def _check_metering(arguments: list[str]) -> None:
    # Without a region, the command stops with 1. With a wrong command line, it stops with 2.
    assert subprocess.run([METERING, *arguments], env={}, capture_output=True, check=False).returncode == 1


def _check_make(arguments: list[str]) -> None:
    subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, check=True)  # noqa: S607
    makefile = (ROOT / "Makefile").read_text()
    for variable in (name for name, is_set, _ in (each.partition("=") for each in arguments) if is_set):
        assert f"$({variable})" in makefile


def _check_cdk(arguments: list[str]) -> None:
    command, *rest = arguments
    assert command in {"bootstrap", "destroy"}
    values = iter(rest)
    for argument in values:
        if argument == "-c":
            assert next(values).partition("=")[0] in {"environment", "issuer", "audience"}
        else:
            assert argument in _STACKS


_CHECKS = {"aws": _check_aws, "metering": _check_metering, "make": _check_make, "cdk": _check_cdk}
_STACKS = {f"usage-metering-{each.name}-{part}" for each in ENVIRONMENTS for part in ("data", "service")}
_BUSES = {f"usage-metering-{each.name}" for each in ENVIRONMENTS}
_OUTPUTS = {
    output
    for path in (ROOT / "infra").glob("*.py")
    for output in re.findall(r'CfnOutput\(self, "(\w+)"', path.read_text())
}


def _calls(block: Block, folder: Path) -> list[list[str]]:
    """The programs that `block` calls in an empty folder, with their arguments."""
    record = f"#!{sys.executable}\nimport json, sys\nfrom pathlib import Path\n"
    record += f"with open({str(folder / 'calls')!r}, 'a') as calls:\n"
    record += "    calls.write(json.dumps([Path(sys.argv[0]).name, *sys.argv[1:]]) + '\\n')\n"
    for program in ("bin/aws", "bin/make", ".venv/bin/metering", "infra/node_modules/.bin/cdk"):
        starter = folder / program
        starter.parent.mkdir(parents=True, exist_ok=True)
        starter.write_text(record)
        starter.chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    script = "\n".join(command.text for command in commands(block))
    subprocess.run(["bash"], input=script, cwd=folder, env={"PATH": path}, text=True, capture_output=True, check=False)  # noqa: S607
    calls = [json.loads(line) for line in (folder / "calls").read_text().splitlines()]
    assert calls
    return calls


def test_the_consumer_of_the_guide_counts_an_event_once() -> None:
    (consumer,) = [b for b in blocks(ROOT / "docs" / "how-to" / "consume-events.md") if b.language == "python"]
    namespace: dict[str, object] = {}
    exec(consumer.text, namespace)  # noqa: S102 - the page's own example
    with mock_aws():
        dynamodb = SESSION.client("dynamodb")
        dynamodb.create_table(
            TableName="billing",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        calls, storage = payload("billing.usage.recorded.json"), payload("billing.usage.recorded.json")
        storage["detail"]["id"] = "another fact"
        storage["detail"]["payload"]["feature"] = "storage_gb"
        for event in (calls, storage, calls, storage):
            namespace["consume"](dynamodb, event)  # type: ignore[operator]
        items = dynamodb.scan(TableName="billing")["Items"]
    quantity = str(calls["detail"]["payload"]["quantity"])
    lines = {item["pk"]["S"].rpartition("#")[2]: item["quantity"]["N"] for item in items if "quantity" in item}
    assert lines == {"api_calls": quantity, "storage_gb": quantity}
