import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError, ReadTimeoutError
from metering import publisher
from metering.outbox.publishing import RESERVE_S
from metering.outbox.stream_batches import NotAStreamBatch
from moto import mock_aws

from tests.testing.aws import SESSION
from tests.testing.payloads import NO_STREAM_BATCHES, payload
from tests.testing.publisher import Bus, Publisher


@pytest.fixture
def publish() -> Iterator[Publisher]:
    with mock_aws():
        s3 = SESSION.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="failures")
        yield Publisher(s3)


def usages(count: int) -> list[dict[str, Any]]:
    """New usages `e-0`, `e-1`, … with the sequence numbers `0`, `1`, …"""
    records = []
    for number in range(count):
        record = payload("stream-new.json")["Records"][0]
        record["dynamodb"]["NewImage"]["eventId"] = {"S": f"e-{number}"}
        record["dynamodb"]["SequenceNumber"] = str(number)
        records.append(record)
    return records


def malformed(number: int) -> dict[str, Any]:
    record: dict[str, Any] = payload("stream-malformed.json")["Records"][1]
    record["dynamodb"]["SequenceNumber"] = str(number)
    return record


def ids(*numbers: int) -> list[str]:
    return [f"e-{number}" for number in numbers]


def redelivered_until_done(publish: Publisher, records: list[dict[str, Any]]) -> int:
    """Deliver the batch as Lambda does, again from the lowest reported record.

    Each delivery publishes or keeps every record before the reported one, and not the reported one.

    Returns: the number of deliveries until none is reported.
    """
    for delivery in itertools.count(1):
        publish.bus.taken.clear()
        reported = publish(*records)
        lowest = min(map(int, reported), default=_number(records[-1]) + 1)
        done = {int(id_.removeprefix("e-")) for id_ in publish.bus.taken}
        done |= {int(kept["record"]["dynamodb"]["SequenceNumber"]) for kept in publish.kept()}
        assert lowest not in done
        assert done.issuperset(number for number in map(_number, records) if number < lowest)
        if not reported:
            return delivery
        records = [record for record in records if _number(record) >= lowest]
    raise AssertionError


def _number(record: dict[str, Any]) -> int:
    return int(record["dynamodb"]["SequenceNumber"])


def test_a_batch_is_published_in_order_ten_at_a_time(publish: Publisher) -> None:
    assert publish(*usages(23)) == []
    assert [len(call) for call in publish.bus.calls] == [10, 10, 3]
    assert publish.bus.delivered == ids(*range(23))


def test_the_real_batches_are_published(publish: Publisher) -> None:
    for file, count in [("stream-new.json", 3), ("stream-expired-overwritten.json", 1), ("stream-ttl-removed.json", 0)]:
        publish.bus.delivered.clear()
        assert publish(*payload(file)["Records"]) == []
        assert len(publish.bus.delivered) == count


@pytest.mark.parametrize(("event", "keys"), NO_STREAM_BATCHES.values(), ids=NO_STREAM_BATCHES)
def test_an_event_that_is_no_stream_batch_is_reported_by_its_keys(
    publish: Publisher, event: Any, keys: list[str]
) -> None:
    with pytest.raises(NotAStreamBatch) as raised:
        publish.answer(event)
    line = json.loads(publish.log.getvalue())
    assert (line["level"], line["message"]) == ("ERROR", "event is not a batch of the table's stream")
    assert list(raised.value.keys) == line["keys"] == keys
    assert "s3cret" not in f"{raised.value}{line}"
    assert (publish.bus.calls, publish.kept()) == ([], [])


def test_nothing_new_makes_no_call(publish: Publisher) -> None:
    publish(*payload("stream-ttl-removed.json")["Records"])
    assert publish.bus.calls == []


def test_only_the_entries_that_failed_are_sent_again(publish: Publisher) -> None:
    publish.bus.script = iter([[None, "ThrottlingException", None, "InternalFailure"], ["InternalFailure", None], None])
    assert publish(*usages(4)) == []
    assert publish.bus.calls == [ids(0, 1, 2, 3), ids(1, 3), ids(1)]
    assert sorted(publish.bus.delivered) == ids(0, 1, 2, 3)


