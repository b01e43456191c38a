"""Checks the promises about hard limits for each change of a counter's first shard.

A counter that was created under a hard limit stays under it. Only a request that reads the organization and its plan
itself, and finds no hard limit, may lift the limit. Cached rules may create a counter without a hard limit, but never
lift one. A counter without a hard limit gets none within its billing period.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from tests.faults.evidence import Change, Snapshot
from tests.faults.settings import Rule
from tests.faults.stored import Counted, Shard, counter_item, shards_in

_FIRST = "#0"
_HARD = "hard"


class Writer(NamedTuple):
    """A request that counted usage in a shard."""

    quantities: list[int]
    """One quantity for each of its records. A transaction may hold only some of them."""
    known: set[Rule]
    """The rules for the feature that it may have read or cached."""
    found: set[Rule]
    """The rules that it may have found by its own reads."""


# The requests that wrote to each shard, by its partition and sort key.
Writers: TypeAlias = Mapping[tuple[str, str], Sequence[Writer]]


class _ShardChange(NamedTuple):
    """A change of a counter's first shard."""

    before: Shard | None
    after: Shard

    @property
    def counter(self) -> Counted:
        return self.after.counter

    @property
    def was_hard(self) -> bool:
        return self.before is not None and _HARD in self.before.item

    @property
    def is_hard(self) -> bool:
        return _HARD in self.after.item

    def is_by(self, writer: Writer) -> bool:
        """Return whether some of the writer's records may sum up to the added quantity."""
        count, quantity = self.after.count, self.after.total
        if self.before is not None:
            count, quantity = count - self.before.count, quantity - self.before.total
        if not 0 < count <= len(writer.quantities):
            return False
        ordered = sorted(writer.quantities)
        return sum(ordered[:count]) <= quantity <= sum(ordered[-count:])


def wrong_in(changes: Iterable[Change], writers: Writers) -> Iterator[str]:
    """Describe every change of a counter's first shard that breaks a promise about hard limits."""
    for change in changes:
        if (
            change.sk.endswith(_FIRST)
            and change.after is not None
            and (shard_change := _shard_change(change.before, change.after))
        ):
            candidates = [writer for writer in writers.get(shard_change.after.key, ()) if shard_change.is_by(writer)]
            yield from _wrong_in_change(shard_change, candidates)


def wrong_between(snapshots: Sequence[Snapshot], writers: Writers) -> Iterator[str]:
    """Describe every broken promise that the difference between two snapshots shows, without the stream."""
    before: dict[Counted, Shard] = {}
    for snapshot in snapshots:
        now = {shard.counter: shard for shard in shards_in(snapshot.items) if shard.key[1].endswith(_FIRST)}
        for counter in before.keys() & now.keys():
            shard_change = _ShardChange(before[counter], now[counter])
            if shard_change.was_hard != shard_change.is_hard:
                yield from _wrong_in_mode(shard_change, writers.get(shard_change.after.key, ()))
        before = now


def by_shard(records: Iterable[tuple[tuple[str, str], str, int, set[Rule], set[Rule]]]) -> Writers:
    """Group records by the shard that they were added to.

    `records` holds (shard, request, quantity, rules known, rules found) for each record.
    """
    found: dict[tuple[str, str], dict[str, Writer]] = defaultdict(dict)
    for shard, request, quantity, known, then in records:
        found[shard].setdefault(request, Writer([], known, then)).quantities.append(quantity)
    return {shard: list(writers.values()) for shard, writers in found.items()}


def _shard_change(before: dict[str, object] | None, after: dict[str, object]) -> _ShardChange | None:
    shard = counter_item(after)
    earlier = None if before is None else counter_item(before)
    # Another check reports items that are not a counter's.
    if not isinstance(shard, Shard) or (before is not None and not isinstance(earlier, Shard)):
        return None
    return _ShardChange(earlier if isinstance(earlier, Shard) else None, shard)


def _wrong_in_change(shard_change: _ShardChange, candidates: Sequence[Writer]) -> Iterator[str]:
    yield from _wrong_in_mode(shard_change, candidates)
    if shard_change.is_hard:
        most = max((rule.hard_limit or 0 for writer in candidates for rule in writer.known), default=0)
        if shard_change.after.total > most:
            total = shard_change.after.total
            yield f"{shard_change.counter} was increased to {total} under a hard limit of at most {most}"


def _wrong_in_mode(shard_change: _ShardChange, candidates: Sequence[Writer]) -> Iterator[str]:
    if shard_change.was_hard and not shard_change.is_hard and not any(_is_soft(writer.found) for writer in candidates):
        yield f"{shard_change.counter} lost its hard limit because of a cached rule"
    if (
        shard_change.before is None
        and not shard_change.is_hard
        and not any(_is_soft(writer.known) for writer in candidates)
    ):
        yield f"{shard_change.counter} was created without a hard limit, but its request must have known one"
    if shard_change.before is not None and shard_change.is_hard and not shard_change.was_hard:
        yield f"{shard_change.counter} got a hard limit after it was created without one"


def _is_soft(rules: set[Rule]) -> bool:
    return any(rule.hard_limit is None for rule in rules)
