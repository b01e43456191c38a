"""The templates pass cdk-nag, cfn-lint and further checks."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import Stack
from aws_cdk import aws_sns as sns

from infra.app import build_app, synthesize
from infra.environments import DEV, Environment, FindingsOpen
from tests.template.conftest import TRUST
from tests.testing.stacks import Stacks
from tools.setup import EMULATOR_PYTHON, ROOT


def test_cdk_nag_finds_nothing_that_is_not_acknowledged(stacks: Stacks) -> None:
    report = (stacks.folder / "validation-report.json").read_text()
    assert not stacks.findings_open, report


def test_cdk_nag_reports_a_finding_without_an_acknowledgment(bundle: Path, tmp_path: Path) -> None:
    app = build_app(DEV, TRUST, bundle, outdir=tmp_path)
    sns.Topic(Stack(app, "another"), "WithoutTls")
    with pytest.raises(FindingsOpen):
        synthesize(app)


def test_every_acknowledgment_explains_itself(stacks: Stacks) -> None:
    acknowledgments = dict(stacks.acknowledgments())
    assert acknowledgments
    for finding, reason in acknowledgments.items():
        assert len(reason.split()) >= 12, f"{finding}: {reason}"
        assert reason.endswith("."), f"{finding}: {reason}"


def test_plain_http_is_acknowledged_only_for_the_emulator(stacks: Stacks, environment: Environment) -> None:
    about_tls = {finding for finding, _ in stacks.acknowledgments() if finding.endswith(("-S10", "-SQS4"))}
    assert bool(about_tls) is not environment.tls_only


def test_cfn_lint_finds_nothing(all_stacks: dict[str, Stacks]) -> None:
    templates = [str(template.path) for stacks in all_stacks.values() for template in stacks.both]
    lint = [str(Path(sys.executable).parent / "cfn-lint"), *templates]
    done = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_no_statement_allows_a_whole_service(stacks: Stacks) -> None:
    for template in stacks.both:
        for statement in _statements(template.body):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if statement["Effect"] == "Allow":
                assert not [action for action in actions if "*" in action]
                assert statement.get("Resource") != "*"


def test_the_emulator_knows_every_type_that_local_needs(all_stacks: dict[str, Stacks]) -> None:
    needed = {
        resource["Type"] for template in all_stacks["local"].both for resource in template.body["Resources"].values()
    }
    ask = "import json, ministack.services.cloudformation.provisioners as p; print(json.dumps([*p._RESOURCE_HANDLERS]))"
    known = subprocess.run([EMULATOR_PYTHON, "-c", ask], capture_output=True, check=True)
    assert needed <= set(json.loads(known.stdout))


def _statements(value: Any) -> list[dict[str, Any]]:
    """Every policy statement in a template, at any depth."""
    if isinstance(value, list):
        return [statement for one in value for statement in _statements(one)]
    if isinstance(value, dict):
        own = value["Statement"] if isinstance(value.get("Statement"), list) else []
        return own + [statement for one in value.values() for statement in _statements(one)]
    return []
