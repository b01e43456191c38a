"""`make mutations`: break the code, one mutation at a time, and name a test that notices each.

For each mutation, the command first runs the test that docs/mutations.md names. For a mutation about money, it also
runs the seed from there. If these do not notice, it searches all tests and seeds. It writes docs/mutations.md with new
rows for the mutations that it tried.

Exit codes: 0 or 1, and 130 after Ctrl-C. The code is 1 if a mutation survives, no longer applies or gives no verdict.
It is also 1 if a test fails on the unchanged code.
"""

import argparse
import re
import signal
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from ops.number import whole_number
from tests.mutations.checkout import Checkout, Hung, NoVerdict, Stage, checkouts
from tests.mutations.mutation import Mutation, NoLongerApplies, mutated
from tests.mutations.mutations import MUTATIONS
from tests.mutations.table import DOCUMENT, Verdict, documented, exists, rendered, updated
from tools import output

# Tests of whole requests and batches come first: they show what callers and consumers would notice.
_FIRST = (
    "test_record_api.py",
    "test_recorder.py",
    "test_batch.py",
    "test_counters.py",
    "test_publisher.py",
    "test_limits.py",
    "test_limit_watcher.py",
    "test_queries.py",
    "test_subscriptions.py",
)
# Only the workloads of a few seeds: the checker's own tests run no function.
_FAULTS = ("tests/faults/test_workloads.py::test_nothing_is_lost_and_nothing_counted_twice_whatever_fails",)
# Without this package's own tests, which fail for any applied mutation.
_OTHERS = Stage("others", ("tests",), leaves_out=("tests/unit", "tests/faults", "tests/mutations"), timeout_s=1800)

# Some mutations need a rare interleaving. Twenty seeds take about a second of one core.
_MOST_SEEDS = 20_000
_SIMULATED_S = 1800


