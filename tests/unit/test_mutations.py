"""Every mutation still fits the code, and docs/mutations.md tells of all of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutations.mutation import Edit, Mutation, NoLongerApplies, mutated
from tests.mutations.mutations import MUTATIONS
from tests.mutations.table import DOCUMENT, documented, rendered
from tools.setup import ROOT

pytestmark = pytest.mark.verify


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_changes_the_code_and_leaves_it_python(mutation: Mutation) -> None:
    for path, text in mutated(mutation, ROOT).items():
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(path.read_text()))


def test_no_two_mutations_are_the_same() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert len({mutation.edits for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize(
    "edit",
    [
        Edit("usage/shard_policy.py", "not there", "whatever"),
        Edit("usage/shard_policy.py", "shard", "whatever"),
        Edit("usage/shard_policy.py", "FIRST_SHARD = 0", "FIRST_SHARD = 0"),
        Edit("usage/shard_policy.py", "FIRST_SHARD = 0", "FIRST_SHARD ="),
        Edit("not_there.py", "FIRST_SHARD = 0", "FIRST_SHARD = 1"),
    ],
    ids=["gone", "ambiguous", "nothing changes", "no Python", "no such file"],
)
def test_a_mutation_that_no_longer_applies_is_told(edit: Edit) -> None:
    with pytest.raises(NoLongerApplies, match="some name"):
        mutated(Mutation("some name", "Some promise.", (edit,)), ROOT)


def test_the_document_tells_of_every_mutation_and_a_test_that_kills_it() -> None:
    rows = documented()
    assert {name: row[0] for name, row in rows.items()} == {m.name: m.breaks for m in MUTATIONS}, "run `make mutations`"
    assert [name for name, (_, verdict) in rows.items() if verdict.survived] == []
    assert rendered({m: rows[m.name][1] for m in MUTATIONS}) == DOCUMENT.read_text(), "run `make mutations`"


def test_the_simulation_notices_every_mutation_about_money() -> None:
    verdicts = {name: verdict.simulated for name, (_, verdict) in documented().items()}
    noticed = {name for name, simulated in verdicts.items() if simulated is not None and simulated.noticed}
    assert noticed == {mutation.name for mutation in MUTATIONS if mutation.money}


def test_the_tests_that_the_document_names_are_there() -> None:
    named = {test for _, verdict in documented().values() for test in (verdict.unit, verdict.faults) if test}
    assert named <= set(_tests({Path(test.split("::")[0]) for test in named}))


def _tests(files: set[Path]) -> Iterator[str]:
    for file in files:
        if (ROOT / file).is_file():
            for node in ast.walk(ast.parse((ROOT / file).read_text())):
                if isinstance(node, ast.FunctionDef):
                    yield f"{file}::{node.name}"
