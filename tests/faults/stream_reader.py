"""Reads a table's stream in the format that Lambda passes to a function."""

from typing import Any

from tests.faults.clock import SharedClock
from tests.faults.evidence import Change
from tests.testing.engine import Engine


class StreamReader:
    """Reads a table's stream from its beginning."""

    def __init__(self, engine: Engine, arn: str, shared_clock: SharedClock) -> None:
        self._streams = engine.streams
        self._arn = arn
        self.shared_clock = shared_clock
        self._iterators: dict[str, str] = {}
        self.changes: list[Change] = []
        """All changes of counters' items so far."""

    def read(self) -> list[dict[str, Any]]:
        """Return the records since the last call, in the order of each shard, in Lambda's format."""
        for shard in self._streams.describe_stream(StreamArn=self._arn)["StreamDescription"]["Shards"]:
            if shard["ShardId"] not in self._iterators:
                self._iterators[shard["ShardId"]] = self._streams.get_shard_iterator(
                    StreamArn=self._arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
                )["ShardIterator"]
        found: list[dict[str, Any]] = []
        for shard_id, iterator in self._iterators.items():
            answer = self._streams.get_records(ShardIterator=iterator, Limit=1000)
            self._iterators[shard_id] = answer["NextShardIterator"]
            # The engine stamps records by another clock, so use the shared time.
            found += [_as_lambda_sends(record, self._arn, self.shared_clock.at_s) for record in answer["Records"]]
        self.changes += [_change(record) for record in found if _key(record)[0].startswith("counter#")]
        return found


def _as_lambda_sends(record: Any, arn: str, at_s: float) -> dict[str, Any]:
    change = {**record["dynamodb"], "ApproximateCreationDateTime": at_s}
    return {**record, "dynamodb": change, "eventSourceARN": arn}


def _change(record: dict[str, Any]) -> Change:
    images = record["dynamodb"]
    return Change(*_key(record), images.get("OldImage"), images.get("NewImage"))


def _key(record: dict[str, Any]) -> tuple[str, str]:
    keys = record["dynamodb"]["Keys"]
    return keys["pk"]["S"], keys["sk"]["S"]
