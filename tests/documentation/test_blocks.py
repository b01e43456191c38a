"""Blocks that no test can run are parsed: AWS commands by their service's model, data by its format."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from botocore import xform_name
from botocore.session import Session
from moto import mock_aws

from tests.documentation.pages import PAGES, Block, blocks, commands, syntax_error
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


@pytest.mark.parametrize("block", _FOR_AN_ACCOUNT.values(), ids=_FOR_AN_ACCOUNT.keys())
def test_every_command_for_an_account_has_options_that_exist(block: Block, tmp_path: Path) -> None:
    for program, *arguments in _calls(block, tmp_path):
        if program == "aws":
            service, operation, *options = arguments
            model = Session().get_service_model(service)
            (name,) = [each for each in model.operation_names if xform_name(each, "-") == operation]
            shape = model.operation_model(name).input_shape
            assert shape is not None
            members = {f"--{xform_name(member, '-')}" for member in shape.members}
            assert {option for option in options if option.startswith("--")} <= members | _OF_ALL_COMMANDS
        elif program == "metering":
            # Without a region it stops with 1, and with 2 if the command line is wrong.
            assert subprocess.run([METERING, *arguments], env={}, capture_output=True, check=False).returncode == 1
        elif program == "make":
            subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, check=True)  # noqa: S607
        else:
            assert arguments[0] in {"bootstrap", "destroy"}


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
        event = payload("billing.usage.recorded.json")
        for _delivery in range(2):
            namespace["consume"](dynamodb, event)  # type: ignore[operator]
        items = dynamodb.scan(TableName="billing")["Items"]
    quantity = event["detail"]["payload"]["quantity"]
    assert [item["calls"] for item in items if "calls" in item] == [{"N": str(quantity)}]
