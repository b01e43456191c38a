"""The simulation of one busy counter follows its own model. No test asserts a speed."""

from dataclasses import replace
from pathlib import Path

import pytest
from metering.storage.counter_items import MAX_PAGES, SHARDS_PER_PAGE
from metering.storage.lists import PARTS

from benchmarks.scale import __main__ as scale
from benchmarks.scale import beginnings, report
from benchmarks.scale.beginnings import Beginning
from benchmarks.scale.cases import Case, percentile, run
from benchmarks.scale.contenders import Contender, Fixed, Spreading
from benchmarks.scale.model import Assumptions

pytestmark = pytest.mark.verify

CONTENDERS = [Spreading(), Fixed(1), Fixed(8), Fixed(128)]
ENDLESS = 10**9
# One try without a retry and without rate limits. This is the loss system of textbooks (Erlang B).
LOSS = Assumptions(deadline_s=0, write_units=ENDLESS, read_units=ENDLESS, scaling=ENDLESS)


@pytest.mark.parametrize(("shards", "rate"), [(1, 50), (1, 200), (8, 800)])
def test_one_try_finds_its_shard_busy_as_often_as_erlangs_formula_says(shards: int, rate: float) -> None:
    out = run(Case(Fixed(shards), rate, seconds=20_000 / rate, assumptions=LOSS))
    offered = rate * LOSS.hold_s / shards
    shard_busy = out.early.late + out.later.late
    assert out.early.refused + out.later.refused == 0
    assert shard_busy / (out.early.requests + out.later.requests) == pytest.approx(offered / (1 + offered), abs=0.015)


@pytest.mark.parametrize("contender", CONTENDERS)
def test_each_answered_request_is_added_once(contender: Contender) -> None:
    out = run(Case(contender, rate=50, seconds=60, seed=3))
    assert out.early.failed + out.later.failed == 0
    assert out.added == len(out.early.tries) + len(out.later.tries) > 2_500


def test_each_transaction_of_a_batch_is_added() -> None:
    out = run(Case(Spreading(transactions=2), rate=50, seconds=10))
    assert out.added == 2 * (out.early.requests + out.later.requests)
    assert min(out.early.tries) == 2


@pytest.mark.parametrize("contender", CONTENDERS)
def test_no_partition_key_serves_more_than_its_rate_and_its_burst(contender: Contender) -> None:
    case = Case(contender, rate=3_000, seconds=4, early_s=2)
    most = case.assumptions.write_units * (1 + case.assumptions.burst_s / case.seconds)
    out = run(case)
    assert out.early.seen["throttles"] > 0
    assert 0 < out.fullest <= most


def test_lambda_adds_no_more_environments_than_it_may() -> None:
    assumptions = Assumptions(warm=0, scaling=50)
    out = run(Case(Fixed(1), rate=2_000, seconds=4, early_s=2, assumptions=assumptions))
    assert 50 <= out.environments <= 50 + 5 * 4
    assert out.early.refused > 0


def test_one_item_never_fails_at_a_low_rate_and_fails_at_a_high_one() -> None:
    assert run(Case(Fixed(1), rate=10, seconds=300)).later.failed == 0
    assert run(Case(Fixed(1), rate=1_000, seconds=10)).later.failed > 0


def test_128_shards_under_one_key_are_throttled_where_pages_are_not() -> None:
    under_one_key, on_pages = (run(Case(one, rate=2_000, seconds=10)) for one in (Fixed(128), Spreading()))
    assert under_one_key.later.seen["throttles"] > 10 * under_one_key.later.seen["conflicts"]
    assert under_one_key.later.failed > 0
    assert on_pages.early.failed + on_pages.later.failed == 0


@pytest.mark.parametrize("seed", [11, 12])
def test_5000_requests_per_second_on_one_counter_all_succeed_with_at_most_3_tries_after_5_s(seed: int) -> None:
    out = run(Case(Spreading(), rate=5_000, seconds=7, seed=seed))
    assert out.early.failed + out.later.failed == 0
    assert percentile(out.later.tries, 99) <= 3


def test_5000_requests_per_second_also_succeed_when_a_new_period_begins() -> None:
    out = run(Case(Spreading(), rate=5_000, seconds=9, seed=13, turn_s=2, early_s=7))
    assert out.early.failed + out.later.failed == 0
    assert percentile(out.later.tries, 99) <= 3
    assert len(out.pages) == 2


