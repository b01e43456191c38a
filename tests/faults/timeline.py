"""States that may have held, moment by moment, after actions that may overlap.

A action takes effect at some moment from its beginning to its end. While it is under way, the value before it may hold,
or its own. After its end, its own value holds, or that of a action that overlapped with it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from tests.faults.evidence import Done

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Write(Generic[T]):
    """A value, and the action that sets it."""

    value: T
    done: Done | None
    """None: it was so from the beginning."""

    def is_begun(self, until_s: float) -> bool:
        return self.done is None or self.done.began_at_s <= until_s


@dataclass(frozen=True)
class Line(Generic[T]):
    """All writes of one value."""

    writes: Sequence[Write[T]]
    is_later: Callable[[Done, Done], bool]
    """Whether the first action's value holds when both have ended, whatever their order was."""

    def between(self, since_s: float, until_s: float) -> list[T]:
        """The values that somebody may have found who looked at some time between."""
        begun = [write for write in self.writes if write.is_begun(until_s)]
        ended = [write.done for write in begun if write.done is not None and write.done.ended_at_s < since_s]
        return [write.value for write in begun if not self.is_over(write, ended)]

    def is_over(self, write: Write[T], ended: Iterable[Done]) -> bool:
        """Whether one of these actions, which have ended, leaves nothing of the write."""
        return any(write.done is None or self.is_later(other, write.done) for other in ended)


class _Turn(NamedTuple):
    """A moment from which another set of values may hold."""

    at_s: float
    moment: int
    is_end: bool
    """Whether the action ends here. Of one moment, beginnings come first: they rule nothing out."""
    line: int
    write: int


class Timeline(Generic[S]):
    """Sets of states: each state is of values that may have held together, all at one moment."""

    def __init__(self, lines: Sequence[Line[Any]], states_of: Callable[[Sequence[Sequence[Any]]], Iterable[S]]) -> None:
        """Work out the sets; `states_of` makes states of the values that each line may have at a moment."""
        held = [[write for write in line.writes if write.done is None] for line in lines]
        ended: list[list[Done]] = [[] for _ in lines]
        self._turns_at_s: list[float] = []
        self._sets: list[frozenset[S]] = []
        self._unions: dict[tuple[int, int], frozenset[S]] = {}

        def keep() -> None:
            self._sets.append(frozenset(states_of([[write.value for write in writes] for writes in held])))

        keep()
        for turn in sorted(_turns(lines)):
            line, number = lines[turn.line], turn.line
            write = line.writes[turn.write]
            assert write.done is not None
            if turn.is_end:
                ended[number].append(write.done)
                held[number] = [each for each in held[number] if not line.is_over(each, [write.done])]
            elif not line.is_over(write, ended[number]):
                held[number].append(write)
            self._turns_at_s.append(turn.at_s)
            keep()

    def between(self, since_s: float, until_s: float) -> frozenset[S]:
        """The states that somebody may have found who looked at one moment between."""
        last = bisect_right(self._turns_at_s, until_s)
        first = min(bisect_left(self._turns_at_s, since_s), last)
        if (first, last) not in self._unions:
            self._unions[first, last] = frozenset().union(*self._sets[first : last + 1])
        return self._unions[first, last]


def _turns(lines: Sequence[Line[Any]]) -> Iterator[_Turn]:
    for number, line in enumerate(lines):
        for place, write in enumerate(line.writes):
            if write.done is not None:
                yield _Turn(write.done.began_at_s, write.done.began, False, number, place)
                yield _Turn(write.done.ended_at_s, write.done.ended, True, number, place)
