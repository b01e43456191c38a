"""`make test` or `make verify` runs every test, docs/testing.md lists its folder, and no test imports another."""

import ast
import re
import shlex
import shutil
import subprocess
import tomllib

from tools.setup import ROOT

_TESTPATHS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["testpaths"]
_TESTS = sorted(file for path in _TESTPATHS for file in (ROOT / path).rglob("*.py"))


def _expressions(*targets: str) -> list[str]:
    """The marker expressions that `make` passes to pytest for these targets."""
    command = [shutil.which("make") or "make", "--dry-run", *targets]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    runs = [shlex.split(line) for line in shown.splitlines() if "-m pytest" in line]
    return [run[len(run) - run[::-1].index("-m")] for run in runs]


def test_verify_runs_the_tests_of_make_test_and_then_the_others() -> None:
    assert _expressions("test") == ["not verify"]
    assert _expressions("verify") == ["not verify", "verify"]


def test_ci_runs_every_test_once() -> None:
    (targets,) = re.findall(r"(?m)^make (.*)$", (ROOT / ".ci" / "run").read_text("utf-8"))
    assert _expressions(*targets.split()) == ["not verify", "verify"]
    workflow = (ROOT / ".github" / "workflows" / "check.yml").read_text("utf-8")
    (targets,) = re.findall(r"targets: \[(.*)\]", workflow)
    assert _expressions(*targets.replace('"', "").replace(",", "").split()) == ["not verify", "verify"]


def test_every_test_is_in_a_folder_that_pytest_collects() -> None:
    elsewhere = [
        file
        for folder in ("benchmarks", "functions", "infra", "local", "ops", "tools")
        for file in (ROOT / folder).glob("**/test_*.py")
        if file not in _TESTS and "node_modules" not in file.parts
    ]
    assert elsewhere == []


def test_the_document_lists_every_folder_with_tests() -> None:
    folders = {"/".join(file.relative_to(ROOT).parts[:2]) for file in _TESTS if file.name.startswith("test_")}
    listed = set(re.findall(r"(?m)^\| `([a-z]+/[a-z0-9]+)[`/]", (ROOT / "docs" / "testing.md").read_text("utf-8")))
    assert listed == folders


def test_no_test_is_imported() -> None:
    imported = [
        f"{name} by {file.relative_to(ROOT)}"
        for file in _TESTS
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for name in (*(node.module or "").split("."), *(alias.name for alias in node.names))
        if name.startswith("test_")
    ]
    assert imported == []
