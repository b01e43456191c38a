"""Replacements for the functions' threads: tasks that take turns in simulated time.

During a run they replace what `metering.outbox.publishing` and `metering.usage.listing` import from
`concurrent.futures` and `threading`.
"""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from greenlet import getcurrent

from tests.simulation.scheduler import Scheduler

T = TypeVar("T")

_present: list[Scheduler] = []


def use(scheduler: Scheduler) -> None:
    """Run all tasks with this scheduler from now on."""
    _present[:] = [scheduler]


class _Parked:
    """Processes that wait until another process wakes them."""

    def __init__(self) -> None:
        self._processes: deque[Any] = deque()

    def park(self) -> None:
        """Sleep until another process wakes this one."""
        me = getcurrent()
        assert me.parent is not None
        self._processes.append(me)
        me.parent.switch()

    def wake(self) -> None:
        """Wake the process that has waited longest, if there is one."""
        if self._processes:
            _present[0].at(_present[0].now_s, self._processes.popleft().switch)


class Semaphore:
    """Behaves like `threading.Semaphore`."""

    def __init__(self, value: int) -> None:
        self._value = value
        self._waiting = _Parked()

    def acquire(self) -> None:
        while self._value == 0:
            self._waiting.park()
        self._value -= 1

    def release(self) -> None:
        self._value += 1
        self._waiting.wake()


class Future(Generic[T]):
    """Behaves like `concurrent.futures.Future` after its task has ended."""

    def __init__(self) -> None:
        self.value: list[T] = []
        self.error: BaseException | None = None

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value[0]


class Pool:
    """Behaves like `ThreadPoolExecutor`: its `with` block ends after all tasks."""

    def __init__(self, workers: int) -> None:
        self._free = Semaphore(workers)
        self._running = 0
        self._ended = _Parked()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._running:
            self._ended.park()

    def submit(self, task: Callable[..., T], *arguments: Any) -> Future[T]:
        future: Future[T] = Future()
        self._running += 1

        def run() -> None:
            self._free.acquire()
            try:
                future.value.append(task(*arguments))
            except BaseException as error:  # noqa: BLE001 - `result` raises it
                future.error = error
            finally:
                self._free.release()
                self._running -= 1
                self._ended.wake()

        _present[0].start(run)
        return future
