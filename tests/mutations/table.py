"""docs/mutations.md, which names a test that notices each mutation. The next `make mutations` tries that test first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.mutations.checkout import Simulated
from tests.mutations.mutation import Mutation
from tools.setup import ROOT

DOCUMENT = ROOT / "docs" / "mutations.md"

_HEAD = """\
# Mutations and the tests that notice them

`make mutations` breaks the code, one mutation at a time, and names a test that notices each:

<!-- tested elsewhere -->

```sh
make mutations                       # all of them: some minutes on two cores
make mutations ARGS="--only shard"   # mutations with this pattern in their name; other rows stay
make mutations ARGS="--workers 4"    # four at a time instead of two
```

The command works in copies of the checkout. For each mutation, it first runs the test that is named here. If that test
passes, it runs the unit tests, then the tests with injected faults, then all others. It names the first test that
fails, and fails again when it runs alone. The command fails if no test notices a mutation, or if a mutation no longer
applies to the code.

The simulation (`python -m tests.simulation --stop-at-first`) tests mutations that would lose usage, count it twice,
exceed a limit or show a wrong total. It must notice each of them. The last column is the number of seeds, from seed 0
on, until it does. The command first runs the last of these seeds. If that seed breaks no promise, the command searches
from seed 0.

| mutation | promise broken | noticed by | simulation, seeds |
|---|---|---|---|
"""
_ROW = re.compile(r"^\| (?!mutation \|)([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_SURVIVED = "survived "
_NOTHING = "-"


@dataclass(frozen=True)
class Verdict:
    test: str | None = None
    """A test that fails, as `tests/…/test_it.py::test_it`; None if none does."""
    simulated: Simulated | None = None
    """None: the mutation is not about money."""

    def __str__(self) -> str:
        test = self.test or "SURVIVED"
        return test if self.simulated is None else f"{test}; simulation: {_seeds(self.simulated)}"


def rendered(verdicts: Mapping[Mutation, Verdict]) -> str:
    """The document for these mutations, in their order."""
    return _HEAD + "".join(
        f"| {mutation.name} | {mutation.breaks} | {_named(verdict.test)} | {_seeds(verdict.simulated)} |\n"
        for mutation, verdict in verdicts.items()
    )


def updated(verdicts: Mapping[Mutation, Verdict], all_: Sequence[Mutation]) -> str | None:
    """The document with new rows for these mutations.

    Returns: None if another mutation has no row, or a row with another promise.
    """
    before = documented()
    if any(mutation not in verdicts and before.get(mutation.name, ("",))[0] != mutation.breaks for mutation in all_):
        return None
    return rendered({each: verdicts[each] if each in verdicts else before[each.name][1] for each in all_})


def documented() -> dict[str, tuple[str, Verdict]]:
    """The promise and the verdict in the document, by the mutation's name."""
    rows: Sequence[tuple[str, str, str, str]] = _ROW.findall(DOCUMENT.read_text("utf-8"))
    return {name: (breaks, Verdict(_test(test), _simulated(seeds))) for name, breaks, test, seeds in rows}


def exists(test: str) -> bool:
    """Whether the checkout still has this test."""
    file, _, name = test.partition("::")
    return (ROOT / file).is_file() and re.search(rf"^def {name}\(", (ROOT / file).read_text("utf-8"), re.M) is not None


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
