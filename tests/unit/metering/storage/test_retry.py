from collections.abc import Sequence
from random import Random

import pytest
from metering.model.errors import Unavailable
from metering.storage.retry import RetryBudget, until_answered, until_free
from metering.storage.signals import StoreBusy

from tests.testing.service import Clock


def budget(clock: Clock, for_s: float) -> RetryBudget:
    return RetryBudget(clock.monotonic() + for_s, clock.monotonic, clock.sleep, Random(1))


def test_a_busy_store_is_asked_again_until_it_answers() -> None:
    clock = Clock()
    tries = budget(clock, 5)
    answers = iter([StoreBusy(), StoreBusy(), "here"])

    def call() -> str:
        answer = next(answers)
        if isinstance(answer, StoreBusy):
            raise answer
        return str(answer)

    assert until_answered(call, tries) == "here"
    assert (tries.retries, len(clock.slept)) == (2, 2)


def test_the_deadline_ends_the_tries() -> None:
    clock = Clock()
    began = clock.monotonic()
    with pytest.raises(Unavailable) as ended:
        until_answered(_busy, budget(clock, 5))
    assert ended.value.retry_after_s == 1
    assert clock.monotonic() <= began + 5
    assert len(clock.slept) > 5


def test_after_the_deadline_no_call_starts() -> None:
    clock = Clock()
    calls: list[int] = []
    with pytest.raises(Unavailable):
        until_answered(lambda: calls.append(1), budget(clock, -0.1))
    assert calls == []


def test_waits_are_random_within_a_span_that_doubles_up_to_a_second() -> None:
    clock = Clock()
    tries = budget(clock, 10_000)
    for attempt in range(60):
        tries.back_off(attempt % 30)
    spans = [min(1.0, 0.02 * 2**attempt) for attempt in range(30)] * 2
    assert all(0 <= wait <= span for wait, span in zip(clock.slept, spans, strict=True))
    assert max(clock.slept) > 0.8
    assert len({round(wait, 6) for wait in clock.slept}) > 50


def test_a_held_subject_waits_and_delays_no_other() -> None:
    clock = Clock()
    asked: list[tuple[list[str], int]] = []
    held_for = {"b": 2, "d": 1}

    def ask(subjects: Sequence[str]) -> list[str]:
        asked.append((list(subjects), len(clock.slept)))
        held = [subject for subject in subjects if held_for.get(subject, 0)]
        for subject in held:
            held_for[subject] -= 1
        return held

    until_free(["a", "b", "c", "d"], ask, budget(clock, 5))
    # The free subjects are called at once, and the held ones after a wait.
    assert asked == [(["a", "b", "c", "d"], 0), (["a", "c"], 0), (["b", "d"], 1), (["d"], 1), (["b"], 2)]


def test_waiting_for_a_held_subject_ends_at_the_deadline() -> None:
    clock = Clock()
    done: list[str] = []

    def ask(subjects: Sequence[str]) -> list[str]:
        if "b" in subjects:
            return ["b"]
        done.extend(subjects)
        return []

    with pytest.raises(Unavailable):
        until_free(["a", "b"], ask, budget(clock, 5))
    assert done == ["a"]


def test_without_subjects_no_call_is_made() -> None:
    asked: list[Sequence[str]] = []

    def ask(subjects: Sequence[str]) -> list[str]:
        asked.append(subjects)
        return []

    until_free([], ask, budget(Clock(), 5))
    assert asked == []


def _busy() -> None:
    raise StoreBusy
