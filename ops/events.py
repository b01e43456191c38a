"""`metering events`: print each event that the bus delivers as one JSON line."""

import math
import select
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ops import local_stack, tail

if TYPE_CHECKING:
    from ops.environments import Environment


def delivered_locally(
    local_json: Path, stack: local_stack.Stack, position: int, is_over: Callable[[], bool]
) -> Generator[str, None, None]:
    """Yield the local stack's events from byte `position` of its file on, until it ends or `is_over()` is true."""

    def has_ended() -> bool:
        return is_over() or not local_stack.is_running(stack, local_json)

    return tail.follow(local_stack.events_file(local_json), position, has_ended)


def delivered(
    environment: "Environment", deadline: float | None, is_over: Callable[[], bool]
) -> Generator[str, None, None]:
    """Yield the events that the environment's bus delivers from now on.

    A long poll ends by `deadline`, a time of the monotonic clock. Ends when `is_over()` is true after a poll.
    """
    from ops import viewer  # this import takes a second, and the local stack's events do not need it

    sqs = environment.access.sqs()
    with viewer.subscription(environment.access.events(), sqs, environment.bus) as queue:
        while not is_over():
            left_s = math.inf if deadline is None else deadline - time.monotonic()
            yield from viewer.receive(sqs, queue, max(0, math.ceil(min(left_s, viewer.LONGEST_POLL_S))))


def show(lines: Iterable[str], count: int | None) -> bool:
    """Print each line as soon as it arrives, and stop after `count` lines.

    Returns: whether `count` lines were printed.
    """
    for shown, line in enumerate(lines, start=1):
        print(line, flush=True)
        if shown == count:
            return True
    return False


def is_unread(output: TextIO) -> bool:
    """Whether the reader of the pipe `output` has closed it, as `… | head -1` does after one line. Writes nothing."""
    waiting = select.poll()
    try:
        waiting.register(output.fileno(), 0)
    except (OSError, ValueError):  # no file descriptor, or closed
        return False
    return any(happened & (select.POLLERR | select.POLLHUP) for _, happened in waiting.poll(0))
