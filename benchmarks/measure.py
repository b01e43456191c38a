"""Measures the record function against its baselines. Each runs in its own process under AWS's runtime client.

Each round measures both sides and yields one ratio, and every other round swaps their order. So a disturbance of the
machine that outlasts a round affects both sides alike.
"""

import ctypes
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.store import Store
from tests.testing import execution_environment
from tests.testing.execution_environment import RUNTIME_CLIENT, ExecutionEnvironment
from tests.testing.payloads import payload
from tools import bundle

_HANDLERS = Path(__file__).parent / "handlers"


@dataclass(frozen=True)
class Contender:
    """A handler, and the folders on its path."""

    handler: str
    path: Sequence[Path]


@dataclass(frozen=True)
class Contenders:
    record: Contender
    bare_calls: Contender
    """botocore's client and the two calls."""
    plain_boto3: Contender
    """The same with `boto3.client("dynamodb")`."""


@dataclass(frozen=True)
class Comparison:
    """Milliseconds of each side, by round."""

    record_ms: list[float]
    baseline_ms: list[float]

    def summary(self) -> dict[str, Any]:
        """The median and the quartiles of each side, and of the rounds' ratios."""
        ratios = [ours / theirs for ours, theirs in zip(self.record_ms, self.baseline_ms, strict=True)]
        return {
            "ratio": spread(ratios, 3),
            "record_ms": spread(self.record_ms, 2),
            "baseline_ms": spread(self.baseline_ms, 2),
            "rounds": len(ratios),
        }


@dataclass(frozen=True)
class Cold:
    """Init plus the first answered request: elapsed time, and CPU time of the process."""

    elapsed: Comparison
    cpu: Comparison


def contenders(folder: Path) -> Contenders:
    """Build all sides in `folder`, compiled, with the same trimmed bundle and the same runtime client."""
    client, boto3, handlers = folder / "client", folder / "boto3", folder / "handlers"
    execution_environment.install(RUNTIME_CLIENT, client)
    execution_environment.install(("boto3", "s3transfer"), boto3)
    shutil.copytree(_HANDLERS, handlers, ignore=shutil.ignore_patterns("__pycache__"))
    bundle.compile_folder(handlers, str(handlers), sys.executable)
    functions = bundle.build("local")
    return Contenders(
        record=Contender("metering.record_api.handler", [functions, client]),
        bare_calls=Contender("bare_calls.handler", [handlers, functions, client]),
        plain_boto3=Contender("plain_boto3.handler", [handlers, functions, boto3, client]),
    )


def warm(
    sides: Contenders, store: Store, folder: Path, *, rounds: int, requests: int, say: Callable[[int], None]
) -> Comparison:
    """Measure the CPU time per request of the function's process, on average over the `requests` of each round."""
    event = payload("http-record.json")
    comparison = Comparison([], [])
    with (
        _started(sides.record, store, folder) as record,
        _started(sides.bare_calls, store, folder) as baseline,
    ):
        for environment in (record, baseline):
            _cpu_ms_per_request(environment, event, requests)
        for number in range(rounds):
            say(number)
            turns = [(record, comparison.record_ms), (baseline, comparison.baseline_ms)]
            for environment, measured in turns if number % 2 else reversed(turns):
                measured.append(_cpu_ms_per_request(environment, event, requests))
    return comparison


def cold(sides: Contenders, store: Store, folder: Path, *, rounds: int, say: Callable[[int], None]) -> Cold:
    """Measure the time from the process's start to its first answer. An unmeasured first round warms the file cache."""
    elapsed, cpu = Comparison([], []), Comparison([], [])
    turns = [
        (sides.record, elapsed.record_ms, cpu.record_ms),
        (sides.plain_boto3, elapsed.baseline_ms, cpu.baseline_ms),
    ]
    for side, _, _ in turns:
        _first_answer_ms(side, store, folder)
    for number in range(rounds):
        say(number)
        for side, elapsed_ms, cpu_ms in turns if number % 2 else reversed(turns):
            one_elapsed_ms, one_cpu_ms = _first_answer_ms(side, store, folder)
            elapsed_ms.append(one_elapsed_ms)
            cpu_ms.append(one_cpu_ms)
    return Cold(elapsed, cpu)


def _first_answer_ms(side: Contender, store: Store, folder: Path) -> tuple[float, float]:
    with _started(side, store, folder) as environment:
        answered_s = _answer(environment, payload("http-record.json"))
        return (answered_s - environment.spawned_s) * 1000, _cpu_s(environment.process.pid) * 1000


def _cpu_ms_per_request(environment: ExecutionEnvironment, event: Any, requests: int) -> float:
    before_s = _cpu_s(environment.process.pid)
    for _ in range(requests):
        _answer(environment, event)
    return (_cpu_s(environment.process.pid) - before_s) / requests * 1000


def _answer(environment: ExecutionEnvironment, event: Any) -> float:
    """Send `event`, and wait for the answer and until the process is idle again.

    Returns: when the answer came, in seconds on the monotonic clock.
    """
    outcome = environment.invoke(event)
    if outcome.kind != "response" or outcome.body["statusCode"] != 200:
        raise RuntimeError(f"the request failed: {outcome.body} {environment.log()}")
    environment.api.asked(within_s=10)
    return outcome.at_s


@contextmanager
def _started(side: Contender, store: Store, folder: Path) -> Iterator[ExecutionEnvironment]:
    variables = {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "TABLE_NAME": "usage",
        "POWERTOOLS_SERVICE_NAME": "usage-metering",
        "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }
    with execution_environment.started(side.handler, side.path, variables, folder) as environment:
        environment.wait_until_ready()
        yield environment


def _cpu_s(pid: int) -> float:
    """The CPU seconds of a running process, all threads together, to the nanosecond.

    Source: POSIX, clock_getcpuclockid.
    """
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        raise ProcessLookupError(f"process {pid} has no CPU clock")
    return time.clock_gettime(clock.value)


def spread(values: Sequence[float], digits: int) -> dict[str, Any]:
    """The median and the quartiles of `values`, rounded to `digits`."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(median, digits), "quartiles": [round(lower, digits), round(upper, digits)]}
