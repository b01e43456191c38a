"""How long something may be remembered, on two clocks that need not agree."""

import math

from tests.service import Clock


def test_both_clocks_measure_a_time_in_which_the_environment_runs() -> None:
    clock = Clock()
    before = clock.clocks.moment()
    clock.pass_by(seconds=59)
    assert clock.clocks.seconds_since(before) == 59


def test_the_wall_clock_measures_a_time_in_which_the_environment_is_frozen() -> None:
    clock = Clock()
    before = clock.clocks.moment()
    clock.freeze(hours=5)
    assert clock.clocks.seconds_since(before) == 5 * 3600


def test_the_monotonic_clock_measures_a_time_over_which_the_wall_clock_was_set_back() -> None:
    clock = Clock()
    before = clock.clocks.moment()
    clock.pass_by(seconds=59)
    clock.set_back(seconds=30)
    assert clock.clocks.seconds_since(before) == 59


def test_no_time_is_short_if_the_wall_clock_shows_an_earlier_one() -> None:
    clock = Clock()
    before = clock.clocks.moment()
    clock.set_back(milliseconds=1)
    assert clock.clocks.seconds_since(before) == math.inf