def test_an_entry_that_keeps_failing_is_reported_and_no_later_chunk_is_sent(publish: Publisher) -> None:
    fails: list[list[str | None]] = [[None] * 10, [*[None] * 4, "InternalFailure", *[None] * 5]]
    publish.bus.script = itertools.chain(fails, itertools.repeat(["InternalFailure"]))
    assert publish(*usages(35)) == ["14"]
    assert sorted(publish.bus.delivered) == sorted(ids(*range(14), *range(15, 20)))


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "ThrottlingException"}}, "PutEvents"),
        ClientError({"Error": {"Code": "AccessDeniedException"}}, "PutEvents"),
        ReadTimeoutError(endpoint_url="https://events"),
    ],
)
def test_a_call_that_fails_whole_is_tried_again_then_returned_to_the_stream(
    publish: Publisher, error: Exception
) -> None:
    publish.bus.script = itertools.repeat(error)
    assert publish(*usages(12)) == ["0"]
    assert publish.bus.calls == [ids(*range(10))] * 4
    publish.bus.script = iter([error])
    assert publish(*usages(12)) == []
    assert set(publish.bus.delivered) == set(ids(*range(12)))


def test_a_timeout_after_success_delivers_again_with_the_same_id(publish: Publisher) -> None:
    publish.bus.script = iter([ReadTimeoutError(endpoint_url="https://events")])
    assert publish(*usages(2)) == []
    assert publish.bus.delivered == ids(0, 1, 0, 1)


def test_a_malformed_record_is_kept_and_its_neighbours_are_published(publish: Publisher) -> None:
    batch = payload("stream-malformed.json")["Records"]
    assert publish(*batch) == []
    assert publish.bus.calls == [["1f0c9a52-7c1e-4b0e-9d0a-3a8f6b5f2c10", "c5a7e3d4-0b1f-4c55-a0a3-1d2e3f405162"]]
    (kept,) = publish.kept()
    assert kept["record"] == batch[1]
    assert "quantity" in kept["reason"]


def test_a_malformed_record_delivered_twice_is_kept_once(publish: Publisher) -> None:
    publish(malformed(1))
    publish(malformed(1))
    assert len(publish.kept()) == 1


def test_a_record_that_fails_in_two_ways_is_kept_once(publish: Publisher) -> None:
    # botocore's message has the number of its tries. The bus first fails the whole call, and then the entry alone.
    for tries in (1, 2):
        error: Any = {"Code": "ValidationException", "Message": f"not valid (reached max retries: {tries})"}
        publish.bus.script = iter([ClientError({"Error": error}, "PutEvents")])
        assert publish(*usages(1)) == []
    publish.bus.script = iter([["MalformedDetail"]])
    assert publish(*usages(1)) == []
    (kept,) = publish.kept()
    assert kept["reason"] == "the bus did not accept it: MalformedDetail"


def test_a_malformed_record_that_cannot_be_kept_is_returned_and_earlier_ones_are_published(
    publish: Publisher,
) -> None:
    publish.s3.delete_bucket(Bucket="failures")
    batch = [record if number != 12 else malformed(number) for number, record in enumerate(usages(30))]
    assert publish(*batch) == ["12"]
    # The other records of its chunk are published, and no record of a later chunk.
    assert publish.bus.delivered == ids(*range(12), *range(13, 20))


def test_an_unpublished_record_is_returned_before_a_malformed_record_that_cannot_be_kept(
    publish: Publisher,
) -> None:
    publish.s3.delete_bucket(Bucket="failures")
    publish.bus.script = itertools.chain([None], itertools.repeat(_throttled()))
    assert publish(*usages(20), malformed(20)) == ["10"]


