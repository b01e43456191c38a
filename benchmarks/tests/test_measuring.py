"""The benchmarks compare what they claim to compare. No test asserts a duration."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import contention, measure, publishing, store
from benchmarks.contention import Crowd
from benchmarks.measure import Comparison

pytestmark = pytest.mark.verify


def test_a_warm_request_makes_the_same_two_calls_on_both_sides(tmp_path: Path) -> None:
    with store.serving() as answering:
        sides = measure.contenders(tmp_path)
        compared = measure.warm(sides, answering, tmp_path, rounds=2, requests=3, say=lambda _: None)
    assert (len(compared.record_ms), len(compared.baseline_ms)) == (2, 2)
    # Both sides make three requests to warm up and two rounds of three. Only one side reads the organization, once.
    assert _counted(answering) == {"GetItem": 1, "TransactWriteItems": 18, "Query": 18}
    for operation in ("TransactWriteItems", "Query"):
        sent = [asked for called, asked in answering.calls if called == operation]
        assert all(_shape(one) == _shape(sent[0]) for one in sent)


def test_each_cold_start_is_answered_by_a_process_of_its_own(tmp_path: Path) -> None:
    with store.serving() as answering:
        sides = measure.contenders(tmp_path)
        cold = measure.cold(sides, answering, tmp_path, rounds=2, say=lambda _: None)
    assert [len(one) for one in (cold.elapsed.record_ms, cold.elapsed.baseline_ms, cold.cpu.record_ms)] == [2, 2, 2]
    # Each new process of the record function reads the organization. One start of each side is not measured.
    assert _counted(answering) == {"GetItem": 3, "TransactWriteItems": 6, "Query": 6}


def test_a_ratio_is_the_median_of_its_rounds_with_the_quartiles_as_spread() -> None:
    summary = Comparison(record_ms=[2.0, 3.0, 8.0, 10.0, 12.0], baseline_ms=[2.0, 2.0, 4.0, 4.0, 4.0]).summary()
    assert summary["ratio"] == {"median": 2.0, "quartiles": [1.5, 2.5]}
    assert summary["record_ms"]["median"] == 8.0
    assert summary["rounds"] == 5


def test_each_batch_is_published_completely_in_parallel_and_in_sequence() -> None:
    # `run` raises if the bus received fewer or more.
    measured = publishing.run(lambda _: None, rounds=2, batch=200)
    assert (measured["rounds"], measured["batch"]) == (2, 200)
    assert 1 < measured["most_calls_at_once"] <= 16


def test_on_a_busy_counter_all_processes_together_are_exact() -> None:
    # `run` raises if counters, records and answers differ.
    measured = contention.run(lambda _: None, rounds=2, lasts_s=0.5, crowd=Crowd(processes=2, threads=3))
    for held in (measured["held for 6 ms"], measured["held for 30 ms"]):
        assert held["one shard"]["most_shards"] == 1
        for side in ("spread", "one shard"):
            assert held[side]["answered"] > 0
        # Transactions met.
        assert held["one shard"]["tries_per_request"] > 1
    assert measured["held for 30 ms"]["spread"]["most_shards"] > 1


def _counted(answering: store.Store) -> Counter[str]:
    return Counter(operation for operation, _ in answering.calls)


def _shape(value: Any) -> Any:
    """The names of the value's members, and their types. The placeholder of today's counter is that of any day."""
    if isinstance(value, dict):
        return {re.sub(r":d[0-3][0-9]", ":day", name): _shape(inner) for name, inner in value.items()}
    return [_shape(inner) for inner in value] if isinstance(value, list) else type(value)
