"""Every mutation applies to the code, every place is used, and docs/mutations.md has a row for each mutation."""

import pytest

from tests.mutations.mutation import Edit, Mutation, NoLongerApplies, file_of, mutated, span
from tests.mutations.mutations import MUTATIONS
from tests.mutations.places import PLACES
from tests.mutations.table import DOCUMENT, documented, exists, rendered
from tools.setup import ROOT

pytestmark = pytest.mark.verify


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_applies(mutation: Mutation) -> None:
    assert mutated(mutation, ROOT)


def test_each_place_is_used_by_a_mutation() -> None:
    assert set().union(*(edit.places() for mutation in MUTATIONS for edit in mutation.edits)) == PLACES.keys()


@pytest.mark.parametrize("key", PLACES)
def test_each_place_exists(key: str) -> None:
    start, end = span(key, file_of(key, ROOT).read_text("utf-8"))
    assert start < end


def test_no_two_mutations_are_the_same() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert len({mutation.edits for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize(
    "edit",
    [
        Edit("choose_shard", "not there", "0"),
        Edit("choose_shard", "shard", "0"),
        Edit("FIRST_SHARD", "$FIRST_SHARD = 0", "$FIRST_SHARD  =  0"),
        Edit("FIRST_SHARD", "$FIRST_SHARD = 0", "$FIRST_SHARD ="),
        Edit("no_such_place", "0", "1"),
        Edit("FIRST_SHARD", "$no_such_place", "1"),
    ],
    ids=["gone", "ambiguous", "same code", "not Python", "no such place", "no such name"],
)
def test_a_mutation_that_does_not_apply_is_named(edit: Edit) -> None:
    with pytest.raises(NoLongerApplies, match="some name"):
        mutated(Mutation("some name", "Some promise.", edit), ROOT)


def test_the_document_names_a_test_for_each_mutation() -> None:
    rows = documented()
    assert {name: row[0] for name, row in rows.items()} == {m.name: m.breaks for m in MUTATIONS}, "run `make mutations`"
    assert [name for name, (_, verdict) in rows.items() if not verdict.test] == []
    assert rendered({m: rows[m.name][1] for m in MUTATIONS}) == DOCUMENT.read_text(), "run `make mutations`"


def test_the_simulation_notices_each_mutation_about_money() -> None:
    noticed = {name for name, (_, verdict) in documented().items() if verdict.simulated and verdict.simulated.noticed}
    assert noticed == {mutation.name for mutation in MUTATIONS if mutation.money}


def test_the_tests_in_the_document_exist() -> None:
    assert [verdict.test for _, verdict in documented().values() if verdict.test and not exists(verdict.test)] == []
