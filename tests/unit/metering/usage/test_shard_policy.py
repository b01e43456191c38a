from random import Random

import pytest
from metering.storage.counter_items import MAX_PAGES, SHARDS_PER_PAGE
from metering.usage.shard_policy import ShardState, cached_s

FULL_PAGE = ShardState().after_read(SHARDS_PER_PAGE, 1)
LAST = SHARDS_PER_PAGE - 1


def test_a_calm_counter_stays_in_its_first_shard() -> None:
    random, state = Random(1), ShardState()
    for _ in range(100):
        assert state.shard(random) == 0
        state = state.increment_committed(0)


def test_a_busy_shard_is_left_out_and_doubles_the_choice_up_to_a_page() -> None:
    random, state = Random(1), ShardState()
    for width in (2, 4, 8, 8):
        state = state.shard_busy(0, throttled=False)
        assert {state.shard(random) for _ in range(400)} == set(range(width))
        assert {state.shard(random, busy=1) for _ in range(400)} == set(range(width)) - {1}
    assert state.pages_wanted is None


def test_a_read_widens_the_choice_of_shards_and_never_narrows_it() -> None:
    assert [ShardState().after_read(shards, 1).width for shards in range(10)] == [1, 1, 2, 4, 4, 8, 8, 8, 8, 8]
    assert ShardState().after_read(1, 16) == ShardState(width=128, pages=16)
    wide = ShardState().after_read(8, 16)
    assert wide.after_read(8, 8) == wide
    assert wide.after_read(1, 1) == wide


def test_the_pressure_for_more_pages_is_reset_only_by_more_pages() -> None:
    pressed = FULL_PAGE.shard_busy(LAST, throttled=False)
    assert pressed.pressure > 0
    assert pressed.after_read(8, 1) == pressed
    assert pressed.after_read(8, 8).pressure == 0


def test_one_busy_try_in_seven_never_asks_for_another_page() -> None:
    random, state = Random(7), FULL_PAGE
    for _ in range(200_000):
        shard = state.shard(random)
        shard_busy = random.random() < 1 / 7
        state = state.shard_busy(shard, throttled=False) if shard_busy else state.increment_committed(shard)
        assert state.pages_wanted is None


def test_the_more_often_shards_are_busy_the_sooner_pages_are_wanted() -> None:
    assert 20 <= _tries_until_pages_are_wanted(FULL_PAGE, share=1.0) <= 200
    assert _tries_until_pages_are_wanted(FULL_PAGE, share=1 / 3) <= 5_000


def test_further_pages_are_wanted_sooner_than_the_first_ones() -> None:
    on_several = ShardState().after_read(8, 8)
    assert _tries_until_pages_are_wanted(on_several, share=1.0) < _tries_until_pages_are_wanted(FULL_PAGE, share=1.0)


@pytest.mark.parametrize("pages", [1, 8, 16])
def test_a_second_throttle_is_a_reason_for_more_pages_and_one_is_not(pages: int) -> None:
    state = ShardState().after_read(SHARDS_PER_PAGE, pages)
    newest = state.width - 1
    state = state.shard_busy(newest, throttled=True)
    assert state.pages_wanted is None
    assert state.shard_busy(newest, throttled=True).pages_wanted is not None


def test_pages_grow_from_1_to_8_and_then_double_up_to_the_most() -> None:
    pages, steps = 1, []
    while (wanted := _pressed(ShardState().after_read(SHARDS_PER_PAGE, pages)).pages_wanted) is not None:
        pages = wanted
        steps.append(pages)
    assert steps == [8, 16, 32, MAX_PAGES]


@pytest.mark.parametrize("throttled", [True, False])
def test_with_several_pages_only_the_newer_half_changes_the_pressure(throttled: bool) -> None:
    state = on_pages = ShardState().after_read(SHARDS_PER_PAGE, 8)
    older, newer = on_pages.width // 2 - 1, on_pages.width // 2
    for _ in range(1_000):
        state = state.shard_busy(older, throttled=throttled)
    assert state == on_pages
    pressed = on_pages.shard_busy(newer, throttled=False)
    assert pressed.increment_committed(older) == pressed
    assert pressed.increment_committed(newer).pressure < pressed.pressure


def test_with_one_page_every_shard_changes_the_pressure() -> None:
    for shard in range(SHARDS_PER_PAGE):
        pressed = FULL_PAGE.shard_busy(shard, throttled=False)
        assert pressed.pressure > 0
        assert pressed.increment_committed(shard).pressure < pressed.pressure


def test_nothing_is_added_to_a_page_that_was_not_seen_announced() -> None:
    random = Random(5)
    for _ in range(50):
        state, announced = ShardState(), 1
        for _ in range(300):
            shard = state.shard(random, random.choice([None, random.randrange(state.width)]))
            assert 0 <= shard < announced * SHARDS_PER_PAGE
            event = random.random()
            if event < 0.5:
                state = state.shard_busy(shard, throttled=random.random() < 0.2)
            elif event < 0.95:
                state = state.increment_committed(shard)
            elif (wanted := state.pages_wanted) is not None:
                announced = max(announced, wanted)
                state = state.after_read(SHARDS_PER_PAGE, announced)
            assert state.pages <= announced


def test_totals_are_remembered_for_a_random_time_around_a_second() -> None:
    random = Random(2)
    times = [cached_s(random) for _ in range(200)]
    assert 0.5 <= min(times) < 0.6
    assert 1.4 < max(times) <= 1.5


def _pressed(state: ShardState) -> ShardState:
    for _ in range(1_000):
        state = state.shard_busy(state.width - 1, throttled=False)
    return state


def _tries_until_pages_are_wanted(state: ShardState, share: float) -> int:
    random, tries = Random(3), 0
    while state.pages_wanted is None:
        shard = state.shard(random)
        state = (
            state.shard_busy(shard, throttled=False) if random.random() < share else state.increment_committed(shard)
        )
        tries += 1
    return tries


def test_no_more_pages_are_wanted_than_may_be_announced() -> None:
    # This policy never announces 40 pages. A person or another release may have written that number.
    state = ShardState().after_read(0, 40)
    while state.pages_wanted is None:
        state = state.shard_busy(state.width - 1, throttled=True)
    assert state.pages_wanted == MAX_PAGES
