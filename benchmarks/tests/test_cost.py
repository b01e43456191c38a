"""The cost of recording: the functions' real handlers, with their calls counted on an engine, and docs/cost.md."""

from collections import Counter
from collections.abc import Iterator

import pytest
from metering.model.periods import MAX_DAYS
from metering.model.usage import CounterId
from metering.storage.counter_items import counter_key, day_attribute
from metering.storage.lists import open_list

from benchmarks import cost, cost_document, workloads
from benchmarks.units import item_bytes, write_units
from benchmarks.workloads import Limit, Work, Workload
from tests.testing import engine
from tests.testing.engine import Engine

pytestmark = pytest.mark.verify


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine.running(tmp_path_factory.mktemp("engine")) as engine_:
        yield engine_


def calls(work: Work) -> Counter[str]:
    return Counter(call.operation for call in work.calls)


@pytest.mark.parametrize("limit", ["soft", "hard"])
def test_a_single_record_of_a_quiet_organization_is_counted_call_by_call(running: Engine, limit: Limit) -> None:
    counted = workloads.run(Workload(is_quiet=True, limit=limit, requests=2), running)
    assert counted.http_requests == 2
    # Reads of the organization, and of the organization with its plan; record and counter; the total.
    assert calls(counted.recording) == {"GetItem": 2, "TransactGetItems": 2, "TransactWriteItems": 2, "Query": 2}
    assert (counted.recording.write_units, counted.recording.read_units) == (2 * 4, 2 * (1 + 4 + 1))
    assert calls(counted.publishing) == {"PutEvents": 2}
    assert (counted.publishing.invocations, counted.publishing.events) == (2, 2)
    assert calls(counted.watching) == {"GetItem": 2, "TransactGetItems": 2, "Query": 2}
    assert (counted.watching.invocations, counted.watching.read_units) == (2, 2 * (1 + 4 + 1))


def test_without_a_limit_the_watcher_reads_neither_plan_nor_counter(running: Engine) -> None:
    counted = workloads.run(Workload(is_quiet=True, limit="none", requests=2), running)
    assert calls(counted.recording) == {"GetItem": 2, "TransactWriteItems": 2, "Query": 2}
    assert calls(counted.watching) == {"GetItem": 2}


