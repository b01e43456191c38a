"""Deploy an environment to AWS: `make deploy ENV=dev ISSUER=https://… AUDIENCE=…[,…]`.

Bundles the functions and runs `cdk deploy`, which asks before it changes permissions. Options for `cdk deploy` follow
after `--`.
"""

import argparse
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from infra import environments
from infra.environments import (
    ENVIRONMENTS,
    BundleMissing,
    ConfigurationError,
    Environment,
    SettingInvalid,
    SettingMissing,
    Trust,
)
from tools import bundle, compiler, output
from tools.compiler import CompilerUnusable
from tools.setup import CDK, ROOT, node, tool_environment


@output.command("deploy", works=True)
def main(arguments: Sequence[str] | None = None, find_compiler: Callable[[], str | None] = compiler.find) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description=__doc__)
    for name in ("environment", "issuer", "audience"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("options", nargs="*", help="passed on to cdk deploy")
    given = parser.parse_args(arguments)
    try:
        environment, trust = _configuration(given.environment, given.issuer, given.audience)
        if find_compiler() is None:
            raise BundleMissing(f"Nothing was deployed, because the functions cannot be compiled: {compiler.NOT_HERE}.")
        functions = bundle.build(environment.bundle)
    except (ConfigurationError, CompilerUnusable) as wrong:
        print(f"deploy: {wrong}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError:
        print("deploy: The functions could not be bundled. See the error above.", file=sys.stderr)
        return 1
    context = {
        "environment": environment.name,
        "issuer": trust.issuer,
        "audience": ",".join(trust.audiences),
        "bundle": str(functions),
    }
    chosen = [f"--context={name}={value}" for name, value in context.items()]
    command = [str(node()), str(CDK), "deploy", "--all", *chosen, *given.options]
    return run(command)


def run(command: Sequence[str]) -> int:
    """Run the CDK's command line, and pass on its output.

    The CDK aborts a deployment if nobody reads its output, so this function reads the CDK's pipes to their ends. If the
    output is a terminal, the CDK prints to the terminal directly and can ask there.

    Returns: the CDK's exit code.
    """
    outputs: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
    out, err = (None if stream.isatty() else subprocess.PIPE for stream in outputs)
    with subprocess.Popen(
        command, cwd=ROOT, env=_tools(), stdout=out, stderr=err, encoding="utf-8", errors="replace"
    ) as cdk:
        passing = [
            threading.Thread(target=_pass_on, args=[pipe, stream])
            for pipe, stream in zip((cdk.stdout, cdk.stderr), outputs, strict=True)
            if pipe is not None
        ]
        for thread in passing:
            thread.start()
        for thread in passing:
            thread.join()
    return cdk.returncode


def _pass_on(lines: Iterable[str], stream: TextIO) -> None:
    for line in lines:
        print(line, end="", file=stream, flush=True)


def _configuration(name: str, issuer: str, audience: str) -> tuple[Environment, Trust]:
    given = {"ENV": name, "ISSUER": issuer, "AUDIENCE": audience}
    missing = [variable for variable, value in given.items() if not value.strip()]
    if missing:
        raise SettingMissing(
            f"{', '.join(missing)} must be set: make deploy ENV={'|'.join(_deployable())} ISSUER=https://… AUDIENCE=…"
        )
    environment = environments.environment_named(name)
    if environment.name not in _deployable():
        raise SettingInvalid(f"{environment.name} is not for the cloud: `make run` deploys it.")
    return environment, environments.trust(environment, issuer, audience)


def _tools() -> dict[str, str]:
    return {**tool_environment(), "JSII_NODE": str(node()), "CDK_DISABLE_CLI_TELEMETRY": "true"}


def _deployable() -> list[str]:
    return [environment.name for environment in ENVIRONMENTS if environment.bundle == "cloud"]


if __name__ == "__main__":
    sys.exit(main())
