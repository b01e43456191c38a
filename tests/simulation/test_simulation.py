"""A few hundred seeds of all shapes break no promise; `make simulate` runs about a million requests."""

import os
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from metering.outbox import publishing, thresholds
from metering.usage import listing, recorder

from tests.simulation.campaign import Tally, tally
from tests.simulation.fault_rates import FATES
from tests.simulation.reproduction import broken, kept, load, shrunken
from tests.simulation.shapes import SHAPES, scenario
from tests.simulation.simulation import run

_SEEDS = 25
_FIRST, *_OTHERS = SHAPES
# The shapes that inject only some of the faults.
_FATES = {
    "dense": ("answer lost", "conflict", "item throttled", "not sent"),
    "torn": ("answer lost", "conflict", "late", "killed after", "slow"),
}
# The events that a shape must cause in addition to those that every shape causes.
_CAUSES = {
    "ordinary": "complete lists",
    "torn": "complete lists",
    "spread": "further pages used",
    "dense": "compared with the oracle",
    "fresh": "counters under hard limits",
}

_PRINT_TRACES = """
from tests.simulation.shapes import scenario
from tests.simulation.simulation import run
for seed in range(60):
    print(run(scenario(seed), is_traced=True).trace)
"""


@pytest.mark.parametrize("shape", [_FIRST, *(pytest.param(shape, marks=pytest.mark.verify) for shape in _OTHERS)])
def test_no_promise_is_broken(shape: str) -> None:
    total = Tally()
    for seed in range(_SEEDS):
        total.add(tally(seed, shape))
    assert total.broken == {}
    # A run without requests and faults would break no promise either.
    counts = total.counts
    assert {f"fault: {fate}" for fate in _FATES.get(shape, FATES)} <= counts.keys()
    assert {"TransactWriteItems", "TransactGetItems", "GetItem", "Query", "PutItem", "UpdateItem"} <= counts.keys()
    assert {"PutEvents", "publisher invocations", "watcher invocations", "partial batch responses"} <= counts.keys()
    assert counts["recorded"] > _SEEDS
    assert counts["refused"] > 0
    assert counts["notices"] > 0
    if shape in _CAUSES:
        assert counts[_CAUSES[shape]] > 0


@pytest.mark.verify
@pytest.mark.parametrize("shape", SHAPES)
def test_a_seed_has_one_trace(shape: str) -> None:
    for seed in range(3):
        first = run(scenario(seed, shape), is_traced=True)
        assert first.trace
        again = run(scenario(seed, shape), is_traced=True)
        assert again.trace == first.trace
        assert again.evidence == first.evidence
        # The trace changes nothing in the run.
        assert run(scenario(seed, shape)).evidence == first.evidence


@pytest.mark.verify
def test_a_seed_has_one_trace_in_every_process() -> None:
    # Set order differs per process unless PYTHONHASHSEED is fixed.
    traces = {
        subprocess.run(
            [sys.executable, "-c", _PRINT_TRACES],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(traces) == 1


@pytest.mark.verify
def test_a_cache_that_expires_too_late_is_found_and_its_scenario_shrunk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("metering.usage.organization_cache.CACHED_S", 600.0)
    ran = next(ran for ran in (run(scenario(seed, "turning")) for seed in range(100)) if broken(ran))
    part = shrunken(ran, within_s=60)
    assert len(part.works) < len(ran.scenario.works) / 2
    assert len(part.faults) < 3
    command = kept(part, tmp_path)
    assert command == f"python -m tests.simulation --again {tmp_path}/turning-{part.seed}.json"
    assert broken(load(tmp_path / f"turning-{part.seed}.json").run())
    monkeypatch.undo()
    assert broken(part.run()) == []


@pytest.mark.verify
def test_a_run_restores_the_functions_ids_and_threads() -> None:
    modules: Any = [recorder, thresholds, publishing, listing]
    run(scenario(0))
    recording, noticer, sender, lister = modules
    assert recording.uuid is noticer.uuid is uuid
    assert (sender.ThreadPoolExecutor, sender.Semaphore) == (ThreadPoolExecutor, threading.Semaphore)
    assert lister.ThreadPoolExecutor is ThreadPoolExecutor