def test_a_busy_organization_is_cached_and_stream_batches_are_full(running: Engine) -> None:
    counted = workloads.run(Workload(requests=3), running)
    assert calls(counted.recording) == {"TransactWriteItems": 3, "Query": 3}
    assert counted.publishing.records / counted.publishing.invocations == workloads.PUBLISHED_AT_ONCE
    assert counted.watching.records / counted.watching.invocations == workloads.WATCHED_AT_ONCE
    assert counted.publishing.events == counted.publishing.records
    # Each call carries the maximum of events.
    assert calls(counted.publishing) == {"PutEvents": counted.publishing.records // 10}
    # Each delivery reads the organization, the organization with its plan, and the counter once.
    assert counted.watching.read_units == (1 + 4 + 1) * counted.watching.invocations


def test_a_workload_is_counted_the_same_each_time(running: Engine) -> None:
    workload = Workload(requests=3)
    assert workloads.run(workload, running) == workloads.run(workload, running)


def test_log_bytes_are_counted(running: Engine) -> None:
    counted = workloads.run(Workload(is_quiet=True, requests=1), running)
    # A line for the outcome and one for metrics, or metrics alone. Each has some hundred bytes.
    for work in (counted.recording, counted.publishing, counted.watching):
        assert 100 < work.log_bytes < 2000


def test_the_naive_handler_writes_three_items_and_publishes_in_the_request(running: Engine) -> None:
    counted = workloads.run_naively(2, running)
    assert calls(counted.recording) == {"PutItem": 2, "UpdateItem": 4, "PutEvents": 2}
    assert (counted.recording.write_units, counted.recording.read_units, counted.recording.events) == (2 * 3, 0, 2)
    assert (counted.publishing.invocations, counted.watching.invocations) == (0, 0)


def test_a_replay_is_billed_as_many_write_units_as_a_record(running: Engine) -> None:
    counted = workloads.run(Workload(is_quiet=True, requests=2, is_replayed=True), running)
    assert counted.recording.write_units == 2 * 4
    assert {call.error for call in counted.recording.calls} == {None, "TransactionCanceledException"}
    # The item has not changed, so the stream has no record.
    assert (counted.changes, counted.publishing.invocations) == ([], 0)


@pytest.mark.parametrize("shards", [1, 8, 128])
@pytest.mark.parametrize("metadata_bytes", [0, 600])
def test_a_hundred_records_under_1_kb_in_a_batch_cost_at_most_2_1_write_units_each(
    running: Engine, shards: int, metadata_bytes: int
) -> None:
    counted = workloads.run(Workload(100, shards=shards, requests=2, metadata_bytes=metadata_bytes), running)
    records = [change.after for change in counted.changes if change.key["pk"]["S"].startswith("usage#")]
    assert len(records) == counted.recording.records == 200
    assert 380 + metadata_bytes < max(item_bytes(record) for record in records) < 1024
    assert counted.recording.write_units / counted.recording.records <= 2.1


@pytest.mark.parametrize("records", [1, 100])
def test_the_first_record_of_a_counter_costs_one_more_write_unit(running: Engine, records: int) -> None:
    began = workloads.run(Workload(records, is_quiet=True, requests=1, begins=True), running)
    first = next(change for change in began.changes if change.key["sk"]["S"] == "api_calls#0")
    assert (first.before, first.after["listedIn"]["S"][:13]) == ({}, "open#2026-11#")
    later = workloads.run(Workload(records, is_quiet=True, requests=1), running)
    assert began.recording.write_units == later.recording.write_units + 1
    if running.name == "dynoxide":
        assert began.recording.reported_units == later.recording.reported_units + 1


def test_a_shard_with_all_its_days_costs_one_write_unit() -> None:
    counter = CounterId("o" * 64, "2026-11-15", "f" * 64)
    listed = {"listedIn": open_list(counter.organization, counter.billing_period), "hard": {"BOOL": True}}
    # Each day has a million usages of the largest quantity.
    days = {day_attribute(day): {"N": "9" * 15} for day in range(1, MAX_DAYS + 1)}
    sums = {name: {"N": "9" * 17} for name in ("total", "count", "voids", "voided")}
    shard = {**counter_key(counter, 127), **sums, **days, **listed}
    assert write_units(item_bytes(shard)) == 1


def test_further_pages_receive_additions_and_are_read_about_once_a_second(running: Engine) -> None:
    counted = workloads.run(Workload(shards=128, requests=60, requests_per_s=20.0), running)
    shards = {change.key["sk"]["S"] for change in counted.changes if change.key["pk"]["S"].startswith("counter#")}
    assert len(shards) > 8
    # Each read makes 16 queries, about three times in three seconds.
    times, rest = divmod(calls(counted.recording)["Query"], 16)
    assert rest == 0
    assert 2 <= times <= 6


def test_one_page_is_read_with_each_request(running: Engine) -> None:
    counted = workloads.run(Workload(shards=8, requests=20, requests_per_s=20.0), running)
    shards = {change.key["sk"]["S"] for change in counted.changes if change.key["pk"]["S"].startswith("counter#")}
    assert 4 < len(shards) <= 8
    assert calls(counted.recording) == {"TransactWriteItems": 20, "Query": 20}


def test_the_cost_page_matches_its_script(running: Engine) -> None:
    made, written = cost.document(running), cost.DOCUMENT.read_text()
    if running.name != "dynoxide":
        # Other engines report other figures.
        made, written = (text.partition(cost_document.CROSS_CHECK)[0] for text in (made, written))
    assert made == written, "run `python -m benchmarks.cost`"


@pytest.mark.skipif(engine.default() != "dynoxide", reason="the emulator does not compute its reported units")
@pytest.mark.parametrize("records", [1, 10, 100])
def test_the_engine_reports_the_counted_units(running: Engine, records: int) -> None:
    recording = workloads.run(Workload(records, shards=128, requests=2, metadata_bytes=2000), running).recording
    assert recording.reported_units == recording.write_units + recording.read_units > 2 * 4
