"""The age of cached values, on two clocks that may disagree."""

import math

from tests.testing.service import Clock


def test_both_clocks_measure_a_time_in_which_the_environment_runs() -> None:
    clock = Clock()
    clocks = clock.clocks
    before = clocks.moment()
    clock.pass_by(seconds=59)
    assert clocks.seconds_since(before) == 59


def test_the_wall_clock_measures_a_time_in_which_the_environment_is_frozen() -> None:
    clock = Clock()
    clocks = clock.clocks
    before = clocks.moment()
    clock.freeze(hours=5)
    assert clocks.seconds_since(before) == 5 * 3600


def test_the_monotonic_clock_measures_a_time_over_which_the_wall_clock_was_set_back() -> None:
    clock = Clock()
    clocks = clock.clocks
    before = clocks.moment()
    clock.pass_by(seconds=59)
    clock.set_back(seconds=30)
    assert clocks.seconds_since(before) == 59


def test_every_time_counts_as_long_after_the_wall_clock_was_set_back() -> None:
    clock = Clock()
    clocks = clock.clocks
    before = clocks.moment()
    clock.set_back(minutes=10)
    assert clocks.seconds_since(before) == math.inf
    after = clocks.moment()
    # A value that has expired stays expired when the wall clock catches up during a freeze.
    clock.freeze(minutes=10, seconds=30)
    assert clocks.seconds_since(before) == math.inf
    assert clocks.seconds_since(after) == 630
