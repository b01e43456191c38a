"""Which test kills which mutation: docs/mutations.md, made by `make mutations`, checked by tests/unit."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from local.setup import ROOT
from tests.mutations.mutations import Mutation

DOCUMENT = ROOT / "docs" / "mutations.md"

_HEAD = """\
# What the tests notice

Made by `make mutations`, which breaks the code in one way after the other, each time in a copy of the checkout, and
runs `make test`'s tests there until one fails: first the unit tests, then the tests with injected faults, and if
neither notices, all others. The first test to fail is named here, once it failed again alone. A mutation that no test
notices, or that no longer applies to the code, fails the command. `ARGS="--only shard"` runs only those with that
pattern in their name, and changes only their rows; `ARGS="--workers 4"` runs more than two at a time.

| mutation | promise broken | killed by (unit) | killed by (faults) |
|---|---|---|---|
"""
_ROW = re.compile(r"^\| (?!mutation \|)([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_NOTHING = "-"


@dataclass(frozen=True)
class Verdict:
    """The first test of each stage that failed on a mutation, if one did."""

    unit: str | None = None
    faults: str | None = None
    others: str | None = None
    """Asked only if neither of the first two noticed."""

    @property
    def survived(self) -> bool:
        return not (self.unit or self.faults or self.others)

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.unit, self.faults, self.others))) or "SURVIVED"


def rendered(verdicts: Mapping[Mutation, Verdict]) -> str:
    """The document for these mutations, in their order."""
    return _HEAD + "".join(_row(mutation, kill.unit or kill.others, kill.faults) for mutation, kill in verdicts.items())


def updated(verdicts: Mapping[Mutation, Verdict], all_: Sequence[Mutation]) -> str | None:
    """The document with the rows of these mutations made anew; None if it lacks others, or has other promises."""
    before = documented()
    rows = []
    for mutation in all_:
        if mutation in verdicts:
            kill = verdicts[mutation]
            rows.append(_row(mutation, kill.unit or kill.others, kill.faults))
        elif mutation.name in before and before[mutation.name][0] == mutation.breaks:
            _, unit, faults = before[mutation.name]
            rows.append(_row(mutation, unit or None, faults or None))
        else:
            return None
    return _HEAD + "".join(rows)


def documented() -> dict[str, tuple[str, str, str]]:
    """What docs/mutations.md says of each mutation: the promise, and the tests that kill it, empty if none does."""
    rows: Sequence[tuple[str, str, str, str]] = _ROW.findall(DOCUMENT.read_text())
    return {name: (breaks, _test(unit), _test(faults)) for name, breaks, unit, faults in rows}


def _row(mutation: Mutation, unit: str | None, faults: str | None) -> str:
    return f"| {mutation.name} | {mutation.breaks} | {_named(unit)} | {_named(faults)} |\n"


def _named(test: str | None) -> str:
    return _NOTHING if test is None else f"`{test.removeprefix('tests/')}`"


def _test(cell: str) -> str:
    return "" if cell == _NOTHING else f"tests/{cell.strip('`')}"
