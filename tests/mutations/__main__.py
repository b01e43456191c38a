"""`make mutations`: break the code in one way after the other, and tell which test notices.

Those about money are tried by the simulation as well. Writes docs/mutations.md, with the rows of those that were tried
made again. Exit codes: 0; 1 if a mutation survives, no longer applies or gives no verdict, or if a test fails on the
code as it is; 130 after Ctrl-C.
"""

import argparse
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ops.number import whole_number
from tests.mutations.checkout import Hung, NoVerdict, Stage, copied, kept
from tests.mutations.mutation import Mutation, NoLongerApplies, mutated
from tests.mutations.mutations import MUTATIONS
from tests.mutations.table import DOCUMENT, Verdict, rendered, updated
from tools import output

# Those that send whole requests and batches come first: what they notice, callers and consumers would.
_FIRST = (
    "test_record_api.py",
    "test_command.py",
    "test_batch.py",
    "test_counters.py",
    "test_publisher.py",
    "test_limits.py",
    "test_watcher.py",
    "test_queries.py",
    "test_subscriptions.py",
)
# The histories of a few seeds; what tests the checker itself says nothing about the code.
_FAULTS = ("tests/faults/test_histories.py::test_nothing_is_lost_and_nothing_counted_twice_whatever_fails",)
# It fails because a mutation was applied, whatever that breaks.
_OWN_TEST = "tests/unit/test_mutations.py"

# So many seeds of the code as it is: the simulation has its own command for more.
_SEEDS_UNBROKEN = 200
# Some mutations need a rare meeting. Twenty seeds take about a second of one core.
_MOST_SEEDS = 20_000
_SIMULATED_S = 1800

_OTHERS = Stage("others", ("tests",), leaves_out=("tests/unit", "tests/faults"), timeout_s=1800)


@output.command("mutations", works=True)
def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make mutations", description=__doc__)
    parser.add_argument(
        "--only", type=re.compile, default=re.compile(""), metavar="PATTERN", help="try those whose name has this in it"
    )
    parser.add_argument("--workers", type=whole_number(1), default=2, metavar="N", help="try so many at once")
    parser.add_argument(
        "--seeds",
        type=whole_number(1),
        default=_MOST_SEEDS,
        metavar="N",
        help="simulate so many of each about money at most",
    )
    chosen = parser.parse_args(arguments)
    mutations = [mutation for mutation in MUTATIONS if chosen.only.search(mutation.name)]
    if not mutations:
        _say(f"no mutation has {chosen.only.pattern!r} in its name.")
        return 1
    # Explicit, as a shell starts background jobs with Ctrl-C ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    stop = threading.Event()
    try:
        with kept() as code:
            if (failed := _fails_unbroken(code, mutations, stop)) is not None:
                _say(failed)
                return 1
            verdicts = _verdicts(code, mutations, chosen, stop)
    except KeyboardInterrupt:
        _say("stopped")
        return 130
    text = rendered({mutation: verdicts[mutation] for mutation in mutations if mutation in verdicts})
    print(text[text.index("| mutation") :])
    survivors = [name for name, verdict in _by_name(verdicts) if verdict.survived]
    for name in survivors:
        _say(f"{name!r} survived: write the test that notices.")
    unseen = [name for name, verdict in _by_name(verdicts) if verdict.simulated and not verdict.simulated.noticed]
    for name in unseen:
        _say(f"the simulation did not notice {name!r}: find the shape or the check that does.")
    if survivors or unseen or len(verdicts) < len(mutations):
        return 1
    if (document := updated(verdicts, MUTATIONS)) is None:
        _say("the document lacks other mutations, too: run all of them.")
        return 1
    DOCUMENT.write_text(document, "utf-8")
    return 0


def _by_name(verdicts: Mapping[Mutation, Verdict]) -> list[tuple[str, Verdict]]:
    return [(mutation.name, verdict) for mutation, verdict in verdicts.items()]