@pytest.mark.parametrize("rate", [10, 100, 200])
def test_a_counter_stays_on_one_page_when_one_page_is_enough(rate: float) -> None:
    out = run(Case(Spreading(), rate, seconds=20_000 / rate))
    assert out.pages == [1]
    assert out.shards[0] <= SHARDS_PER_PAGE


def test_nothing_is_added_to_a_page_that_is_not_announced() -> None:
    out = run(Case(Spreading(), rate=4_000, seconds=3, early_s=1))
    assert 1 < out.pages[0] <= MAX_PAGES
    assert SHARDS_PER_PAGE < out.shards[0] <= out.pages[0] * SHARDS_PER_PAGE


def test_a_seed_repeats_a_run_and_another_one_does_not() -> None:
    case = Case(Spreading(), rate=500, seconds=2, early_s=1)
    assert run(case) == run(case)
    assert run(case) != run(replace(case, seed=2))


def test_50000_counters_begin_in_one_second_without_a_throttle() -> None:
    for case in (Beginning(seed=4), Beginning(5_000, 10, seed=4)):
        begun = beginnings.run(case)
        assert (len(begun.tries), begun.late, begun.throttles, len(begun.entries)) == (50_000, 0, 0, PARTS)


def test_a_list_serves_no_more_than_its_rate_and_its_burst() -> None:
    one_list = Beginning(5_000, lists=1)
    begun = beginnings.run(one_list)
    assert (len(begun.tries), begun.late, set(begun.entries.values())) == (5_000, 0, {5_000})
    # The burst serves the first thousand, and the rate serves the others one after the other.
    assert max(begun.latencies_s) > 3
    too_many = beginnings.run(replace(one_list, organizations=12_000))
    most = one_list.assumptions.write_units * (1 + 1 + one_list.assumptions.deadline_s)
    assert 0 < too_many.late == 12_000 - len(too_many.tries)
    assert len(too_many.tries) <= most


def test_an_organizations_own_partition_key_limits_how_many_of_its_counters_begin() -> None:
    begun = beginnings.run(Beginning(organizations=1, counters=1_500, entry_units=0))
    # Each transaction takes two of the thousand units that are saved, and of the thousand of each further second.
    assert (len(begun.tries), begun.late) == (1_500, 0)
    assert max(begun.latencies_s) > 1


def test_a_beginning_repeats_with_its_seed_and_not_with_another() -> None:
    case = Beginning(1_000, lists=1, within_s=0.1, assumptions=Assumptions(burst_s=0.1))
    assert beginnings.run(case) == beginnings.run(case)
    assert beginnings.run(case) != beginnings.run(replace(case, seed=2))


def test_a_percentile_is_the_least_value_that_covers_its_share() -> None:
    assert [percentile(list(range(1, 101)), percent) for percent in (50, 99, 100)] == [50, 99, 100]
    assert percentile([7], 99) == 7
    assert percentile([], 99) == 0


def test_the_report_writes_page_and_chart_and_keeps_the_prose_around_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brief(case: Case) -> Case:
        return replace(case, seconds=1, early_s=0.5, turn_s=None, rate=50)

    for name in ("TARGETS", "VARIATIONS"):
        questions = getattr(report, name)
        monkeypatch.setattr(
            report, name, tuple(replace(one, cases=tuple(brief(case) for case in one.cases)) for one in questions)
        )
    few = {name: replace(one, organizations=20, counters=1) for name, one in report.BEGINNINGS.items()}
    monkeypatch.setattr(report, "BEGINNINGS", few)
    monkeypatch.setattr(report, "TABLE", tuple((rate, name, brief(case)) for rate, name, case in report.TABLE))
    page, picture = tmp_path / "scale.md", tmp_path / "scale.png"
    page.write_text(f"before\n\n{report.BEGIN}\nold text\n{report.END}\n\nafter\n")
    scale.simulate(page, picture)
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "old text" not in written
    assert all(f"| {name} |" in written for name in (*report.SHOWN, *report.BEGINNINGS))
    assert picture.read_bytes().startswith(b"\x89PNG")
