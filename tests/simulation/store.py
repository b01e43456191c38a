"""One table with DynamoDB's isolation levels, its stream and its index.

    committed   read by conditions, GetItem and TransactGetItems, which are serializable with transactions
    visible     read by queries, item by item; items of one transaction may become visible one after the other
    held        committed and not yet visible; other transactions and single writes conflict with it
    stream      one record for each change when it becomes visible, in order for each key
    index       the organizations by plan, updated after a delay, in order for each key

Source: DynamoDB developer guide, how transactions work, isolation levels.
"""

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from tests.simulation import answers
from tests.simulation.expressions import Invalid, Item
from tests.simulation.fault_rates import FaultRates
from tests.simulation.scheduler import Scheduler
from tests.simulation.stream import record_of
from tests.simulation.table import INDEX, ConditionFailed, Key, Kind, got, key_of, selected, target_of, written

# Pauses of a query between two items, and how often there is one.
_PAUSES_S = (0.001, 0.01, 0.3)
_PAUSES = 0.1
# An eventually consistent read may miss a change for this long. Changes are usually visible within a second.
# Source: DynamoDB developer guide, "Read consistency".
_STALE_S = 1.0
# A transaction's token is valid for 10 minutes. Source: API reference, TransactWriteItems, ClientRequestToken.
_TOKEN_S = 600.0


@dataclass(frozen=True)
class Tearing:
    """How a transaction that commits becomes visible."""

    share: float
    """The chance that its items become visible one by one."""
    span_s: float


AT_ONCE = Tearing(0.0, 0.0)


class Interference(NamedTuple):
    """The effect of other requests on a transaction's items."""

    conflicts: float = 0.0
    """The share of items that another transaction holds."""
    throttles: float = 0.0
    """The share of items whose partition is throttled."""
    is_crowded: bool = False
    """Whether many requests add to the same counters without a hard limit."""


NOTHING = Interference()


