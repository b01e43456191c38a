"""Write every environment's templates into cdk.out/<environment>/, for review and checks. No AWS account is needed."""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from infra import environments
from infra.app import ROOT, build_app, synthesize
from infra.environments import ENVIRONMENTS, ConfigurationError
from tools import output
from tools.bundle import build
from tools.compiler import CompilerUnusable

# Nobody owns `.example`, so nobody can sign a token that these templates accept.
_EXAMPLES = {"issuer": "https://issuer.example", "audience": "example-audience"}


def synthesize_all(issuer: str, audience: str, outdir: Path, build_bundle: Callable[[str], Path]) -> None:
    """Raises: ConfigurationError, CompilerUnusable."""
    build_once = cache(build_bundle)
    for environment in ENVIRONMENTS:
        trust = environments.trust(environment, issuer, audience)
        target = outdir / environment.name
        # Otherwise the assets of earlier runs would accumulate there.
        shutil.rmtree(target, ignore_errors=True)
        synthesize(build_app(environment, trust, build_once(environment.bundle), outdir=target))
        print(f"synth: {environment.name} is in {target}", flush=True)


@output.command("synth", works=True)
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.synth", description=__doc__)
    parser.add_argument("--issuer", default="")
    parser.add_argument("--audience", default="")
    given = parser.parse_args(arguments)
    values = {name: getattr(given, name) or example for name, example in _EXAMPLES.items()}
    examples = [f"{name} {value}" for name, value in values.items() if not getattr(given, name)]
    try:
        synthesize_all(values["issuer"], values["audience"], ROOT / "cdk.out", build)
    except (ConfigurationError, CompilerUnusable) as wrong:
        print(f"synth: {wrong}", file=sys.stderr)
        return 1
    if examples:
        print(
            f"synth: These templates use the example {' and the example '.join(examples)}, so do not deploy them. "
            "`make deploy` requires ISSUER and AUDIENCE."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
