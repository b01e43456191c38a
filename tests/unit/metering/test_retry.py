from random import Random

import pytest
from metering.errors import StoreBusy, Unavailable
from metering.retry import Effort, until_answered

from tests.service import Clock


def effort(clock: Clock, for_s: float) -> Effort:
    return Effort(clock.monotonic() + for_s, clock.monotonic, clock.sleep, Random(1))


def test_a_busy_store_is_asked_again_until_it_answers() -> None:
    clock = Clock()
    tries = effort(clock, 5)
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
        until_answered(_busy, effort(clock, 5))
    assert ended.value.retry_after_s == 1
    assert clock.monotonic() <= began + 5
    assert len(clock.slept) > 5


def test_after_the_deadline_no_call_starts() -> None:
    clock = Clock()
    calls: list[int] = []
    with pytest.raises(Unavailable):
        until_answered(lambda: calls.append(1), effort(clock, -0.1))
    assert calls == []


def test_waits_are_random_within_a_span_that_doubles_up_to_a_second() -> None:
    clock = Clock()
    tries = effort(clock, 10_000)
    for attempt in range(60):
        tries.back_off(attempt % 30)
    spans = [min(1.0, 0.02 * 2**attempt) for attempt in range(30)] * 2
    assert all(0 <= wait <= span for wait, span in zip(clock.slept, spans, strict=True))
    assert max(clock.slept) > 0.8
    assert len({round(wait, 6) for wait in clock.slept}) > 50


def _busy() -> None:
    raise StoreBusy