@pytest.mark.parametrize("first", ["malformed", "not taken"])
def test_of_ten_the_first_that_is_not_done_is_reported(publish: Publisher, first: str) -> None:
    publish.s3.delete_bucket(Bucket="failures")
    publish.bus.script = itertools.repeat(_throttled())
    batch = usages(4)
    batch[1 if first == "malformed" else 2] = malformed(1 if first == "malformed" else 2)
    # The first record is no new usage.
    batch[0]["eventName"] = "REMOVE"
    assert publish(*batch) == ["1"]


def test_a_record_the_bus_can_never_accept_is_kept(publish: Publisher) -> None:
    publish.bus.script = iter([[None, "MalformedDetail", None]])
    assert publish(*usages(3)) == []
    assert publish.bus.calls == [ids(0, 1, 2)]
    (kept,) = publish.kept()
    assert kept["record"]["dynamodb"]["SequenceNumber"] == "1"


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "ValidationException", "Message": "too large"}}, "PutEvents"),
        ParamValidationError(report="too long"),
    ],
)
def test_a_record_that_fails_its_whole_call_is_kept_and_its_neighbours_are_published(
    publish: Publisher, error: Exception
) -> None:
    class Strict(Bus):
        def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
            if any("e-4" in entry["Detail"] for entry in Entries):
                raise error
            return super().put_events(Entries)

    publish.bus = Strict()
    assert publish(*usages(12)) == []
    assert publish.bus.delivered == ids(*[number for number in range(12) if number != 4])
    (kept,) = publish.kept()
    assert kept["record"]["dynamodb"]["SequenceNumber"] == "4"


def test_of_a_call_that_was_split_nothing_is_lost_when_one_part_fails(publish: Publisher) -> None:
    codes = ["ValidationException", "ThrottlingException"]
    publish.bus.script = iter([ClientError({"Error": {"Code": code}}, "PutEvents") for code in codes])
    assert publish(*usages(4)) == []
    # The first entry is sent again in the next round. The others were sent meanwhile or go with it.
    assert sorted(publish.bus.delivered) == sorted(ids(*range(4)))


def test_published_kept_and_returned_records_are_counted(publish: Publisher) -> None:
    publish.bus.script = iter([[None, "MalformedDetail", None, "InternalFailure"], None])
    publish(*usages(4), malformed(4))
    assert publish.metrics == {"StreamRecords": 5, "EventsPublished": 3, "RecordsUnpublishable": 2}
    publish.bus.script = itertools.repeat(["InternalFailure"])
    publish(*usages(1))
    assert publish.metrics["BatchesReturned"] == 1


def test_waits_between_rounds_are_random_and_grow(publish: Publisher) -> None:
    publish.bus.script = itertools.repeat(["InternalFailure"])
    publish(*usages(1))
    assert len(publish.clock.slept) == 3
    assert all(0 < wait < 0.1 * 2**attempt for attempt, wait in enumerate(publish.clock.slept, start=1))


def test_no_wait_begins_when_time_is_short(publish: Publisher) -> None:
    class Slow(Bus):
        def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
            publish.clock.pass_by(seconds=publish.timeout_s - RESERVE_S + 1)
            return super().put_events(Entries)

    publish.bus = Slow(iter([["InternalFailure"]]))
    assert publish(*usages(1)) == ["0"]
    assert publish.clock.slept == []


def test_no_more_is_kept_when_time_is_short(publish: Publisher) -> None:
    class Slow:
        def put_object(self, **_: Any) -> None:
            publish.clock.sleep(RESERVE_S - 0.5)

    publish.bus.script = itertools.repeat(["MalformedDetail"] * 10)
    s3, publish.s3 = publish.s3, Slow()
    began = publish.clock.monotonic()
    assert publish(*usages(10)) == ["5"]
    assert publish.clock.monotonic() - began < publish.timeout_s
    publish.s3 = s3


