"""Whether hard limits hold as they are promised: change by change of the counters' first shards.

A counter that began under a hard limit stays under it until a request reads the organization and its plan, at that very
time, and finds no hard limit. What is only remembered may begin a counter without one; it never lifts one. A counter
that is without one stays so in its period.
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
    """A request that has counted something in a shard."""

    quantities: list[int]
    """Of its records, one by one: a transaction may hold some of them."""
    known: set[Rule]
    """What it may have known of the feature's limit, with what was remembered."""
    found: set[Rule]
    """What it may have found by reading while it was under way."""


# By partition and sort key of the shard.
Writers: TypeAlias = Mapping[tuple[str, str], Sequence[Writer]]


class _Turn(NamedTuple):
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
        """Whether some of its records come to what was added."""
        count, quantity = self.after.count, self.after.total
        if self.before is not None:
            count, quantity = count - self.before.count, quantity - self.before.total
        if not 0 < count <= len(writer.quantities):
            return False
        ordered = sorted(writer.quantities)
        return sum(ordered[:count]) <= quantity <= sum(ordered[-count:])


def wrong_in(changes: Iterable[Change], writers: Writers) -> Iterator[str]:
    """Every change of a counter's first shard that breaks what is promised of hard limits, in words."""
    for change in changes:
        if change.sk.endswith(_FIRST) and change.after is not None and (turn := _turn(change.before, change.after)):
            candidates = [writer for writer in writers.get(turn.after.key, ()) if turn.is_by(writer)]
            yield from _wrong_in_turn(turn, candidates)


def wrong_between(snapshots: Sequence[Snapshot], writers: Writers) -> Iterator[str]:
    """The same by what the shards were at some moments, whatever came between."""
    before: dict[Counted, Shard] = {}
    for snapshot in snapshots:
        now = {shard.counter: shard for shard in shards_in(snapshot.items) if shard.key[1].endswith(_FIRST)}
        for counter in before.keys() & now.keys():
            turn = _Turn(before[counter], now[counter])
            if turn.was_hard != turn.is_hard:
                yield from _wrong_in_mode(turn, writers.get(turn.after.key, ()))
        before = now


def by_shard(records: Iterable[tuple[tuple[str, str], str, int, set[Rule], set[Rule]]]) -> Writers:
    """Who counted what where, from (shard, request, quantity, rules known, rules found) of each record."""
    found: dict[tuple[str, str], dict[str, Writer]] = defaultdict(dict)
    for shard, request, quantity, known, then in records:
        found[shard].setdefault(request, Writer([], known, then)).quantities.append(quantity)
    return {shard: list(writers.values()) for shard, writers in found.items()}


def _turn(before: dict[str, object] | None, after: dict[str, object]) -> _Turn | None:
    shard = counter_item(after)
    earlier = None if before is None else counter_item(before)
    # What is no counter's item is another check's.
    if not isinstance(shard, Shard) or (before is not None and not isinstance(earlier, Shard)):
        return None
    return _Turn(earlier if isinstance(earlier, Shard) else None, shard)


def _wrong_in_turn(turn: _Turn, candidates: Sequence[Writer]) -> Iterator[str]:
    yield from _wrong_in_mode(turn, candidates)
    if turn.is_hard:
        most = max((rule.hard_limit or 0 for writer in candidates for rule in writer.known), default=0)
        if turn.after.total > most:
            yield f"{turn.counter} was taken to {turn.after.total} under a hard limit that was {most} at the most"


def _wrong_in_mode(turn: _Turn, candidates: Sequence[Writer]) -> Iterator[str]:
    if turn.was_hard and not turn.is_hard and not any(_is_soft(writer.found) for writer in candidates):
        yield f"{turn.counter}: a hard limit was lifted by what was only remembered"
    if turn.before is None and not turn.is_hard and not any(_is_soft(writer.known) for writer in candidates):
        yield f"{turn.counter} was begun without a hard limit, and nobody can have known of none"
    if turn.before is not None and turn.is_hard and not turn.was_hard:
        yield f"{turn.counter} came under a hard limit after it had begun without one"


def _is_soft(rules: set[Rule]) -> bool:
    return any(rule.hard_limit is None for rule in rules)
