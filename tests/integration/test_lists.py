"""A list of 20,000 records on a real engine, while other threads record.

It holds each record that existed all the time exactly once, within seconds.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any

import boto3
import pytest
from botocore.config import Config
from metering.http.operations import USAGE_LIST
from metering.model.periods import billing_period_of

from local import emulator
from ops import export
from tests.testing import engine
from tests.testing.engine import Engine
from tests.testing.local_stack import at_once
from tests.testing.months import wait_for_room
from tests.testing.payloads import batch_request, example, query_request
from tests.testing.service import QueryFunction, RecordFunction, WallClock
from tests.testing.table import put_organization

# The engine takes a minute to store the records, and longer while other tests run.
pytestmark = [pytest.mark.verify, pytest.mark.timeout(900)]

RECORDS = 20_000
WRITERS = 8


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine.running(tmp_path_factory.mktemp("engine")) as found:
        yield found


class Listed:
    """A table with an organization's records, and threads that record more of them meanwhile."""

    def __init__(self, running: Engine) -> None:
        self.client: Any = boto3.Session(
            running.keys.access_key_id, emulator.SECRET_ACCESS_KEY, region_name=emulator.REGION
        ).client("dynamodb", endpoint_url=running.endpoint, config=Config(proxies={}, max_pool_connections=32))
        self.table, _ = running.create_table()
        put_organization(self.client, self.table, "demo-org", "active")
        self.keys = [f"k-{number}" for number in range(RECORDS)]
        self.new: list[str] = []
        """The keys that are recorded meanwhile, in the order of the answers."""
        self._numbers = itertools.count()

    def fill(self) -> None:
        """Record 200 batches of 100 usages. Their writes are acknowledged before this call returns."""
        at_once(self.record, [self.keys[start : start + 100] for start in range(0, RECORDS, 100)], WRITERS)

    def record(self, keys: list[str]) -> None:
        function = RecordFunction(self.client, WallClock(), self.table, random=Random())
        records = [example(idempotencyKey=key) for key in keys]
        for _ in range(20):
            reply = function.reply(batch_request(records))
            if reply.status == 200 and not reply.body["totals"]["unavailable"]:
                return
        raise AssertionError("never recorded")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record usage in WRITERS threads until the end of the block."""
        is_over = threading.Event()
        writers = [threading.Thread(target=self._record_until, args=(is_over,)) for _ in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            yield
        finally:
            is_over.set()
            for writer in writers:
                writer.join()

    def _record_until(self, is_over: threading.Event) -> None:
        while not is_over.is_set():
            keys = [f"new-{next(self._numbers)}" for _ in range(5)]
            self.record(keys)
            self.new += keys


@pytest.fixture(scope="module")
def listed(running: Engine) -> Iterator[Listed]:
    wait_for_room(600)
    made = Listed(running)
    made.fill()
    yield made
    running.drop_table(made.table)


def test_a_list_of_20_000_records_is_complete_while_8_threads_record(
    listed: Listed, capsys: pytest.CaptureFixture[str]
) -> None:
    function = QueryFunction(listed.client, WallClock(), listed.table)
    queries = _counted(listed.client)
    found: Counter[str] = Counter()
    parameters = {"pageSize": "1000"}
    requests, began = 0, time.monotonic()
    there = {*listed.keys, *listed.new}
    with listed.recording():
        while True:
            page = function(query_request(USAGE_LIST, parameters)).body
            requests += 1
            found.update(record["idempotencyKey"] for record in page["records"])
            if "nextCursor" not in page:
                break
            parameters["cursor"] = page["nextCursor"]
        took_s = time.monotonic() - began
    assert set(found.values()) == {1}
    assert there <= found.keys()
    # Some usage that was recorded meanwhile is in the list.
    assert len(found) > len(there)
    assert requests < 60
    with capsys.disabled():
        print(
            f"\n{len(found)} records listed in {took_s:.1f} s: {requests} requests, {queries['usage']} queries, "
            f"while {len(listed.new)} were recorded"
        )


def test_an_export_of_20_000_records_is_within_the_counters_while_8_threads_record(
    listed: Listed, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    period, there = billing_period_of(datetime.now(UTC)), RECORDS + len(listed.new)
    began = time.monotonic()
    with listed.recording(), export.replacing(tmp_path / "usage.csv") as out:
        summary = export.export(listed.client, listed.table, "demo-org", period, "csv", out)
    assert (summary.differences, summary.is_still) == ({}, False)
    assert there < summary.records.total() <= RECORDS + len(listed.new)
    with capsys.disabled():
        print(f"\n{summary.records.total()} records exported in {time.monotonic() - began:.1f} s")


def _counted(client: Any) -> Counter[str]:
    """Counts the queries of records from now on."""
    counts: Counter[str] = Counter()

    def count(params: Any, **_: Any) -> None:
        if params["ExpressionAttributeValues"][":pk"]["S"].startswith("usage#"):
            counts["usage"] += 1

    client.meta.events.register("provide-client-params.dynamodb.Query", count)
    return counts
