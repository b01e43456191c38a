"""Computes the states that were possible at each moment, after actions that may overlap.

An action takes effect at some moment between its start and its end. In between, either the value before it or its own
value may be in force. After its end, its own value is in force, or the value of an action that overlapped with it.
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
    """A value and the action that sets it."""

    value: T
    done: Done | None
    """None: the initial value."""

    def is_begun(self, until_s: float) -> bool:
        return self.done is None or self.done.began_at_s <= until_s


@dataclass(frozen=True)
class Line(Generic[T]):
    """All writes of one setting."""

    writes: Sequence[Write[T]]
    is_later: Callable[[Done, Done], bool]
    """Returns whether the value of the first action is certainly the last one after both have ended."""

    def between(self, since_s: float, until_s: float) -> list[T]:
        """The values that a read at some time of the interval may have found."""
        begun = [write for write in self.writes if write.is_begun(until_s)]
        ended = [write.done for write in begun if write.done is not None and write.done.ended_at_s < since_s]
        return [write.value for write in begun if not self.is_over(write, ended)]

    def is_over(self, write: Write[T], ended: Iterable[Done]) -> bool:
        """Return whether one of the `ended` actions certainly overwrote the write."""
        return any(write.done is None or self.is_later(other, write.done) for other in ended)


class _Turn(NamedTuple):
    """A moment from which another set of values is possible."""

    at_s: float
    moment: int
    is_end: bool
    """Whether the action ends here. At the same moment starts sort first, because they rule out no value."""
    line: int
    write: int


class Timeline(Generic[S]):
    """The possible states over time. Each state combines values that were possible at the same moment."""

    def __init__(self, lines: Sequence[Line[Any]], states_of: Callable[[Sequence[Sequence[Any]]], Iterable[S]]) -> None:
        """Compute all sets. `states_of` combines the possible values of each line at a moment into states."""
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
        """The states that a read at one moment of the interval may have found."""
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