@output.command("mutations", works=True)
def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make mutations", description=__doc__)
    parser.add_argument(
        "--only", type=re.compile, default=re.compile(""), metavar="PATTERN", help="only those with this in their name"
    )
    parser.add_argument("--workers", type=whole_number(1), default=2, metavar="N", help="try N at once (default: 2)")
    parser.add_argument(
        "--seeds", type=whole_number(1), default=_MOST_SEEDS, metavar="N", help="simulate at most N seeds for each"
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
    started_s = time.monotonic()
    try:
        with checkouts(chosen.workers, stop) as copies:
            if drifted := [reason for mutation in mutations if (reason := _why_not(mutation, copies[0].root))]:
                _say("\n".join(drifted))
                return 1
            verdicts = _verdicts(copies, mutations, chosen.seeds, stop)
    except NoVerdict as unclear:
        _say(str(unclear))
        return 1
    except KeyboardInterrupt:
        _say("stopped")
        return 130
    return _report(mutations, verdicts, time.monotonic() - started_s)


def _report(mutations: Sequence[Mutation], verdicts: Mapping[Mutation, Verdict], took_s: float) -> int:
    """Print the verdicts and write them to the document.

    Returns: the exit code.
    """
    text = rendered({mutation: verdicts[mutation] for mutation in mutations if mutation in verdicts})
    print(text[text.index("| mutation") :])
    _say(f"{len(verdicts)} of {len(mutations)} have a verdict, after {took_s / 60:.1f} minutes")
    survivors = [mutation.name for mutation, verdict in verdicts.items() if verdict.test is None]
    for name in survivors:
        _say(f"no test notices {name!r}: write one that does.")
    unseen = [each.name for each, verdict in verdicts.items() if verdict.simulated and not verdict.simulated.noticed]
    for name in unseen:
        _say(f"the simulation did not notice {name!r}: add a shape or a check that does.")
    if survivors or unseen or len(verdicts) < len(mutations):
        return 1
    if (document := updated(verdicts, MUTATIONS)) is None:
        _say(f"{DOCUMENT.name} lacks rows of other mutations, too: run `make mutations` without --only.")
        return 1
    DOCUMENT.write_text(document, "utf-8")
    return 0


def _why_not(mutation: Mutation, code: Path) -> str | None:
    try:
        mutated(mutation, code)
    except NoLongerApplies as drifted:
        return str(drifted)
    return None


def _verdicts(
    copies: Sequence[Checkout], mutations: Sequence[Mutation], most_seeds: int, stop: threading.Event
) -> dict[Mutation, Verdict]:
    """Try the mutations, one at a time in each copy.

    Returns: the verdicts; a mutation whose tests gave none is absent.
    Raises:
        NoVerdict: a known test or seed fails on the unchanged code.
    """
    known = _known(mutations)
    _say("running the known tests and seeds on the unchanged code …")
    _check_unbroken(copies[0], known.values())
    free: SimpleQueue[Checkout] = SimpleQueue()
    for checkout in copies:
        free.put(checkout)

    def judged(mutation: Mutation) -> tuple[Verdict, float]:
        checkout = free.get()
        started_s = time.monotonic()
        try:
            return _verdict(checkout, mutation, known[mutation], most_seeds), time.monotonic() - started_s
        finally:
            free.put(checkout)

    verdicts = {}
    with ThreadPoolExecutor(len(copies)) as pool:
        running = {pool.submit(judged, mutation): mutation for mutation in mutations}
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


def _known(mutations: Sequence[Mutation]) -> dict[Mutation, Verdict]:
    """The last run's verdict on each mutation, without tests that no longer exist."""
    documents = documented()
    known = {}
    for mutation in mutations:
        _, verdict = documents.get(mutation.name, ("", Verdict()))
        test = verdict.test if verdict.test and exists(verdict.test) else None
        noticed = mutation.money and verdict.simulated is not None and verdict.simulated.noticed
        known[mutation] = Verdict(test, verdict.simulated if noticed else None)
    return known


def _verdict(checkout: Checkout, mutation: Mutation, known: Verdict, most_seeds: int) -> Verdict:
    """The known verdict if it still holds; otherwise, the first test and the first seed that notice.

    Raises: NoVerdict
    """
    with checkout.changed(mutated(mutation, checkout.root)):
        test = known.test if known.test and checkout.fails(known.test) else _first_to_notice(checkout, mutation)
        simulated = None
        if mutation.money:
            seeds = known.simulated.seeds if known.simulated else 0
            again = seeds and checkout.simulated(1, _SIMULATED_S, first=seeds - 1).noticed
            simulated = known.simulated if again else checkout.simulated(most_seeds, _SIMULATED_S)
    new = Verdict(test if test != known.test else None, simulated if simulated != known.simulated else None)
    _check_unbroken(checkout, [new])
    return Verdict(test, simulated)


def _first_to_notice(checkout: Checkout, mutation: Mutation) -> str | None:
    for stage in _stages(checkout.root):
        try:
            if failed := checkout.first_failure(stage):
                return failed
        except Hung as hung:
            # The hanging tests notice the mutation, but name no test for the document. Another stage must find one.
            _say(f"{mutation.name}: {hung}")
    return checkout.first_failure(_OTHERS)


def _check_unbroken(checkout: Checkout, verdicts: Collection[Verdict]) -> None:
    """Check that the tests and the seeds of these verdicts pass on the unchanged code.

    Raises:
        NoVerdict: one of them fails.
    """
    tests = tuple(dict.fromkeys(verdict.test for verdict in verdicts if verdict.test))
    if tests and (failed := checkout.first_failure(Stage("the known tests", tests, timeout_s=1800))):
        raise NoVerdict(f"{failed} fails on the unchanged code: fix it first.")
    noticed = (verdict.simulated for verdict in verdicts if verdict.simulated and verdict.simulated.noticed)
    for seed in sorted({simulated.seeds - 1 for simulated in noticed}):
        if checkout.simulated(1, _SIMULATED_S, first=seed).noticed:
            raise NoVerdict(f"seed {seed} breaks a promise on the unchanged code: fix that first.")


def _stages(code: Path) -> list[Stage]:
    """The tests that a search tries first, in their order."""
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
    return tuple(str(file.relative_to(code)) for file in files)


def _say(message: str) -> None:
    print(f"mutations: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
