"""Which test kills which mutation: docs/mutations.md, made by `make mutations`, checked by tests/unit."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.mutations.checkout import Simulated
from tests.mutations.mutation import Mutation
from tools.setup import ROOT

DOCUMENT = ROOT / "docs" / "mutations.md"

_HEAD = """\
# What the tests notice

Made by `make mutations`, which breaks the code in one way after the other, each time in a copy of the checkout, and
runs `make test`'s tests there until one fails: first the unit tests, then the tests with injected faults, and if
neither notices, all others. The first test to fail is named here, once it failed again alone. A mutation that no test
notices, or that no longer applies to the code, fails the command. `ARGS="--only shard"` runs only those with that
pattern in their name, and changes only their rows; `ARGS="--workers 4"` runs more than two at a time.

The simulation (`python -m tests.simulation --stop-at-first`) must notice each mutation that would lose usage, count it
twice, exceed a limit or tell a wrong total. The last column says after how many seeds it does.

| mutation | promise broken | killed by (unit) | killed by (faults) | simulation, seeds |
|---|---|---|---|---|
"""
_ROW = re.compile(r"^\| (?!mutation \|)([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_SURVIVED = "survived "
_NOTHING = "-"


@dataclass(frozen=True)
class Verdict:
    """The first test of each stage that failed on a mutation, if one did."""

    unit: str | None = None
    faults: str | None = None
    others: str | None = None
    """Asked only if neither of the first two noticed."""
    simulated: Simulated | None = None
    """None: it was not."""

    @property
    def survived(self) -> bool:
        return not (self.unit or self.faults or self.others)

    def __str__(self) -> str:
        tests = ", ".join(filter(None, (self.unit, self.faults, self.others))) or "SURVIVED"
        return tests if self.simulated is None else f"{tests}; simulation: {_seeds(self.simulated)}"


def rendered(verdicts: Mapping[Mutation, Verdict]) -> str:
    """The document for these mutations, in their order."""
    return _HEAD + "".join(_row(mutation, verdict) for mutation, verdict in verdicts.items())


def updated(verdicts: Mapping[Mutation, Verdict], all_: Sequence[Mutation]) -> str | None:
    """The document with the rows of these mutations made anew; None if it lacks others, or has other promises."""
    before = documented()
    rows = []
    for mutation in all_:
        if mutation in verdicts:
            rows.append(_row(mutation, verdicts[mutation]))
        elif mutation.name in before and before[mutation.name][0] == mutation.breaks:
            rows.append(_row(mutation, before[mutation.name][1]))
        else:
            return None
    return _HEAD + "".join(rows)


def documented() -> dict[str, tuple[str, Verdict]]:
    """What docs/mutations.md says of each mutation: the promise, and the verdict."""
    rows: Sequence[tuple[str, str, str, str, str]] = _ROW.findall(DOCUMENT.read_text("utf-8"))
    return {
        name: (breaks, Verdict(_test(unit), _test(faults), simulated=_simulated(seeds)))
        for name, breaks, unit, faults, seeds in rows
    }


def _row(mutation: Mutation, verdict: Verdict) -> str:
    tests = f"{_named(verdict.unit or verdict.others)} | {_named(verdict.faults)}"
    return f"| {mutation.name} | {mutation.breaks} | {tests} | {_seeds(verdict.simulated)} |\n"


def _named(test: str | None) -> str:
    return _NOTHING if test is None else f"`{test.removeprefix('tests/')}`"


def _test(cell: str) -> str | None:
    return None if cell == _NOTHING else f"tests/{cell.strip('`')}"


def _seeds(simulated: Simulated | None) -> str:
    if simulated is None:
        return _NOTHING
    return str(simulated.seeds) if simulated.noticed else f"{_SURVIVED}{simulated.seeds}"


def _simulated(cell: str) -> Simulated | None:
    if cell == _NOTHING:
        return None
    return Simulated(int(cell.removeprefix(_SURVIVED)), noticed=not cell.startswith(_SURVIVED))