def _fails_unbroken(code: Path, mutations: Sequence[Mutation], stop: threading.Event) -> str | None:
    """Why no verdict would be worth anything; None if all `mutations` apply to `code` and its tests pass as it is."""
    drifted = [reason for mutation in mutations if (reason := _why_not(mutation, code))]
    if drifted:
        return "\n".join(drifted)
    _say("the code as it is …")
    try:
        with copied(code, stop) as checkout:
            for stage in _stages(code):
                if failed := checkout.first_failure(stage):
                    return f"{failed} fails although nothing was broken."
            if any(mutation.money for mutation in mutations):
                simulated = checkout.simulated(_SEEDS_UNBROKEN, _SIMULATED_S)
                if simulated.noticed:
                    return f"seed {simulated.seeds - 1} breaks a promise although nothing was broken."
    except NoVerdict as unclear:
        return str(unclear)
    return None


def _why_not(mutation: Mutation, code: Path) -> str | None:
    try:
        mutated(mutation, code)
    except NoLongerApplies as drifted:
        return str(drifted)
    return None


def _verdicts(
    code: Path, mutations: Sequence[Mutation], chosen: argparse.Namespace, stop: threading.Event
) -> dict[Mutation, Verdict]:
    """The verdict on each of `mutations` that has one; what keeps one from it is told."""
    verdicts: dict[Mutation, Verdict] = {}
    with ThreadPoolExecutor(chosen.workers) as pool:
        running = {pool.submit(_verdict, code, mutation, chosen.seeds, stop): mutation for mutation in mutations}
        try:
            for number, future in enumerate(as_completed(running), start=1):
                mutation = running[future]
                try:
                    verdicts[mutation], took_s = future.result()
                except NoVerdict as unclear:
                    _say(f"{number}/{len(mutations)} {mutation.name}: {unclear}")
                else:
                    _say(f"{number}/{len(mutations)} {mutation.name}: {verdicts[mutation]} ({took_s:.0f} s)")
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return verdicts


def _verdict(code: Path, mutation: Mutation, most_seeds: int, stop: threading.Event) -> tuple[Verdict, float]:
    started = time.monotonic()
    with copied(code, stop) as checkout:
        for path, text in mutated(mutation, checkout.root).items():
            path.write_text(text, "utf-8")
        noticed: dict[str, str | None] = {}
        for stage in _stages(code):
            try:
                noticed[stage.name] = checkout.first_failure(stage)
            except Hung as hung:
                # Something noticed, but no name can stand in the table: another stage must give one.
                _say(f"{mutation.name}: {hung}")
        if not any(noticed.values()):
            noticed[_OTHERS.name] = checkout.first_failure(_OTHERS)
        simulated = checkout.simulated(most_seeds, _SIMULATED_S) if mutation.money else None
    if simulated is not None and simulated.noticed:
        _check_unbroken(code, simulated.seeds - 1, stop)
    return Verdict(**noticed, simulated=simulated), time.monotonic() - started


def _check_unbroken(code: Path, seed: int, stop: threading.Event) -> None:
    """Fail if the seed notices nothing: it breaks a promise of the code as it is.

    Raises: NoVerdict
    """
    with copied(code, stop) as checkout:
        if checkout.simulated(1, _SIMULATED_S, first=seed).noticed:
            raise NoVerdict(f"seed {seed} breaks a promise although nothing was broken.")


def _stages(code: Path) -> list[Stage]:
    """What is run on every mutation."""
    stages = [Stage("unit", _unit_tests(code), test_timeout_s=60)]
    if any((code / "tests" / "faults").rglob("test_*.py")):
        stages.append(Stage("faults", _FAULTS))
    return stages


def _unit_tests(code: Path) -> tuple[str, ...]:
    files = sorted(
        (code / "tests" / "unit").rglob("test_*.py"),
        key=lambda file: (
            _FIRST.index(file.name) if file.name in _FIRST else len(_FIRST),
            file.parent.name != "metering",
            file,
        ),
    )
    names = [str(file.relative_to(code)) for file in files]
    return tuple(name for name in names if name != _OWN_TEST)


def _say(what: str) -> None:
    print(f"mutations: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
