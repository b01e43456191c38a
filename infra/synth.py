"""Every environment's templates, into cdk.out/<environment>/: to read, compare and check. No AWS account is asked."""

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

# `.example` belongs to nobody, so nobody can sign a token that these would accept.
_EXAMPLES = {"issuer": "https://issuer.example", "audience": "example-audience"}


def synthesize_all(issuer: str, audience: str, outdir: Path, build_bundle: Callable[[str], Path]) -> None:
    """Raises: ConfigurationError, CompilerUnusable."""
    build_once = cache(build_bundle)
    for environment in ENVIRONMENTS:
        trust = environments.trust(environment, issuer, audience)
        target = outdir / environment.name
        # Assets of earlier syntheses would stay there for ever.
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
            f"synth: these templates are for reading only, with the example {' and the example '.join(examples)}: "
            "`make deploy` takes ISSUER and AUDIENCE and refuses without them."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
