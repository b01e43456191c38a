"""Delivers the table's stream to its consumers at least once, as Lambda's event source mappings do.

Shards are delivered in parallel, and records of one shard in order. Batches have any size and may come late. A batch is
delivered again from the lowest reported sequence number. Sometimes records that were already processed are delivered
again.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.faults.clock import SharedClock
from tests.faults.environment import Died, Environment
from tests.faults.stream_reader import StreamReader

SHARDS = 3
# The batching window: how long records wait for a batch to fill.
_WINDOW_S = 0.2
# A stream keeps its records for a day and never delivers older ones.
_KEPT_S = 86_400.0
# Lambda makes more tries than this in a day. Faults end before this many deliveries, so a record that needs more will
# never be processed.
_MOST_DELIVERIES = 60


@dataclass(frozen=True, eq=False)
class Consumer:
    """A function that gets the changes of items whose partition key begins with one of `prefixes`."""

    verb: str
    """The verb for the labels of its invocations, as `publish`."""
    prefixes: tuple[str, ...]
    environments: Sequence[Environment]
    """One environment for each shard."""
    max_batch: int
    """The maximum batch size that infra/ sets."""


class EventSource:
    """Delivers every record of the stream to each consumer until `finish` is called.

    Items that a consumer writes reach the consumers after it. So `finish` settles the consumers one after the other.
    """

    def __init__(self, reader: StreamReader, consumers: Sequence[Consumer], seed: int, *, restless: bool) -> None:
        self._reader = reader
        self._shards = {
            consumer: [
                _Shard(number, each, consumer, reader.shared_clock, seed, restless)
                for number, each in enumerate(consumer.environments)
            ]
            for consumer in consumers
        }
        self._looks = 0
        self._looked = threading.Condition()
        self._finishing = threading.Event()
        self._threads = [threading.Thread(target=self._read)]
        self._threads += [threading.Thread(target=shard.work) for shard in self._all_shards]
        self._failed: list[BaseException] = []
        for thread in self._threads:
            thread.start()

    def hold(self, *, held: bool) -> None:
        """Stop or continue deliveries, as during an outage of the consumers."""
        for shard in self._all_shards:
            shard.hold(held=held)

    def catch_up(self) -> None:
        """Return after reading all records that are in the stream now. Their delivery may follow later."""
        with self._looked:
            # The next look may have started before this call.
            enough = self._looks + 2
            self._looked.wait_for(lambda: self._looks >= enough or bool(self._failed))

    def settle(self, consumer: Consumer) -> None:
        """Return after `consumer` got all records that are in the stream now."""
        self.catch_up()
        for shard in self._shards[consumer]:
            shard.settle()

    def finish(self) -> None:
        """Deliver all records in the stream and all records that result from them, then stop."""
        for consumer in self._shards:
            self.settle(consumer)
        self._finishing.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    @property
    def abandoned(self) -> list[str]:
        return [what for shard in self._all_shards for what in shard.abandoned]

    @property
    def deliveries(self) -> int:
        return sum(shard.invocations for shard in self._all_shards)

    @property
    def partial_answers(self) -> int:
        return sum(shard.partial_answers for shard in self._all_shards)

    @property
    def _all_shards(self) -> "list[_Shard]":
        return [shard for shards in self._shards.values() for shard in shards]

    def _read(self) -> None:
        try:
            while True:
                # Read the flag before the last look, so that this look sees all records.
                last = self._finishing.is_set()
                records = self._reader.read()
                for record in records:
                    self._hand_out(record)
                if records:
                    continue
                with self._looked:
                    self._looks += 1
                    self._looked.notify_all()
                if last:
                    break
                time.sleep(0.01)
        except BaseException as error:  # noqa: BLE001 - the thread's owner raises it
            self._failed.append(error)
        finally:
            with self._looked:
                self._looked.notify_all()
            for shard in self._all_shards:
                shard.offer(None)

    def _hand_out(self, record: dict[str, Any]) -> None:
        for consumer, shards in self._shards.items():
            if record["dynamodb"]["Keys"]["pk"]["S"].startswith(consumer.prefixes):
                shards[_hash(record) % len(shards)].offer(record)


def _written_at_s(record: dict[str, Any]) -> float:
    return float(record["dynamodb"]["ApproximateCreationDateTime"])


def _hash(record: dict[str, Any]) -> int:
    # All changes of an item go to one shard, so that they arrive in order.
    return sum(record["dynamodb"]["Keys"]["pk"]["S"].encode())


class _Shard:
    """The records of one shard, and the environment that gets them batch by batch."""

    def __init__(
        self,
        number: int,
        environment: Environment,
        consumer: Consumer,
        shared_clock: SharedClock,
        seed: int,
        restless: bool,
    ) -> None:
        self._shared_clock = shared_clock
        self._name = f"{consumer.verb} {number}"
        self._max_batch = consumer.max_batch
        self._environment = environment
        self._restless = restless
        self._random = Random(f"{seed} {self._name}")
        self._waiting: list[dict[str, Any]] = []
        self._done: list[dict[str, Any]] = []
        self._ended = False
        self._settling = False
        self._held = False
        self._busy = False
        self._stopped = False
        self._changed = threading.Condition()
        self.abandoned: list[str] = []
        self.invocations = 0
        self.partial_answers = 0

    def offer(self, record: dict[str, Any] | None) -> None:
        """Add a record to deliver; None: no more records follow."""
        with self._changed:
            if record is None:
                self._ended = True
            else:
                self._waiting.append(record)
            self._changed.notify_all()

    def hold(self, *, held: bool) -> None:
        """Stop or continue deliveries."""
        with self._changed:
            self._held = held
            self._changed.notify_all()

    def settle(self) -> None:
        """Return after delivering all offered records."""
        with self._changed:
            self._settling = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopped or not (self._waiting or self._busy))
            self._settling = False

    def work(self) -> None:
        try:
            while batch := self._next_batch():
                self._deliver(batch)
                if self._restless and self._random.random() < 0.05:
                    # Simulate a lost checkpoint: deliver records again that were processed long ago.
                    kept_since_s = self._shared_clock.at_s - _KEPT_S
                    kept = [each for each in self._done if _written_at_s(each) >= kept_since_s]
                    start = self._random.randrange(len(kept) or 1)
                    again = kept[start : start + self._random.randrange(1, self._max_batch)]
                    if again:
                        self._deliver(again)
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()

    def _next_batch(self) -> list[dict[str, Any]]:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            size = self._random.choice([1, 5, 12, 30, self._max_batch]) if self._restless else self._max_batch
            if self._restless:
                # Lambda waits for a batch to fill, but no longer than its batching window.
                self._changed.wait_for(
                    lambda: self._ended or self._settling or len(self._waiting) >= size, timeout=_WINDOW_S
                )
                self._changed.wait_for(lambda: self._ended or (not self._held and bool(self._waiting)))
            else:
                # Deliver all records at once on request, so that batches are the same in every run.
                self._changed.wait_for(lambda: self._ended or (self._settling and bool(self._waiting)))
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            self._busy = bool(batch)
        self._done += batch
        return batch

    def _deliver(self, batch: list[dict[str, Any]]) -> None:
        """Deliver until all records are processed, each time from the lowest reported sequence number."""
        for delivery in range(_MOST_DELIVERIES):
            first_not_done = self._invoke(batch, delivery)
            if first_not_done is None:
                return
            batch = batch[first_not_done:]
            if self._restless and delivery % 3 == 1 and len(batch) > 1:
                # Lambda bisects a batch after an error.
                half = len(batch) // 2
                self._deliver(batch[:half])
                batch = batch[half:]
        self.abandoned.append(f"{self._name}: stream record {batch[0]['dynamodb']['SequenceNumber']}")

    def _invoke(self, batch: list[dict[str, Any]], delivery: int) -> int | None:
        """Deliver the batch once.

        Returns: the index of the first record to deliver again; None if all are processed.
        """
        label = f"{self._name}-{self.invocations}.{delivery}"
        self.invocations += 1
        try:
            answer = self._environment.invoke({"Records": batch}, label)
        except Died:
            return 0
        # Any answer except a list of sequence numbers of this batch fails the whole batch.
        # Source: Lambda developer guide, "Configuring partial batch response".
        if "errorType" in answer:
            return 0
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        try:
            reported = [numbers.index(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]]
        except (KeyError, TypeError, ValueError):
            return 0
        self.partial_answers += bool(reported)
        return min(reported, default=None)