def test_many_malformed_records_do_not_block_the_others(publish: Publisher) -> None:
    class Slow:
        def put_object(self, **_: Any) -> None:
            publish.clock.sleep(1)

    publish.s3 = Slow()
    batch = [
        *[malformed(number) for number in range(5)],
        *usages(7)[5:],
        *[malformed(number) for number in range(7, 90)],
    ]
    reported = publish(*batch)
    assert publish.bus.delivered == ids(5, 6)
    # The next delivery continues after them.
    assert int(*reported) > 6


def test_a_record_that_is_no_object_is_kept(publish: Publisher) -> None:
    assert publish("what is this?", *usages(1)) == []
    assert [kept["record"] for kept in publish.kept()] == ["what is this?"]


def test_storing_stops_after_the_first_failure(publish: Publisher) -> None:
    publish.s3.delete_bucket(Bucket="failures")
    assert publish(*[malformed(number) for number in range(10)]) == ["0"]
    assert publish.log.getvalue().count("failure bucket did not accept a record") == 1


@pytest.mark.parametrize("record", [[], {"dynamodb": None}, "what is this?"])
def test_a_record_without_a_number_that_cannot_be_kept_returns_the_whole_batch(publish: Publisher, record: Any) -> None:
    publish.s3.delete_bucket(Bucket="failures")
    assert publish(*usages(2), record) == [""]
    assert publish.bus.delivered == ids(0, 1)


def test_records_wait_while_the_bus_policy_denies_the_publisher(publish: Publisher) -> None:
    publish.bus.script = itertools.repeat(["NotAuthorizedForSourceException"])
    assert publish(*usages(1)) == ["0"]
    assert publish.kept() == []


def test_a_call_that_could_outlast_the_invocation_is_not_started(publish: Publisher) -> None:
    publish.timeout_s = RESERVE_S - 0.1
    assert publish(*usages(3)) == ["0"]
    assert publish(malformed(7)) == ["7"]
    assert publish.bus.calls == []
    assert publish.kept() == []


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_every_valid_record_is_delivered_within_few_deliveries(publish: Publisher, at_once: int) -> None:
    batch = [record if number % 10 != 7 else malformed(number) for number, record in enumerate(usages(200))]
    publish.bus, publish.at_once = Unreliable(random=Random(20261123)), at_once
    deliveries = redelivered_until_done(publish, batch)
    good = [f"e-{number}" for number in range(200) if number % 10 != 7]
    assert set(publish.bus.delivered) == set(good)
    assert len(publish.kept()) == 20
    assert 1 < deliveries < 60


def test_several_calls_are_under_way_at_once_and_never_more(publish: Publisher) -> None:
    together = threading.Barrier(4)
    under_way: list[int] = []
    most: list[int] = []

    class Waiting(Bus):
        def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
            under_way.append(1)
            # The barrier lets calls pass only four at a time.
            together.wait(timeout=30)
            most.append(len(under_way))
            together.wait(timeout=30)
            under_way.pop()
            return super().put_events(Entries)

    publish.bus, publish.at_once = Waiting(), 4
    assert publish(*usages(120)) == []
    assert set(most) == {4}
    assert sorted(map(len, publish.bus.calls)) == [10] * 12
    assert sorted(publish.bus.delivered) == sorted(ids(*range(120)))


def test_no_thread_outlives_its_invocation(publish: Publisher) -> None:
    before = set(threading.enumerate())
    publish.at_once = 4
    publish(*usages(60))
    assert set(threading.enumerate()) == before


def test_the_first_unfinished_record_is_reported_in_any_order_of_failures(publish: Publisher) -> None:
    last_was_tried = threading.Semaphore(0)

    class Failing(Bus):
        def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
            first = json.loads(Entries[0]["Detail"])["id"]
            if first == "e-30":
                last_was_tried.release()
                raise _throttled()
            if first == "e-10":
                # The last try of this chunk therefore comes after that of the other.
                assert last_was_tried.acquire(timeout=30)
                raise _throttled()
            return super().put_events(Entries)

    publish.bus, publish.at_once = Failing(), 4
    assert publish(*usages(40)) == ["10"]
    assert sorted(publish.bus.delivered) == sorted(ids(*range(10), *range(20, 30)))


