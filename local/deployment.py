"""Deploy the service to the emulator with the real `cdk deploy`, as the deployment environment `local`."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from infra.environments import LOCAL
from local import emulator, tether
from local.errors import StartFailed
from ops.access import Access
from ops.environments import Outputs, outputs_of
from ops.errors import EnvironmentNotDeployed
from tools import bundle, setup

# Caches of Node.js and the CDK. All runs of this checkout share the caches, so that no run has to rebuild them.
_CACHE = setup.ROOT / "build" / "cache"

# Lines in which the CDK reports a failure without its reason.
_NO_REASON = re.compile(r"Subprocess exited with error|^Failed resources:|^\s*at |^\s*$")
_REASON = re.compile(r"error|exception|failed|❌|^infra: ", re.IGNORECASE)


def build_bundle() -> Path:
    """Build the functions for the emulator.

    Raises: StartFailed.
    """
    try:
        return bundle.build(LOCAL.bundle)
    except subprocess.CalledProcessError as failed:
        raise StartFailed(f"cannot bundle the functions: `{failed.cmd[0]}` failed, see its message above.") from failed
    except OSError as failed:
        raise StartFailed(f"cannot bundle the functions: {failed}.") from failed


def deploy(access: Access, context: Mapping[str, str], work: Path, log: Path, lock: int) -> Outputs:
    """Deploy both stacks with the CDK context `context`, using the folders `home`, `tmp` and `cdk.out` of `work`.

    Returns: the stacks' outputs.
    Raises:
        StartFailed: the deploy failed; `log` has the CDK's whole output.
    """
    try:
        if LOCAL.asset_bucket is not None:
            access.s3().create_bucket(Bucket=LOCAL.asset_bucket)
        _run_cdk(access, context, work, log, lock)
        return outputs_of(access.cloudformation(), LOCAL.name)
    except (BotoCoreError, ClientError, EnvironmentNotDeployed) as failed:
        raise StartFailed(f"the deploy failed: {failed} See {log}.") from failed


def api_id(outputs: Outputs) -> str:
    """The id of the deployed HTTP API, for the proxy. The API's host name does not resolve on every machine."""
    host = urlsplit(outputs.url).hostname or ""
    return host.partition(".")[0]


def last_reason(text: str) -> str:
    """The line of the CDK's output that best explains its failure."""
    lines = [line.strip(" \t❌‣") for line in text.splitlines() if not _NO_REASON.search(line)]
    reasons = [line for line in lines if _REASON.search(line)]
    return (reasons or lines or ["no output"])[-1]


def _run_cdk(access: Access, context: Mapping[str, str], work: Path, log: Path, lock: int) -> None:
    command: list[str | Path] = [
        setup.node(),
        setup.CDK,
        "deploy",
        "--all",
        f"--app={shlex.quote(sys.executable)} -m infra.app",
        *(f"--context={name}={value}" for name, value in context.items()),
        f"--output={work / 'cdk.out'}",
        "--require-approval=never",
        "--no-notices",
        "--no-color",
        # The stacks are new, so a change set would only cost seconds of polling.
        "--method=direct",
        "--concurrency=2",
        "--progress=events",
    ]
    with log.open("ab") as file:
        cdk = tether.start(command, _environment(access, work), setup.ROOT, file, lock)
        try:
            code = cdk.wait()
        finally:
            tether.end(cdk)
    if code != 0:
        reason = last_reason(log.read_text(errors="replace"))
        raise StartFailed(f"the deploy failed: {reason} (see {log}).")


def _environment(access: Access, work: Path) -> dict[str, str]:
    credentials = access.session.get_credentials()
    if credentials is None or access.endpoint is None:
        raise StartFailed("the deploy has no emulator as its target: pass an access with credentials and an endpoint.")
    # Keep the user's profile, proxy, credentials and region out, so that the deploy can reach only the emulator.
    return {
        "PATH": f"{setup.node().parent}{os.pathsep}{os.defpath}",
        "LANG": "C.UTF-8",
        # The CDK caches accounts by access key id in HOME. In the user's HOME, that cache would grow with each run.
        "HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "AWS_ENDPOINT_URL": access.endpoint,
        "AWS_ENDPOINT_URL_S3": access.endpoint,
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_REGION": emulator.REGION,
        "AWS_DEFAULT_REGION": emulator.REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "JSII_NODE": str(setup.node()),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
        "JSII_RUNTIME_PACKAGE_CACHE_ROOT": str(_CACHE / "jsii"),
        "NODE_COMPILE_CACHE": str(_CACHE / "node"),
    }
