"""From a broken promise to the smallest history that breaks it, in a file that one command runs again."""

from dataclasses import replace
from pathlib import Path

from local.setup import ROOT
from tests.faults.checker import violations
from tests.faults.driver import Run, Stage, run
from tests.faults.environment import RECORD
from tests.faults.history import History, save
from tests.faults.shrinking import shrunken

FOLDER = ROOT / "build" / "faults"


def reproduction(history: History, ran: Run, on: Stage, within_s: float, record: str = RECORD) -> str:
    """What to say of a run that broke promises: its seed, and how to see it again.

    Looks for a smaller history for so long.
    """
    met = replace(history, faults=dict(ran.faults.injected))
    smallest = shrunken(met, lambda some: bool(violations(run(some, on, record=record).evidence)), within_s)
    file = FOLDER / f"seed-{history.seed}.json"
    save(smallest, file)
    again = violations(run(smallest, on, record=record).evidence)
    size = f"{len(smallest.operations)} operations and {len(smallest.faults or {})} faults"
    luck = "" if again else " (it was a matter of luck: run it more than once)"
    return f"seed {history.seed}: {size} break it again{luck}: make soak HISTORY={_shown(file)}"


def _shown(file: Path) -> str:
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)
