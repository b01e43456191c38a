"""`make bench`: measure, simulate, print, and write benchmarks/results.json, docs/scale.md and docs/cost.md."""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from benchmarks import contention, measure, publishing, store
from benchmarks.scale.__main__ import simulate
from ops.number import whole_number
from tools import output


class _Part(Protocol):
    """A module of this package that measures something beside recording."""

    TITLE: str

    def run(self, say: Callable[[str], None], *, rounds: int) -> dict[str, Any]:
        """Measure, and report the progress to `say`.

        Returns: the part's entry in the results.
        """
        ...

    def text(self, measured: dict[str, Any]) -> str:
        """Render the same as lines of a table."""
        ...


_RESULTS = Path(__file__).parent / "results.json"
_DOCS = Path(__file__).parent.parent / "docs"
# By their name in the results. Add further measurements here.
_PARTS: Mapping[str, _Part] = {"publishing": publishing, "contention": contention}
_PACKAGES = ("awslambdaric", "aws-lambda-powertools", "boto3", "botocore", "pydantic")

# With fewer rounds, the medians jump with the machine's noise.
_FEWEST_ROUNDS = 25


@output.command("bench", works=True)
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=whole_number(2), default=31, help="rounds that measure both sides, at least 2")
    parser.add_argument("--requests", type=whole_number(1), default=50, help="warm requests in each round")
    given = parser.parse_args()
    if sys.platform != "linux":
        print("bench: needs Linux. AWS publishes its runtime client ready to run for Linux only.", file=sys.stderr)
        return 1
    machine = _machine()
    with tempfile.TemporaryDirectory() as scratch, store.serving() as answering:
        folder = Path(scratch)
        sides = measure.contenders(folder)
        rounds, requests = given.rounds, given.requests
        warm = measure.warm(
            sides, answering, folder, rounds=rounds, requests=requests, say=_progress("warm requests", rounds)
        )
        cold = measure.cold(sides, answering, folder, rounds=rounds, say=_progress("cold starts", rounds))
    parts = {name: part.run(_say, rounds=rounds) for name, part in _PARTS.items()}
    results = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine,
        "versions": {name: version(name) for name in _PACKAGES},
        "warm CPU per request, against the two bare botocore calls": {
            "aim": 1.25,
            **warm.summary(),
            "requests_per_round": requests,
        },
        "init and first answered request, against boto3.client and the two calls": {
            "aim": 1.3,
            **cold.elapsed.summary(),
        },
        "the same, in CPU": {"aim": 1.3, **cold.cpu.summary()},
        **parts,
    }
    print(f"\nrecording, against its bare calls\n{_table(results)}")
    for name, part in _PARTS.items():
        print(f"\n{part.TITLE}\n{part.text(parts[name])}")
    if rounds < _FEWEST_ROUNDS:
        print(f"\nbench: nothing was written. Fewer than {_FEWEST_ROUNDS} rounds are too noisy: raise --rounds.")
        return 0
    _RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"\nbench: wrote {_RESULTS.relative_to(Path.cwd())}")
    print("\nsimulated requests per second on one counter")
    simulate(_DOCS / "scale.md", _DOCS / "scale.png")
    # The cost uses the new results. The import is late, because it sets the functions' environment variables.
    from benchmarks import cost

    cost.run()
    print(f"bench: wrote {cost.DOCUMENT.relative_to(Path.cwd())}")
    return 0


def _progress(what: str, rounds: int) -> Callable[[int], None]:
    return lambda number: _say(f"{what}, round {number + 1} of {rounds}")


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


def _table(results: dict[str, Any]) -> str:
    lines = [f"{'median (quartiles)':<74}{'ratio':>22}{'aim':>6}{'record ms':>11}{'baseline ms':>13}"]
    for name, one in results.items():
        if isinstance(one, dict) and "record_ms" in one:
            lower, upper = one["ratio"]["quartiles"]
            ratio = f"{one['ratio']['median']:.3f} ({lower:.3f} to {upper:.3f})"
            record_ms, baseline_ms = one["record_ms"]["median"], one["baseline_ms"]["median"]
            lines.append(f"{name:<74}{ratio:>22}{one['aim']:>6}{record_ms:>11.2f}{baseline_ms:>13.2f}")
    return "\n".join(lines)


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_of_others": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    sys.exit(main())
