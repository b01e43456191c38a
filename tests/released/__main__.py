"""`make release VERSION=…`: keep the current checkout as a release, which a test updates to later checkouts.

README.md in this folder lists the steps before and after. Exit codes: 0; 1 if the checkout cannot become this release.
"""

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from local import deployment
from local.errors import StartFailed
from tests.released import releases
from tools import output
from tools.setup import ROOT


@output.command("release", works=True)
def main(arguments: Sequence[str]) -> int:
    version = arguments[0] if arguments else ""
    folder = releases.FOLDER / version
    if reason := why_not(version, ROOT / "pyproject.toml", ROOT / "CHANGELOG.md", releases.FOLDER):
        print(f"release: {reason}", file=sys.stderr)
        return 1
    try:
        releases.write(folder, deployment.build_bundle())
    except StartFailed as failed:
        print(f"release: {failed}", file=sys.stderr)
        return 1
    print(f"release: {version} is kept in {folder.relative_to(ROOT)}; commit it and tag the commit v{version}.")
    return 0


def why_not(version: str, pyproject: Path, changelog: Path, released: Path) -> str | None:
    """Why `version` cannot be released, as one sentence; None if it can."""
    if not releases.VERSION.fullmatch(version):
        return "VERSION must be set, as three numbers: make release VERSION=1.2.3"
    if (released / version).exists():
        return f"{version} was released before, and a release never changes: raise the version."
    if (ours := tomllib.loads(pyproject.read_text("utf-8"))["project"]["version"]) != version:
        return f"this checkout is {ours} by {pyproject.name}, not {version}."
    section = rf"^## {re.escape(version)} - \d{{4}}-\d{{2}}-\d{{2}}$"
    if not re.search(section, changelog.read_text("utf-8"), re.MULTILINE):
        return f"{changelog.name} has no section `## {version} - <date>`: write one that says what is new."
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
