"""From a broken promise to the smallest part of its scenario that breaks it, in a file that one command runs again."""

import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from local.setup import ROOT
from tests.faults.checker import violations
from tests.faults.shrinking import fewest
from tests.simulation.scenario import Recording, Scenario
from tests.simulation.shapes import scenario
from tests.simulation.simulation import Run, run

FOLDER = ROOT / "build" / "simulation"


@dataclass(frozen=True)
class Part:
    """What is left of a seed's scenario."""

    seed: int
    shape: str
    works: list[int]
    uses: list[list[int]]
    """Of each request that is left, which records: its id and their places."""
    faults: list[str]
    """The labels of the calls at which something goes wrong."""

    def scenario(self) -> Scenario:
        return scenario(self.seed, self.shape).keeping(self.works).keeping_uses([(id, at) for id, at in self.uses])

    def run(self, *, is_traced: bool = False) -> Run:
        return run(self.scenario(), allowed=set(self.faults), is_traced=is_traced)


def broken(ran: Run) -> list[str]:
    """Every promise that the run broke, in words."""
    return [*ran.wrong, *violations(ran.evidence)]


def shrunken(ran: Run, within_s: float) -> Part:
    """The fewest works, records and faults that `within_s` of real time lets us find, and that still break a promise."""
    deadline_s = time.monotonic() + within_s
    whole, seed = ran.scenario, ran.scenario.seed

    def part(works: Collection[int], uses: Collection[tuple[int, int]], faults: Collection[str]) -> Part:
        chosen = [[id, at] for id, at in uses if id in works]
        return Part(seed, whole.shape, sorted(works), chosen, sorted(faults))

    def breaks(some: Part) -> bool:
        return bool(broken(some.run()))

    works = [work.id for work in whole.works]
    uses = [(work.id, at) for work in whole.works if isinstance(work, Recording) for at in range(len(work.uses))]
    faults = sorted(ran.injected)
    if not breaks(part(works, uses, faults)):
        return part(works, uses, faults)
    for _ in range(2):
        works = fewest(works, lambda some: breaks(part(some, uses, faults)), deadline_s)
        faults = fewest(faults, lambda some: breaks(part(works, uses, some)), deadline_s)
        uses = [(id, at) for id, at in uses if id in works]
        uses = fewest(uses, lambda some: breaks(part(works, some, faults)), deadline_s)
        # A request without records is gone.
        left = {id for id, _ in uses}
        works = [work.id for work in whole.works if work.id in works and (work.id in left or not _is_recording(work))]
    return part(works, uses, faults)


def kept(part: Part, folder: Path = FOLDER) -> str:
    """Keep the part in a file; the command that runs it again."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{part.shape.replace(' ', '-')}-{part.seed}.json"
    file.write_text(json.dumps(asdict(part), indent=1))
    shown = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    return f"python -m tests.simulation --again {shown}"


def load(file: Path) -> Part:
    return Part(**json.loads(file.read_text()))


def _is_recording(work: object) -> bool:
    return isinstance(work, Recording)