class Store:
    """The table. Every effect happens at one moment; only a query takes time."""

    def __init__(self, scheduler: Scheduler, rates: FaultRates, random: Random) -> None:
        self.items: dict[Key, Item] = {}
        """All committed items."""
        self.rates = rates
        self.on_record: Callable[[dict[str, Any]], None] = lambda _: None
        """Called with each record of the stream."""
        self._scheduler = scheduler
        self._keys: list[Key] = []
        # The visible item of each held key.
        self._held: dict[Key, Item | None] = {}
        # The item before each key's last change, which a stale read may return, and the time of the change.
        self._former: dict[Key, tuple[Item | None, float]] = {}
        self._committed: dict[str, float] = {}
        self._by_plan: dict[Key, Item] = {}
        self._plan_keys: list[Key] = []
        self._index_due: dict[Key, float] = {}
        self._random = random
        self._records = 0

    def get(self, parameters: Mapping[str, Any], random: Random) -> dict[str, Any]:
        """The answer of GetItem."""
        key = key_of(parameters["Key"])
        if not parameters.get("ConsistentRead") and self._is_stale(key, random):
            return got(parameters, self._former[key][0])
        return got(parameters, self.items.get(key))

    def get_together(
        self, actions: Sequence[Mapping[str, Any]], interference: Interference, random: Random
    ) -> list[dict[str, Any]]:
        """The answer of TransactGetItems.

        Raises:
            ClientError: the transaction was cancelled, as an item is held or throttled.
        """
        gets = [action["Get"] for action in actions]
        reasons = [self._in_the_way(key_of(each["Key"]), interference, random) for each in gets]
        if any(reasons):
            raise answers.cancelled("TransactGetItems", [each or answers.NO_REASON for each in reasons])
        return [got(each, self.items.get(key_of(each["Key"]))) for each in gets]

    def visible(self, key: Key) -> Item | None:
        """The item as a query would read it now."""
        return self._held[key] if key in self._held else self.items.get(key)

    def query(self, parameters: Mapping[str, Any], random: Random, wait: Callable[[float], None]) -> dict[str, Any]:
        """The answer of Query, which reads one item after the other and may `wait` in between."""

        def read(key: Key) -> Item | None:
            if random.random() < _PAUSES:
                wait(random.choice(_PAUSES_S))
            if is_index:
                return self._by_plan.get(key)
            if not is_consistent and self._is_stale(key, random):
                return self._former[key][0]
            return self.visible(key)

        is_consistent = parameters.get("ConsistentRead", False)
        is_index = parameters.get("IndexName") == INDEX
        # Queries of one feature's shards read only one page, as a few items never exceed 1 MB.
        reads_on = self.rates.small_pages and "begins_with" not in parameters["KeyConditionExpression"]
        most = random.choice([1, 2, 5]) if reads_on else None
        return selected(parameters, self._plan_keys if is_index else self._keys, read, most)

    def write(self, operation: str, kind: Kind, parameters: Mapping[str, Any]) -> Item:
        """Commit PutItem or UpdateItem.

        Returns: the new item.
        Raises:
            ClientError: its condition does not hold, it is invalid, or a transaction holds the item.
        """
        key = target_of(kind, parameters)
        if key in self._held:
            raise answers.error(operation, "TransactionConflictException")
        try:
            new = written(kind, parameters, self.items.get(key))
        except ConditionFailed as failed:
            raise answers.condition_failed(operation, parameters, failed) from failed
        except Invalid as refused:
            raise answers.invalid(operation, refused) from refused
        self._commit(key, new)
        return new

    def transact(
        self,
        actions: Sequence[Mapping[str, Any]],
        token: str,
        random: Random,
        interference: Interference = NOTHING,
        tearing: Tearing = AT_ONCE,
    ) -> float:
        """Commit a transaction. Sent again with its token, it changes nothing.

        Returns: the time from which all its items are visible.
        Raises:
            ClientError: the transaction was cancelled.
        """
        if token in self._committed and self._scheduler.now_s < self._committed[token] + _TOKEN_S:
            return self._committed[token]
        new: dict[Key, Item] = {}
        reasons: list[Mapping[str, Any]] = []
        failed = False
        for action in actions:
            kind: Kind = "Put" if "Put" in action else "Update"
            parameters = action[kind]
            key = target_of(kind, parameters)
            reason = self._in_the_way(key, interference, random)
            if reason is None and interference.is_crowded and kind == "Update":
                reason = self._crowd(parameters, random)
            if reason is None:
                try:
                    new[key] = written(kind, parameters, self.items.get(key))
                except (ConditionFailed, Invalid) as cause:
                    reason = answers.reason(parameters, cause)
            failed = failed or reason is not None
            reasons.append(reason or answers.NO_REASON)
        if failed:
            if self.rates.partial and random.random() < self.rates.partial:
                _leave_out(reasons, random)
            raise answers.cancelled("TransactWriteItems", reasons)
        shows = self._commit_together(new, random, tearing)
        self._committed[token] = shows
        return shows

    def delete(self, key: Key) -> None:
        """Delete an item as TTL does, unless the item is held."""
        if key in self._held:
            return
        before = self.items.pop(key)
        self._publish(key, before, None)

    def is_held(self, key: Key) -> bool:
        return key in self._held

    def _commit_together(self, new: Mapping[Key, Item], random: Random, tearing: Tearing) -> float:
        now_s = shows = self._scheduler.now_s
        is_torn = tearing.share > 0 and random.random() < tearing.share
        for key, item in new.items():
            if not is_torn or random.random() < 0.5:
                self._commit(key, item)
                continue
            at_s = now_s + random.uniform(0, tearing.span_s)
            shows = max(shows, at_s)
            self._commit_unseen(key, item, at_s)
        return shows

    def _commit(self, key: Key, item: Item) -> None:
        before = self._replace(key, item)
        self._publish(key, before, item)

    def _commit_unseen(self, key: Key, item: Item, shows_s: float) -> None:
        before = self._held[key] = self._replace(key, item)

        def show() -> None:
            del self._held[key]
            self._publish(key, before, item)

        self._scheduler.at(shows_s, show)

    def _is_stale(self, key: Key, random: Random) -> bool:
        """Whether an eventually consistent read returns the item from before its last change."""
        return key in self._former and self._scheduler.now_s < self._former[key][1] + _STALE_S and random.random() < 0.5

    def _replace(self, key: Key, item: Item) -> Item | None:
        before = self.items.get(key)
        self._former[key] = (before, self._scheduler.now_s)
        if before is None:
            insort(self._keys, key)
        self.items[key] = item
        return before

    def _publish(self, key: Key, before: Item | None, after: Item | None) -> None:
        if after is None:
            self._keys.remove(key)
        self._records += 1
        record = record_of(key, before, after, self._records, self._scheduler.now_s)
        if record is None:
            return
        if key[0].startswith("organization#"):
            self._index(key, after)
        self.on_record(record)

    def _index(self, key: Key, item: Item | None) -> None:
        lag_s = self._random.uniform(0, self.rates.index_lag_s)
        due_s = self._index_due[key] = max(self._scheduler.now_s + lag_s, self._index_due.get(key, 0.0))

        def show() -> None:
            if item is None or "planId" not in item:
                if self._by_plan.pop(key, None) is not None:
                    self._plan_keys.remove(key)
                return
            if key not in self._by_plan:
                insort(self._plan_keys, key)
            self._by_plan[key] = item

        self._scheduler.at(due_s, show)

    def _in_the_way(self, key: Key, interference: Interference, random: Random) -> Mapping[str, Any] | None:
        if key in self._held:
            return answers.CONFLICT
        if interference.conflicts and random.random() < interference.conflicts:
            return answers.CONFLICT
        if interference.throttles and random.random() < interference.throttles:
            return _throttled(random)
        return None

    def _crowd(self, parameters: Mapping[str, Any], random: Random) -> Mapping[str, Any] | None:
        # Only counters without a hard limit have many concurrent writers: a hard limit keeps all usage in one item.
        if "#hard = :hard" in parameters["UpdateExpression"] or random.random() >= self.rates.crowd:
            return None
        return _throttled(random) if random.random() < self.rates.crowd_throttles else answers.CONFLICT


def _throttled(random: Random) -> Mapping[str, Any]:
    return {"Code": random.choice(["ThrottlingError", "ProvisionedThroughputExceeded"])}


def _leave_out(reasons: list[Mapping[str, Any]], random: Random) -> None:
    """Omit some of the reasons, but not all."""
    given = [place for place, each in enumerate(reasons) if each is not answers.NO_REASON]
    for place in random.sample(given, random.randrange(len(given))):
        reasons[place] = answers.NO_REASON
