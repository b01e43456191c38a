"""The table's stream, delivered to its consumers as Lambda's event sources do: at least once.

In parallel per shard, in order within one; in batches of any size, late, again although they were done, and again from
the lowest number that was reported.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.faults.clock import World
from tests.faults.environment import Died, Environment
from tests.faults.stream_reader import StreamReader

SHARDS = 3
# How long records are held back for a batch to fill.
_WINDOW_S = 0.2
# A stream keeps its records for a day, and delivers none that is older.
_KEPT_S = 86_400.0
# In a day there are more tries than this; a record that needs more of them than faults last is never done.
_MOST_DELIVERIES = 60


@dataclass(frozen=True, eq=False)
class Consumer:
    """A function that hears of the items whose partition key begins with one of `prefixes`."""

    verb: str
    """What it does with them, in its invocations' labels."""
    prefixes: tuple[str, ...]
    environments: Sequence[Environment]
    """One for each shard."""
    max_batch: int
    """As infra/ sets it."""


class EventSource:
    """Delivers everything that comes to the stream to each of its consumers until it is told to finish.

    What a consumer writes is told to those after it: so they settle one after the other.
    """

    def __init__(self, reader: StreamReader, consumers: Sequence[Consumer], seed: int, *, restless: bool) -> None:
        self._reader = reader
        self._shards = {
            consumer: [
                _Shard(number, each, consumer, reader.world, seed, restless)
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
        """Deliver nothing, or go on; as in an outage of what reads the stream."""
        for shard in self._all_shards:
            shard.hold(held=held)

    def catch_up(self) -> None:
        """Return when all that is in the stream now has been read; it may be delivered later."""
        with self._looked:
            # The next look may have begun before now.
            enough = self._looks + 2
            self._looked.wait_for(lambda: self._looks >= enough or bool(self._failed))

    def settle(self, consumer: Consumer) -> None:
        """Return when all that is in the stream now has been delivered to this one."""
        self.catch_up()
        for shard in self._shards[consumer]:
            shard.settle()

    def finish(self) -> None:
        """Deliver what is in the stream now, and what comes of it, and end."""
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
                # Before the last look, so that it sees everything.
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
    # An item's changes are all in one shard, so that they come in order.
    return sum(record["dynamodb"]["Keys"]["pk"]["S"].encode())


class _Shard:
    """One shard's records, and the environment that gets them, one batch at a time."""

    def __init__(
        self, number: int, environment: Environment, consumer: Consumer, world: World, seed: int, restless: bool
    ) -> None:
        self._world = world
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
        """Take one more record; None: there will be no more."""
        with self._changed:
            if record is None:
                self._ended = True
            else:
                self._waiting.append(record)
            self._changed.notify_all()

    def hold(self, *, held: bool) -> None:
        """Deliver nothing, or go on."""
        with self._changed:
            self._held = held
            self._changed.notify_all()

    def settle(self) -> None:
        """Return when everything that was offered is delivered."""
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
                    # The checkpoint was lost, some time ago: what was done long since comes again.
                    kept_since_s = self._world.at_s - _KEPT_S
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
                # As Lambda waits for a batch to fill, and no longer than its window.
                self._changed.wait_for(
                    lambda: self._ended or self._settling or len(self._waiting) >= size, timeout=_WINDOW_S
                )
                self._changed.wait_for(lambda: self._ended or (not self._held and bool(self._waiting)))
            else:
                # All at once when it is asked for, so that batches are the same in every run.
                self._changed.wait_for(lambda: self._ended or (self._settling and bool(self._waiting)))
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            self._busy = bool(batch)
        self._done += batch
        return batch

    def _deliver(self, batch: list[dict[str, Any]]) -> None:
        """Deliver until all is done, from the lowest number that was reported."""
        for delivery in range(_MOST_DELIVERIES):
            first_not_done = self._invoke(batch, delivery)
            if first_not_done is None:
                return
            batch = batch[first_not_done:]
            if self._restless and delivery % 3 == 1 and len(batch) > 1:
                # Bisected.
                half = len(batch) // 2
                self._deliver(batch[:half])
                batch = batch[half:]
        self.abandoned.append(f"{self._name}: stream record {batch[0]['dynamodb']['SequenceNumber']}")

    def _invoke(self, batch: list[dict[str, Any]], delivery: int) -> int | None:
        """Which of the batch is the first that is to be sent again; None if all are done."""
        label = f"{self._name}-{self.invocations}.{delivery}"
        self.invocations += 1
        try:
            answer = self._environment.invoke({"Records": batch}, label)
        except Died:
            return 0
        # Source: Lambda developer guide, "Configuring partial batch response": what is no list of numbers of this
        # batch fails the whole of it.
        if "errorType" in answer:
            return 0
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        try:
            reported = [numbers.index(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]]
        except (KeyError, TypeError, ValueError):
            return 0
        self.partial_answers += bool(reported)
        return min(reported, default=None)
