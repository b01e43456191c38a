"""`metering events`: print what the bus delivers, one JSON line per event."""

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
    """The events of the running local stack from byte `position` of its file on, until it ends or `is_over()`."""

    def has_ended() -> bool:
        return is_over() or not local_stack.is_running(stack, local_json)

    return tail.follow(local_stack.events_file(local_json), position, has_ended)


def delivered(
    environment: "Environment", deadline: float | None, is_over: Callable[[], bool]
) -> Generator[str, None, None]:
    """The events that the environment's bus delivers from now on, until `deadline` (of the monotonic clock).

    `is_over` is asked after every long poll.
    """
    from ops import viewer  # a second of imports, which the local stack's events do without

    sqs = environment.access.sqs()
    with viewer.subscription(environment.access.events(), sqs, environment.bus) as queue:
        while not is_over():
            left_s = math.inf if deadline is None else deadline - time.monotonic()
            yield from viewer.receive(sqs, queue, max(0, math.ceil(min(left_s, viewer.LONGEST_POLL_S))))


def show(lines: Iterable[str], count: int | None) -> bool:
    """Print `lines` as they come, each at once, and stop after `count`.

    Returns: whether there were `count` of them.
    """
    for shown, line in enumerate(lines, start=1):
        print(line, flush=True)
        if shown == count:
            return True
    return False


def is_unread(output: TextIO) -> bool:
    """Whether whoever was to read `output`, a pipe, has gone: `… | head -1` has, though nothing was written since."""
    waiting = select.poll()
    try:
        waiting.register(output.fileno(), 0)
    except (OSError, ValueError):  # not a file of the system's, or closed
        return False
    return any(happened & (select.POLLERR | select.POLLHUP) for _, happened in waiting.poll(0))
