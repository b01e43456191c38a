"""The app as the CDK command line starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.setup import ROOT

SETTINGS = {"environment": "dev", "issuer": "https://issuer.example", "audience": "usage-metering"}


def test_the_app_writes_both_stacks_of_the_environment_it_is_asked_for(bundle: Path, tmp_path: Path) -> None:
    done = _run({**SETTINGS, "bundle": str(bundle)}, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    templates = sorted(path.name for path in tmp_path.glob("*.template.json"))
    assert templates == ["usage-metering-dev-data.template.json", "usage-metering-dev-service.template.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"environment": ""}, "No environment is chosen"),
        ({"environment": "staging"}, "There is no environment 'staging'"),
        ({"issuer": ""}, "The environment dev has no issuer or audience of the tokens to accept: set issuer"),
        ({"bundle": "no/such/folder"}, "There are no functions to deploy in no/such/folder"),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_one_sentence(
    bundle: Path, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    done = _run({**SETTINGS, "bundle": str(bundle), **change}, tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"infra: {said}")
    assert not list(tmp_path.glob("*.template.json"))


def test_the_command_line_starts_the_app_with_our_own_python() -> None:
    assert json.loads((ROOT / "cdk.json").read_text())["app"] == ".venv/bin/python -m infra.app"


def _run(context: dict[str, str], outdir: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CDK_CONTEXT_JSON": json.dumps(context), "CDK_OUTDIR": str(outdir)}
    return subprocess.run(
        [sys.executable, "-m", "infra.app"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
