"""Shrink the scenario of a broken promise, and keep the smallest part in a file that one command runs again."""

import json
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.checker import violations
from tests.faults.shrinking import fewest
from tests.simulation.scenario import Recording, Scenario
from tests.simulation.shapes import scenario
from tests.simulation.simulation import Run, run
from tools.setup import ROOT

FOLDER = ROOT / "build" / "simulation"


@dataclass(frozen=True)
class Part:
    """A part of a seed's scenario."""

    seed: int
    shape: str
    works: list[int]
    uses: list[list[int]]
    """The remaining records, as [id of the request, place in the request]."""
    faults: list[str]
    """The labels of the calls that fail."""

    def scenario(self) -> Scenario:
        return (
            scenario(self.seed, self.shape)
            .keeping(self.works)
            .keeping_uses([(number, place) for number, place in self.uses])
        )

    def run(self, *, is_traced: bool = False) -> Run:
        return run(self.scenario(), allowed=set(self.faults), is_traced=is_traced)


def broken(ran: Run) -> list[str]:
    """The promises that the run broke, one sentence each."""
    return [*ran.wrong, *violations(ran.evidence)]


def shrunken(ran: Run, within_s: float) -> Part:
    """The smallest part that breaks a promise, found within `within_s`."""
    deadline_s = time.monotonic() + within_s
    part = _whole(ran)
    if not _breaks(part):
        return part
    for _ in range(2):
        part = _with(part, works=fewest(part.works, partial(_breaks_with, part, "works"), deadline_s))
        part = _with(part, faults=fewest(part.faults, partial(_breaks_with, part, "faults"), deadline_s))
        part = _with(part, uses=fewest(part.uses, partial(_breaks_with, part, "uses"), deadline_s))
    return part


def _whole(ran: Run) -> Part:
    works = ran.scenario.works
    uses = [[work.id, place] for work in works if isinstance(work, Recording) for place in range(len(work.uses))]
    return Part(ran.scenario.seed, ran.scenario.shape, [work.id for work in works], uses, sorted(ran.injected))


def _with(part: Part, **changes: Any) -> Part:
    """The part with other works, records or faults, without empty requests and without records of absent requests."""
    changed = replace(part, **changes)
    left = {work.id for work in changed.scenario().works}
    uses = [[number, place] for number, place in changed.uses if number in left]
    return replace(changed, works=[number for number in changed.works if number in left], uses=uses)


def _breaks_with(part: Part, what: str, some: list[Any]) -> bool:
    return _breaks(_with(part, **{what: some}))


def _breaks(part: Part) -> bool:
    return bool(broken(part.run()))


def kept(part: Part, folder: Path = FOLDER) -> str:
    """Keep the part in a file.

    Returns: the command that runs it again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{part.shape.replace(' ', '-')}-{part.seed}.json"
    file.write_text(json.dumps(asdict(part), indent=1))
    shown = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    return f"python -m tests.simulation --again {shown}"


def load(file: Path) -> Part:
    return Part(**json.loads(file.read_text()))
