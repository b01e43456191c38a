"""docs/permissions.md matches the templates, and the templates' tests notice each grant that no other test can."""

import pytest

from tests.permissions.grants import Grant, grants, without
from tests.permissions.noticing import (
    DOCUMENT,
    PROBES,
    TEMPLATE_TESTS,
    UNENFORCED,
    contradictions,
    documented,
    found,
    last_of,
    rendered,
)
from tests.testing.stacks import Stacks


def test_the_document_lists_what_the_templates_grant_in_every_environment(stacks: Stacks) -> None:
    granted = grants(stacks)
    assert contradictions({grant: documented().get(grant) for grant in granted}) == []
    assert rendered(granted, documented()) == DOCUMENT.read_text(), "run `make permissions`"


def test_the_document_names_only_tests_that_are_run() -> None:
    assert set(documented().values()) <= {last_of(probe) for probe in PROBES}


@pytest.mark.parametrize("grant", UNENFORCED, ids=str)
def test_a_template_without_a_grant_that_the_emulator_does_not_enforce_fails_its_test(
    stacks: Stacks, grant: Grant
) -> None:
    granted = grants(stacks)
    template_test = found(TEMPLATE_TESTS[grant.function])
    template_test(stacks)
    lacking = without(stacks, granted[granted.index(grant)])
    assert grants(lacking) == [other for other in granted if other != grant]
    with pytest.raises(AssertionError):
        template_test(lacking)


def test_a_grant_that_nobody_notices_fails_the_run() -> None:
    unnoticed: dict[Grant, str | None] = {
        **dict.fromkeys(UNENFORCED),
        Grant("Record", "s3:GetObject", "Data.Arn"): None,
    }
    (said,) = contradictions(unnoticed)
    assert said.startswith("No test notices that Record: s3:GetObject on Data.Arn is gone")


def test_an_enforced_grant_documented_as_not_enforced_fails_the_run() -> None:
    named = next(iter(UNENFORCED))
    (said,) = contradictions({**dict.fromkeys(UNENFORCED), named: "test_of_something"})
    assert said.startswith(f"{named} is enforced after all, test_of_something noticed")


def test_a_missing_grant_documented_as_not_enforced_fails_the_run() -> None:
    gone, *others = UNENFORCED
    (said,) = contradictions(dict.fromkeys(others))
    assert said.startswith(f"{gone} is not granted")
