"""`python -m benchmarks.scale`: simulate all cases, print the tables, write docs/scale.md and docs/scale.png."""

import argparse
import multiprocessing
import sys
from pathlib import Path

from benchmarks.scale import beginnings, report
from benchmarks.scale.cases import Case, Outcome, run
from benchmarks.scale.report import BEGIN, END
from tools import output

_DOCS = Path(__file__).parents[2] / "docs"
_PROCESSES = 2


@output.command("scale", works=True)
def main() -> int:
    """Simulate every case. There are no options."""
    argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__).parse_args()
    simulate(_DOCS / "scale.md", _DOCS / "scale.png")
    return 0


def simulate(page: Path, picture: Path) -> None:
    """Run every case, and write the results into `page` and `picture`."""
    outcomes: dict[Case, Outcome] = {}
    cases = report.cases()
    with multiprocessing.Pool(_PROCESSES) as pool:
        for number, (name, case, outcome) in enumerate(pool.imap_unordered(_run, cases), start=1):
            outcomes[case] = outcome
            print(f"scale: {number} of {len(cases)}, {name}", file=sys.stderr, flush=True)
        begun = dict(zip(report.beginnings(), pool.map(beginnings.run, report.beginnings(), chunksize=1), strict=True))
    written = report.markdown(outcomes, begun)
    print(written)
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    page.write_text(before + written + rest.partition(END)[2], "utf-8")
    report.plot(outcomes, picture)


def _run(named: tuple[str, Case]) -> tuple[str, Case, Outcome]:
    name, case = named
    return name, case, run(case)


if __name__ == "__main__":
    sys.exit(main())
