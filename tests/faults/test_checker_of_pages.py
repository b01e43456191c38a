"""The checker finds shards that a reader would miss, and totals without them, in corrupted evidence of a real run."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.faults import spreading
from tests.faults.checker import violations
from tests.faults.crash_points import EVERY_PAGE
from tests.faults.driver import Stage, run
from tests.faults.evidence import Attempt, Change, Evidence

pytestmark = pytest.mark.verify

_FIRST = "counter#acme#2026-11"
# The first announcement has this many pages.
_PAGES = 8


@pytest.fixture(scope="module")
def true_evidence(on: Stage) -> Evidence:
    # Shards are chosen at random, so in rare runs no usage reaches a further page.
    for _ in range(10):
        evidence = run(EVERY_PAGE, on).evidence
        if spreading.used_pages(evidence.snapshots):
            return evidence
    pytest.fail("No run spread the counter over several pages.")


def test_the_evidence_of_several_pages_is_accepted(true_evidence: Evidence) -> None:
    assert violations(true_evidence) == []
    used = spreading.used_pages(true_evidence.snapshots)
    assert {counter for counter, _ in used} == {("acme", "api_calls", "2026-11")}
    assert {page for _, page in used} <= set(range(1, _PAGES))


def _items(evidence: Evidence, pk: str) -> list[dict[str, Any]]:
    """The items of this partition at the end."""
    return [item for item in evidence.snapshots[-1].items if item["pk"]["S"] == pk]


def _further(evidence: Evidence) -> dict[str, Any]:
    """A shard on a page after the first."""
    return next(item for item in evidence.snapshots[-1].items if item["pk"]["S"].startswith(f"{_FIRST}#api_calls#"))


def _announced(evidence: Evidence) -> dict[str, Any]:
    return next(item for item in _items(evidence, _FIRST) if item["sk"]["S"] == "api_calls#pages")


def _announcement(evidence: Evidence) -> int:
    """The index of the announcement among the changes."""
    return next(at for at, change in enumerate(evidence.changes) if change.sk == "api_calls#pages")


def _put_on_another_page(evidence: Evidence) -> None:
    _further(evidence)["sk"] = {"S": "api_calls#7"}


def _put_on_the_first_page(evidence: Evidence) -> None:
    _further(evidence)["pk"] = {"S": _FIRST}


def _put_in_another_feature(evidence: Evidence) -> None:
    _further(evidence)["pk"] = {"S": f"{_FIRST}#storage_gb#1"}


def _put_the_first_page_there(evidence: Evidence) -> None:
    _further(evidence)["pk"] = {"S": f"{_FIRST}#api_calls#0"}


def _name_it_strangely(evidence: Evidence) -> None:
    _further(evidence)["sk"] = {"S": "api_calls#x"}


def _lose_the_announcement(evidence: Evidence) -> None:
    evidence.snapshots[-1].items.remove(_announced(evidence))


def _announce_for_another(evidence: Evidence) -> None:
    _announced(evidence)["sk"] = {"S": "storage_gb#pages"}


def _announce_fewer_than_are_used(evidence: Evidence) -> None:
    page = int(_further(evidence)["pk"]["S"].rpartition("#")[2])
    _announced(evidence)["pages"] = {"N": str(page)}


def _announce_with_a_total(evidence: Evidence) -> None:
    _announced(evidence)["total"] = {"N": "5"}


def _announce_one_page(evidence: Evidence) -> None:
    _announced(evidence)["pages"] = {"N": "1"}


def _announce_too_many(evidence: Evidence) -> None:
    _announced(evidence)["pages"] = {"N": "65"}


def _announce_nothing(evidence: Evidence) -> None:
    del _announced(evidence)["pages"]


def _announce_elsewhere(evidence: Evidence) -> None:
    evidence.snapshots[-1].items.append({**_announced(evidence), "pk": {"S": f"{_FIRST}#api_calls#1"}})


def _announce_again(evidence: Evidence) -> None:
    evidence.changes.append(evidence.changes[_announcement(evidence)])


def _announce_less(evidence: Evidence) -> None:
    at = _announcement(evidence)
    change = evidence.changes[at]
    evidence.changes[at] = replace(change, after={**(change.after or {}), "pages": {"N": str(2 * _PAGES)}})
    evidence.changes.append(change)


def _take_the_announcement_back(evidence: Evidence) -> None:
    evidence.changes.append(Change(_FIRST, "api_calls#pages", _announced(evidence), None))


def _announce_afterwards(evidence: Evidence) -> None:
    evidence.changes.append(evidence.changes.pop(_announcement(evidence)))


def _mark_as_hard(evidence: Evidence) -> None:
    _first_shard(evidence)["hard"] = {"BOOL": True}


def _first_shard(evidence: Evidence) -> dict[str, Any]:
    return next(item for item in _items(evidence, _FIRST) if item["sk"]["S"] == "api_calls#0")


def _lose_a_further_shard(evidence: Evidence) -> None:
    evidence.snapshots[-1].items.remove(_further(evidence))


def _count_on_another_shard(evidence: Evidence) -> None:
    some = _further(evidence)
    first = int(some["pk"]["S"].rpartition("#")[2]) * 8
    others = (f"api_calls#{number}" for number in range(first, first + 8))
    some["sk"] = {"S": next(each for each in others if each != some["sk"]["S"])}


@pytest.mark.parametrize(
    ("corrupt", "expected"),
    [
        (_put_on_another_page, "api_calls#7 is on the wrong page"),
        (_put_on_the_first_page, "is on the wrong page"),
        (_put_in_another_feature, "is neither a shard nor an announcement"),
        (_put_the_first_page_there, "is neither a shard nor an announcement"),
        (_name_it_strangely, "api_calls#x is neither a shard nor an announcement"),
        (_lose_the_announcement, "is on a page that was not announced"),
        (_announce_fewer_than_are_used, "is on a page that was not announced"),
        (_announce_for_another, "is on a page that was not announced"),
        (_announce_with_a_total, "announces pages and adds 5 to the total"),
        (_announce_one_page, "announces 1 pages"),
        (_announce_too_many, "announces 65 pages"),
        (_announce_nothing, "api_calls#pages is neither a shard nor an announcement"),
        (_announce_elsewhere, "announces pages on page 1"),
        (_announce_again, f"was announced with {_PAGES} pages after {_PAGES}"),
        (_announce_less, f"was announced with {_PAGES} pages after {2 * _PAGES}"),
        (_take_the_announcement_back, f"{_FIRST} api_calls#pages was deleted"),
        (_announce_afterwards, "was written before its page was announced"),
        (_mark_as_hard, "is under a hard limit, but has pages"),
        (_lose_a_further_shard, "the counter is"),
        (_count_on_another_shard, "the counter's shard is"),
    ],
)
def test_the_checker_reports_the_violation(
    corrupt: Callable[[Evidence], None], expected: str, true_evidence: Evidence
) -> None:
    evidence = copy.deepcopy(true_evidence)
    corrupt(evidence)
    found = violations(evidence)
    assert any(expected in violation for violation in found), found


def _attempt(evidence: Evidence, operation: int) -> Attempt:
    return next(attempt for attempt in evidence.attempts if attempt.operation == operation)


def _answered(evidence: Evidence, operation: int, total: int) -> Evidence:
    """The evidence with this total in the answer to the operation."""
    changed = _attempt(evidence, operation)
    body = {**changed.body, "currentUsage": total, "limitReached": total >= changed.body["limit"]}
    attempts = [replace(changed, body=body) if each is changed else each for each in evidence.attempts]
    return replace(evidence, attempts=attempts)


def _quantity(evidence: Evidence, *operations: int) -> int:
    return sum(int(_attempt(evidence, operation).content["quantity"]) for operation in operations)


def test_a_total_may_lack_usage_of_other_environments_from_the_last_second(true_evidence: Evidence) -> None:
    last = _attempt(true_evidence, 8)
    elsewhere = [number for number in range(9) if _attempt(true_evidence, number).environment != last.environment]
    assert 7 in elsewhere
    for total in (last.body["currentUsage"], _quantity(true_evidence, *range(9)) - _quantity(true_evidence, 7)):
        assert total < _quantity(true_evidence, *range(9))
        assert violations(_answered(true_evidence, 8, total)) == []


@pytest.mark.parametrize(
    ("operation", "lacking"),
    [
        # The missing usage is from the same environment a moment ago, and from another one an hour ago.
        (8, 6),
        (11, 6),
    ],
)
def test_the_checker_reports_a_total_that_lacks_a_record(operation: int, lacking: int, true_evidence: Evidence) -> None:
    total = _attempt(true_evidence, operation).body["currentUsage"] - _quantity(true_evidence, lacking)
    environments = {_attempt(true_evidence, number).environment for number in (8, 6)}
    assert len(environments) == 1
    assert _attempt(true_evidence, 11).environment not in environments
    found = violations(_answered(true_evidence, operation, total))
    assert any(f"attempt {operation}.0 got a total of" in violation for violation in found)


def test_the_checker_reports_a_total_that_lacks_its_own_record(true_evidence: Evidence) -> None:
    own = int(_attempt(true_evidence, 1).content["quantity"])
    found = violations(_answered(true_evidence, 1, _attempt(true_evidence, 1).body["currentUsage"] - own))
    assert any("attempt 1.0 got a total of" in violation for violation in found)


@pytest.mark.parametrize("more", [-1, 1])
def test_the_checker_reports_a_wrong_total_when_the_remembered_one_is_too_old(
    more: int, true_evidence: Evidence
) -> None:
    found = violations(_answered(true_evidence, 11, _attempt(true_evidence, 11).body["currentUsage"] + more))
    assert any("attempt 11.0 got a total of" in violation for violation in found)


def test_the_checker_reports_a_total_that_no_read_can_return(true_evidence: Evidence) -> None:
    found = violations(_answered(true_evidence, 8, _quantity(true_evidence, *range(9)) + 1))
    assert any("attempt 8.0 got a total of" in violation for violation in found)