def test_once_a_chunk_has_failed_none_is_begun(publish: Publisher) -> None:
    together = threading.Barrier(4)

    class Failing(Bus):
        def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
            self.calls.append([json.loads(entry["Detail"])["id"] for entry in Entries])
            together.wait(timeout=30)
            raise _throttled()

    publish.bus, publish.at_once = Failing(), 4
    assert publish(*usages(200)) == ["0"]
    # Only these chunks were under way by then. Each was tried four times.
    assert sorted(publish.bus.calls) == sorted([ids(*range(start, start + 10)) for start in (0, 10, 20, 30)] * 4)


def test_once_a_chunk_has_met_an_unforeseen_error_none_is_begun(publish: Publisher) -> None:
    together = threading.Barrier(4)

    class Broken(Bus):
        def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
            self.calls.append([json.loads(entry["Detail"])["id"] for entry in Entries])
            together.wait(timeout=30)
            raise KeyError("Entries")

    publish.bus, publish.at_once = Broken(), 4
    with pytest.raises(KeyError):
        publish(*usages(200))
    # Only these chunks were under way by then.
    assert sorted(publish.bus.calls) == sorted(ids(*range(start, start + 10)) for start in (0, 10, 20, 30))


def test_records_of_all_threads_are_counted(publish: Publisher) -> None:
    publish.at_once = 8
    publish(*usages(200), malformed(200))
    assert publish.metrics == {"StreamRecords": 201, "EventsPublished": 200, "RecordsUnpublishable": 1}


def test_an_unforeseen_error_in_a_thread_fails_the_invocation(publish: Publisher) -> None:
    under_way = threading.Barrier(3)

    class Broken(Bus):
        def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
            first = json.loads(Entries[0]["Detail"])["id"]
            if self.calls.count([first]) == 0:
                self.calls.append([first])
                under_way.wait(timeout=30)
            if first == "e-0":
                raise _throttled()
            if first == "e-20":
                raise KeyError("Entries")
            return super().put_events(Entries)

    publish.bus, publish.at_once = Broken(), 3
    with pytest.raises(KeyError):
        publish(*usages(30))
    assert publish.metrics == {"StreamRecords": 30, "EventsPublished": 10}


def test_the_batch_is_logged_without_its_content(publish: Publisher) -> None:
    batch = payload("stream-malformed.json")["Records"]
    publish(*batch)
    assert "abc-123" not in publish.log.getvalue()
    assert [json.loads(line)["message"] for line in publish.log.getvalue().splitlines()] == [
        "record can never be published",
        "batch published",
    ]


def test_the_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BUS_NAME": "a-bus", "EVENT_SOURCE": "acme.billing", "FAILURE_BUCKET": "a-bucket"}.items():
        monkeypatch.setenv(name, value)
    deps = publisher.deps_from_environment()
    assert (deps.bus, deps.source, deps.failure_bucket) == ("a-bus", "acme.billing", "a-bucket")
    configs: list[Any] = [client.meta.config for client in (deps.events, deps.failures)]
    for config in configs:
        assert (config.connect_timeout, config.read_timeout) == (1.0, 4.0)
        assert config.retries["total_max_attempts"] == 2
        # Every thread needs a connection.
        assert config.max_pool_connections >= deps.at_once > 8


def _throttled() -> ClientError:
    return ClientError({"Error": {"Code": "ThrottlingException"}}, "PutEvents")


@dataclass
class Unreliable(Bus):
    """A bus that fails at random: the whole call, some of its entries, or the answer after it accepted all."""

    random: Random = field(default_factory=Random)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
        with self._lock:
            answer = self.random.choice(
                [
                    None,
                    [self.random.choice([None, None, "InternalFailure"]) for _ in Entries],
                    ClientError({"Error": {"Code": "InternalException"}}, "PutEvents"),
                    ReadTimeoutError(endpoint_url="https://events"),
                ]
            )
            self.script = iter([answer])
            return super().put_events(Entries)
