"""The publisher's events per second from one stream shard, against one call at a time.

The publisher's own code and botocore's client send to a bus that takes 10 ms for each call. Each round sends one batch
with concurrent calls, as the function does. It sends another batch with one call at a time. Every other round swaps
their order.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks import slow_bus
from benchmarks.measure import spread
from infra.environments import PROD
from tests.testing.payloads import payload

if TYPE_CHECKING:
    from metering.outbox.publishing import PublisherDeps

TITLE = "publishing: events per second of one stream shard, against one call at a time"
_AIM = 8


def run(say: Callable[[str], None], *, rounds: int = 31, batch: int = PROD.publisher_batch_size) -> dict[str, Any]:
    """Measure both sides. Each sends one batch of `batch` records per round.

    Returns: medians and quartiles over the rounds.
    Raises:
        RuntimeError: the bus did not receive every event once.
    """
    records = _new_usage(batch)
    with slow_bus.serving() as bus:
        with mock.patch.dict(os.environ, _environment(bus.url)):
            # The import builds clients from the environment.
            from metering import publisher

            several = publisher.deps_from_environment()
        one = replace(several, at_once=1)
        for deps in (several, one):
            _publish_s(records[:200], deps)
        bus.taken()
        several_s: list[float] = []
        one_s: list[float] = []
        cpu: list[float] = []
        most_at_once = 0
        for number in range(rounds):
            say(f"publishing, round {number + 1} of {rounds}")
            for deps in (several, one) if number % 2 else (one, several):
                cpu_began_s = time.process_time()
                elapsed_s = _publish_s(records, deps)
                cpu_s = time.process_time() - cpu_began_s
                taken, at_once = bus.taken()
                if taken != batch:
                    raise RuntimeError(f"the bus received {taken} events instead of {batch}")
                if deps is several:
                    several_s.append(elapsed_s)
                    cpu.append(cpu_s / elapsed_s)
                    most_at_once = max(most_at_once, at_once)
                else:
                    one_s.append(elapsed_s)
    return {
        "aim": _AIM,
        "ratio": spread([alone_s / ours_s for ours_s, alone_s in zip(several_s, one_s, strict=True)], 2),
        "events_per_s": spread([batch / elapsed_s for elapsed_s in several_s], 0),
        "events_per_s_one_call_at_a_time": spread([batch / elapsed_s for elapsed_s in one_s], 0),
        "cpu_share": spread(cpu, 2),
        "most_calls_at_once": most_at_once,
        "call_ms": slow_bus.CALL_S * 1000,
        "batch": batch,
        "rounds": rounds,
    }


def text(measured: dict[str, Any]) -> str:
    """Render the result of `run` as lines of a table."""
    lower, upper = measured["ratio"]["quartiles"]
    return "\n".join(
        [
            f"{'median (quartiles)':<34}{'ratio':>22}{'aim':>6}{'events/s':>10}{'one at a time':>15}{'CPU':>7}",
            f"{measured['most_calls_at_once']:>2} calls of {measured['call_ms']:.0f} ms at once{'':<10}"
            f"{measured['ratio']['median']:>8.2f} ({lower:.2f} to {upper:.2f}){measured['aim']:>6}"
            f"{measured['events_per_s']['median']:>10.0f}"
            f"{measured['events_per_s_one_call_at_a_time']['median']:>15.0f}{measured['cpu_share']['median']:>7.0%}",
        ]
    )


def _publish_s(records: list[dict[str, Any]], deps: "PublisherDeps") -> float:
    from metering.outbox.publishing import publish

    began_s = time.perf_counter()
    first_not_done = publish(records, deps, lambda: 60.0, Counter())
    elapsed_s = time.perf_counter() - began_s
    if first_not_done is not None:
        raise RuntimeError(f"the publisher stopped at the record {first_not_done}")
    return elapsed_s


def _new_usage(count: int) -> list[dict[str, Any]]:
    """`count` stream records of new usage."""
    (first, *_) = payload("stream-new.json")["Records"]
    return [
        {
            **first,
            "dynamodb": {
                **first["dynamodb"],
                "SequenceNumber": str(number),
                "NewImage": {
                    **first["dynamodb"]["NewImage"],
                    "eventId": {"S": f"1f0c9a52-7c1e-4b0e-9d0a-{number:012}"},
                },
            },
        }
        for number in range(count)
    ]


def _environment(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "BUS_NAME": "metering",
        "FAILURE_BUCKET": "failures",
        "POWERTOOLS_SERVICE_NAME": "usage-metering",
        "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
    }
