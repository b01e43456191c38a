"""Shrinks a workload that breaks a promise and saves it in a file that one command runs again."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from tests.faults.checker import violations
from tests.faults.driver import Run, Stage, run
from tests.faults.environment import RECORD
from tests.faults.shrinking import shrunken
from tests.faults.workload import Workload, save
from tools.setup import ROOT

FOLDER = ROOT / "build" / "faults"


def reproduction(
    workload: Workload, ran: Run, on: Stage, within_s: float, *, record: str = RECORD, folder: Path = FOLDER
) -> str:
    """Shrink the workload for up to `within_s` seconds and save it in `folder`.

    Returns: a message with the seed, the size of the shrunken workload, and the command that reproduces the failure.
    """

    def breaks(some: Workload) -> Collection[str] | None:
        again = run(some, on, record=record)
        return again.faults.injected.keys() if violations(again.evidence) else None

    smallest = shrunken(replace(workload, faults=dict(ran.faults.injected)), breaks, within_s)
    chance = "" if breaks(smallest) is not None else " (not in every run, so run it more than once)"
    size = f"{len(smallest.operations)} operations and {len(smallest.faults or {})} faults"
    command = kept(smallest, f"seed-{workload.seed}", folder)
    return f"seed {workload.seed}: {size} reproduce the failure{chance} with {command}"


def kept(workload: Workload, name: str, folder: Path = FOLDER) -> str:
    """Save the workload in a file with this name.

    Returns: the command that runs it again.
    """
    file = folder / f"{name}.json"
    save(workload, file)
    return f"make soak WORKLOAD={file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}"
