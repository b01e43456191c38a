"""`make soak SEEDS=250 OPERATIONS=400`: search for lost and doubled usage under all possible faults.

First the command injects every fault at every call. Then it runs SEEDS seeds with OPERATIONS operations each. It writes
build/faults/report.json and, after a long soak without violations, the figures in docs/reliability.md.
`make soak WORKLOAD=file` runs one workload again.
Exit codes: 0 without violations; 1 with violations; 130 after Ctrl-C.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ops.number import whole_number
from tests.faults import figures, soak
from tests.faults.checker import violations
from tests.faults.driver import run, stage
from tests.faults.reproduction import FOLDER
from tests.faults.workload import load
from tests.testing import engine
from tools import output


@output.command("soak", works=True)
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=whole_number(0), default=250, help="number of seeds (default: %(default)s)")
    parser.add_argument("--first-seed", type=whole_number(0), default=1)
    parser.add_argument(
        "--operations", type=whole_number(1), default=400, help="operations of each seed (default: %(default)s)"
    )
    parser.add_argument(
        "--engine", choices=["dynoxide", "emulator"], help="the DynamoDB engine (default: dynoxide if it is installed)"
    )
    parser.add_argument(
        "--workers", type=whole_number(1), default=2, help="seeds that run in parallel (default: %(default)s)"
    )
    parser.add_argument("--no-crash-points", action="store_true", help="skip the crash points and run only the seeds")
    parser.add_argument("--workload", type=Path, help="run only the workload in this file")
    given = parser.parse_args()
    # Set the handlers explicitly, because a shell starts background jobs with Ctrl-C ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return _soak(given) if given.workload is None else _again(given.workload, given.engine)
    except KeyboardInterrupt:
        print("soak: stopped", file=sys.stderr)
        return 130


def _again(file: Path, engine_name: str | None) -> int:
    workload = load(file)
    with tempfile.TemporaryDirectory() as directory, stage(Path(directory), engine_name) as on:
        ran = run(workload, on)
        for done in sorted(ran.evidence.done, key=lambda done: done.began):
            print(f"action {done.action.id}: {done.action}")
        for attempt in sorted(ran.evidence.sent, key=lambda attempt: attempt.began):
            sent = f"{attempt.organization} {attempt.key} {attempt.content['feature']} {attempt.content['quantity']}"
            answer = "no answer" if attempt.status is None else f"{attempt.status} {attempt.body}"
            print(f"{attempt.name}: {sent} → {answer}{' (replayed)' if attempt.replayed else ''}")
        for label, fault in sorted(ran.faults.injected.items()):
            print(f"fault: {fault} at {label}")
        found = violations(ran.evidence)
    for violation in found:
        print(f"violation: {violation}")
    print(f"{len(found)} violations")
    return 1 if found else 0


def _soak(given: argparse.Namespace) -> int:
    started_s = time.monotonic()
    points = None
    if not given.no_crash_points:
        points = soak.every_crash_point(given.engine, given.workers, _print_progress)
        print(f"soak: {points.faults} faults at {points.calls} calls, {len(points.violations)} violations", flush=True)
    total = soak.Tally()
    for done, (seed, tally) in enumerate(
        soak.seeds(given.first_seed, given.seeds, given.operations, given.engine, given.workers), start=1
    ):
        total.add(tally)
        # Print violations immediately, so that a user who stops the soak has seen them.
        for violation in tally.violations:
            print(f"violation: {violation}", file=sys.stderr, flush=True)
        elapsed_s = time.monotonic() - started_s
        print(
            f"soak: {done}/{given.seeds} seeds, {total.operations} operations, {total.injected} faults, "
            f"{total.kills} killed, {len(total.violations)} violations, {elapsed_s:.0f} s (seed {seed})",
            flush=True,
        )
    found = [*total.violations, *(points.violations if points else [])]
    settings: dict[str, Any] = {
        "seeds": f"{given.first_seed} to {given.first_seed + given.seeds - 1}",
        "engine": given.engine or engine.default(),
    }
    report = soak.report(total, points, settings, time.monotonic() - started_s)
    soak.write(report, FOLDER / "report.json")
    print(figures.table(report))
    for violation in found:
        print(f"violation: {violation}", file=sys.stderr)
    if figures.is_long(report) and not found:
        figures.publish(report)
        print("soak: wrote the figures to docs/reliability.md")
    return 1 if found else 0


def _print_progress(done: int, *, all_: int, violations: int, broken: Sequence[str]) -> None:
    for violation in broken:
        print(f"violation: {violation}", file=sys.stderr, flush=True)
    print(f"soak: {done}/{all_} crash points, {violations} violations", flush=True)


if __name__ == "__main__":
    sys.exit(main())
