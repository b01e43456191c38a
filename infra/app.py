"""The CDK app: two stacks per deployment environment, one for data and one for code.

    cdk deploy --all -c environment=dev -c issuer=https://… -c audience=…[,…] [-c bundle=<folder>]

Without a bundle's folder, the app bundles the functions first.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aws_cdk import App, CliCredentialsStackSynthesizer, DefaultStackSynthesizer, IStackSynthesizer, Validations
from cdk_nag import AwsSolutionsChecks

from infra import environments
from infra.data_stack import DataStack
from infra.environments import BundleMissing, ConfigurationError, Environment, FindingsOpen, SettingMissing, Trust
from infra.service_stack import ServiceStack
from tools import output
from tools.bundle import build
from tools.compiler import CompilerUnusable

ROOT = Path(__file__).resolve().parent.parent


def build_app(environment: Environment, trust: Trust, bundle: Path, *, outdir: Path | None = None) -> App:
    """Return the app of one deployment environment, as `cdk deploy` builds it, ready for `synthesize()`."""
    app = _new_app(outdir)
    _add_stacks(app, environment, trust, bundle)
    return app


def synthesize(app: App) -> None:
    """Write the templates of `app`, and the assets that they refer to, into its folder.

    Raises: FindingsOpen, after cdk-nag's report on stderr.
    """
    try:
        app.synth()
    except RuntimeError as failed:  # jsii raises it for every exception of the library
        if not str(failed).startswith("ValidationFailed"):
            raise
        raise FindingsOpen("cdk-nag has open findings: fix or acknowledge each one in the report above.") from failed


@output.command("infra", works=True)
def main() -> int:
    app = _new_app()
    try:
        environment, trust, bundle = _configuration(app)
        _add_stacks(app, environment, trust, bundle)
        synthesize(app)
    except (ConfigurationError, CompilerUnusable) as wrong:
        print(f"infra: {wrong}", file=sys.stderr)
        return 1
    return 0


def _new_app(outdir: Path | None = None) -> App:
    # The CDK's command line passes the feature flags of cdk.json. For other callers, read the flags here too.
    flags: Mapping[str, Any] = json.loads((ROOT / "cdk.json").read_text("utf-8"))["context"]
    return App(
        context=flags, outdir=None if outdir is None else str(outdir), auto_synth=False, analytics_reporting=False
    )


def _configuration(app: App) -> tuple[Environment, Trust, Path]:
    name = app.node.try_get_context("environment")
    if not name:
        raise SettingMissing("No environment is chosen: add -c environment=dev, for example.")
    environment = environments.environment_named(name)
    trust = environments.trust(environment, app.node.try_get_context("issuer"), app.node.try_get_context("audience"))
    return environment, trust, _bundle(environment, app.node.try_get_context("bundle"))


def _bundle(environment: Environment, given: str | None) -> Path:
    if given:
        if not (ROOT / given).is_dir():
            raise BundleMissing(f"There are no functions to deploy in {given}: it is not a folder.")
        return ROOT / given
    try:
        return build(environment.bundle)
    except subprocess.CalledProcessError as failed:
        raise BundleMissing("The functions could not be bundled: see the error above.") from failed


def _add_stacks(app: App, environment: Environment, trust: Trust, bundle: Path) -> None:
    prefix = f"usage-metering-{environment.name}"
    data = DataStack(app, f"{prefix}-data", environment=environment, synthesizer=_synthesizer(environment))
    ServiceStack(
        app,
        f"{prefix}-service",
        environment=environment,
        trust=trust,
        bundle=bundle,
        data=data,
        synthesizer=_synthesizer(environment),
    )
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def _synthesizer(environment: Environment) -> IStackSynthesizer:
    if environment.asset_bucket is None:
        return DefaultStackSynthesizer()
    return CliCredentialsStackSynthesizer(file_assets_bucket_name=environment.asset_bucket)


if __name__ == "__main__":
    sys.exit(main())
