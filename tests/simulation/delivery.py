"""The stream's delivery to its readers, as Lambda's event source does it: at least once, in order within a shard.

Batches have any size and come late. Finished records may come again. After a partial failure, delivery starts again
from the lowest sequence number that the function reported.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from tests.simulation.environment import Environment
from tests.simulation.functions import BATCH_SIZES, TIMEOUT_S, Build
from tests.simulation.world import World

# The prefixes of the partition keys that infra/ lets through to each reader.
PREFIXES = {"watcher": ("counter#", "organization#", "plan#"), "publisher": ("usage#", "notice#")}
SHARDS = 2
# A batch needs many successful calls, so each of them fails less often than a request's.
_LUCK = 3.0
# A stream keeps its records for a day and delivers no older ones.
_KEPT_S = 86_400.0


class Delivery:
    """Delivers each record of the stream to the readers whose filters match it."""

    def __init__(self, world: World, functions: Mapping[str, Build]) -> None:
        self._shards = {
            prefixes: [_Shard(world, reader, number, functions[reader]) for number in range(SHARDS)]
            for reader, prefixes in PREFIXES.items()
        }

    def offer(self, record: dict[str, Any]) -> None:
        pk = record["dynamodb"]["Keys"]["pk"]["S"]
        for prefixes, shards in self._shards.items():
            if pk.startswith(prefixes):
                # All changes of an item are in one shard, so that they arrive in order.
                shards[sum(pk.encode()) % SHARDS].offer(record)


class _Shard:
    """One shard's records, and the environment that processes them, one batch at a time."""

    def __init__(self, world: World, reader: str, number: int, function: Build) -> None:
        self._world = world
        self._reader = reader
        self._name = f"{reader} {number}"
        self._function = function
        self._environment = Environment(world, TIMEOUT_S[reader], function, luck=_LUCK)
        self._random = Random(f"{world.seed} {self._name}")
        self._waiting: list[dict[str, Any]] = []
        self._done: list[dict[str, Any]] = []
        self._is_busy = False
        self._invocations = 0

    def offer(self, record: dict[str, Any]) -> None:
        self._waiting.append(record)
        if not self._is_busy:
            self._is_busy = True
            lag_s = self._random.uniform(0, self._world.rates.stream_lag_s)
            self._world.scheduler.start(self._work, self._world.now_s + lag_s)

    def _work(self) -> None:
        while self._waiting:
            most = BATCH_SIZES[self._reader]
            size = self._random.choice([1, 5, 30, most, most, most])
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            self._deliver(batch)
            self._done += batch
            if not self._world.is_calm and self._random.random() < self._world.rates.repeats:
                self._repeat()
            # Time for the next batch to fill.
            self._world.scheduler.sleep(self._random.uniform(0, self._world.rates.stream_lag_s))
        self._is_busy = False

    def _repeat(self) -> None:
        """Deliver some finished records again, as after a lost checkpoint."""
        since_s = self._world.now_s - _KEPT_S
        kept = [each for each in self._done if each["dynamodb"]["ApproximateCreationDateTime"] >= since_s]
        start = self._random.randrange(len(kept) or 1)
        if again := kept[start : start + self._random.randrange(1, 20)]:
            self._world.tally["stream repeats"] += 1
            self._deliver(again)

    def _deliver(self, batch: Sequence[dict[str, Any]]) -> None:
        """Deliver until all records are done, each time from the first one that the function reported."""
        deliveries = 0
        while True:
            first_not_done = self._invoke(batch)
            if first_not_done is None:
                return
            batch = batch[first_not_done:]
            deliveries += 1
            if deliveries % 3 == 1 and len(batch) > 1:
                half = len(batch) // 2
                self._deliver(batch[:half])
                batch = batch[half:]
            self._world.scheduler.sleep(self._random.choice([0.1, 1.0, 10.0]))

    def _invoke(self, batch: Sequence[dict[str, Any]]) -> int | None:
        """Deliver the batch once.

        Returns: the place of the first record to deliver again; None if all are done.
        """
        self._invocations += 1
        if self._environment.is_dead:
            self._environment = Environment(self._world, TIMEOUT_S[self._reader], self._function, luck=_LUCK)
        label = f"{self._name}-{self._invocations}"
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        self._world.say(lambda: f"{label} gets {len(batch)} records, {numbers[0][-6:]} to {numbers[-1][-6:]}")
        self._world.tally[f"{self._reader} invocations"] += 1
        try:
            answer = self._environment.invoke({"Records": list(batch)}, label)
        except Exception as error:  # noqa: BLE001 - Lambda's runtime catches every error
            self._world.say(f"{label} failed: {error!r}")
            return 0
        if answer is None:
            return 0
        reported = [numbers.index(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]]
        self._world.tally["partial batch responses"] += bool(reported)
        return min(reported, default=None)
