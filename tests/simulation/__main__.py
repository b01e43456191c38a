"""`make simulate`: find lost and doubled usage in simulated time, seed by seed.

    --seeds FIRST LAST    run these seeds, without LAST
    --requests N          run seeds from FIRST on until they have made N requests
    --shape NAME          run only scenarios of this shape
    --stop-at-first       stop at the first seed that breaks a promise, and print how many seeds that took
    --show SEED           print the trace of this seed
    --again FILE          print the trace of the part of a scenario in FILE, which broke a promise

Exit codes: 0; 1 if a promise was broken; 130 after Ctrl-C.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from ops.number import seconds, whole_number
from tests.simulation.campaign import Tally, rate, seeds
from tests.simulation.reproduction import broken, kept, load, shrunken
from tests.simulation.scenario import Recording
from tests.simulation.shapes import SHAPES, scenario
from tests.simulation.simulation import Run, run
from tools import output

_SEEDS = 1 << 40
# Shrinking a violation takes long, and the first ones are enough to start with.
_MOST_SHRUNKEN = 3
# Between two lines about the progress.
_EVERY_S = 10.0


@output.command("simulate")
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=whole_number(0), nargs=2, metavar=("FIRST", "LAST"))
    parser.add_argument("--requests", type=whole_number(0))
    parser.add_argument("--workers", type=whole_number(1), default=2)
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--stop-at-first", action="store_true")
    parser.add_argument("--shrinking", type=seconds, default=20.0, metavar="SECONDS", help="for each violation")
    parser.add_argument("--show", type=whole_number(0), metavar="SEED")
    parser.add_argument("--again", type=Path, metavar="FILE")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if given.again is not None:
            return _show(load(given.again).run(is_traced=True))
        if given.show is not None:
            return _show(run(scenario(given.show, given.shape), is_traced=True))
        first, last = given.seeds or (0, _SEEDS if given.requests else 1000)
        return _search(first, last, given)
    except KeyboardInterrupt:
        print("simulate: stopped", file=sys.stderr)
        return 130


def _search(first: int, last: int, given: argparse.Namespace) -> int:
    began_s = printed_s = time.monotonic()
    total = Tally()
    shown = 0
    for tally in seeds(first, last, given.shape, given.workers):
        total.add(tally)
        for seed, found in sorted(tally.broken.items()):
            shown += 1
            if shown <= _MOST_SHRUNKEN or given.stop_at_first:
                _report(seed, found, given)
            else:
                print(f"seed {seed}: {found[0]}", flush=True)
            if given.stop_at_first:
                print(f"found after {seed - first + 1} seeds")
                return 1
        if time.monotonic() - printed_s > _EVERY_S:
            printed_s = time.monotonic()
            speed = rate(total.requests, began_s)
            print(
                f"simulate: {total.seeds} seeds, {total.requests} requests, {len(total.broken)} broken, {speed}",
                flush=True,
            )
        if given.requests is not None and total.requests >= given.requests:
            break
    print("\n".join(total.lines()))
    print(f"simulate: {rate(total.requests, began_s)}")
    return 1 if total.broken else 0


def _report(seed: int, found: list[str], given: argparse.Namespace) -> None:
    """Print the promises that a seed breaks, and the smallest part of its scenario that still breaks one."""
    ran = run(scenario(seed, given.shape))
    print(f"seed {seed} ({ran.scenario.shape}) breaks {len(found)} promises:")
    for violation in found[:10]:
        print(f"  {violation}")
    if given.shrinking > 0:
        part = shrunken(ran, given.shrinking)
        smaller = part.run(is_traced=True)
        size = f"{len(part.works)} works, {len(part.uses)} records and {len(part.faults)} faults"
        print(f"  {size} are enough to break one; run them again with: {kept(part)}")
        _show(smaller, "    ")
    print(flush=True)


def _show(ran: Run, indent: str = "") -> int:
    start_s = ran.scenario.starts_at_s
    print(f"{indent}{ran.scenario.shape}, {ran.scenario.rates}")
    for work in ran.scenario.works:
        records = f"{len(work.uses)} records, " if isinstance(work, Recording) else ""
        print(f"{indent}{start_s + work.at_s:.4f} {records}{work}")
    for line in ran.trace:
        print(f"{indent}{line}")
    found = broken(ran)
    for violation in found:
        print(f"{indent}violation: {violation}")
    print(f"{indent}{len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
