"""The real `cdk deploy` of the environment `local` to the emulator."""

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

# What Node.js and the CDK would make again in every directory: shared by all stacks of this checkout.
_CACHE = setup.ROOT / "build" / "cache"

# Two or three of the CDK's lines say that something failed; these say nothing about why.
_NO_REASON = re.compile(r"Subprocess exited with error|^Failed resources:|^\s*at |^\s*$")
_REASON = re.compile(r"error|exception|failed|❌|^infra: ", re.IGNORECASE)


def build_bundle() -> Path:
    """The functions, built for the emulator.

    Raises: StartFailed.
    """
    try:
        return bundle.build(LOCAL.bundle)
    except subprocess.CalledProcessError as failed:
        raise StartFailed(f"the functions could not be bundled: `{failed.cmd[0]}` failed, see above.") from failed
    except OSError as failed:
        raise StartFailed(f"the functions could not be bundled: {failed}.") from failed


def deploy(access: Access, context: Mapping[str, str], work: Path, log: Path, lock: int) -> Outputs:
    """Deploy both stacks, with `context` for the CDK app, using the folders `home`, `tmp` and `cdk.out` of `work`.

    Returns: what they say about themselves.
    Raises:
        StartFailed: they are not deployed; everything that was said about it is in `log`.
    """
    try:
        if LOCAL.asset_bucket is not None:
            access.s3().create_bucket(Bucket=LOCAL.asset_bucket)
        _run_cdk(access, context, work, log, lock)
        return outputs_of(access.cloudformation(), LOCAL.name)
    except (BotoCoreError, ClientError, EnvironmentNotDeployed) as failed:
        raise StartFailed(f"the deploy failed: {failed} See {log}.") from failed


def api_id(outputs: Outputs) -> str:
    """The id of the deployed HTTP API, by which the proxy serves it: its own host name does not resolve everywhere."""
    host = urlsplit(outputs.url).hostname or ""
    return host.partition(".")[0]


def last_reason(text: str) -> str:
    """The line that says best why the CDK failed, of all that it printed."""
    lines = [line.strip(" \t❌‣") for line in text.splitlines() if not _NO_REASON.search(line)]
    reasons = [line for line in lines if _REASON.search(line)]
    return (reasons or lines or ["it said nothing"])[-1]


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
        # The stacks are new: a change set would only be waited for, in steps of seconds.
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
        raise StartFailed(f"the deploy failed: {reason} (all of it: {log}).")


def _environment(access: Access, work: Path) -> dict[str, str]:
    credentials = access.session.get_credentials()
    if credentials is None or access.endpoint is None:
        raise StartFailed("the deploy has no emulator to go to: give `deploy` the access to one.")
    # Nothing of the user's: no profile, proxy, credentials or region that could lead anywhere but to the emulator.
    return {
        "PATH": f"{setup.node().parent}{os.pathsep}{os.defpath}",
        "LANG": "C.UTF-8",
        # Also for the CDK's cache of accounts by access key id, which would grow with each run.
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
