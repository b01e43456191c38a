"""How many events per second the publisher gets out of one stream shard, against one call at a time.

The publisher's own code and botocore's client, with a bus that takes 10 ms for each call. Interleaved: every round
sends one batch with calls under way at once, as the function does, and one with a bound of one, in turns first.
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
    """Medians and quartiles over the rounds, each of one batch of so many records on either side."""
    records = _new_usage(batch)
    with slow_bus.serving() as bus:
        with mock.patch.dict(os.environ, _environment(bus.url)):
            # Importing it builds its clients from the environment, too.
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
                    raise RuntimeError(f"of {batch} events the bus took {taken}")
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
    """What `run` found, for people."""
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
        raise RuntimeError(f"not published from the record {first_not_done} on")
    return elapsed_s


def _new_usage(count: int) -> list[dict[str, Any]]:
    """The stream records of so many new usages."""
    (told, *_) = payload("stream-new.json")["Records"]
    return [
        {
            **told,
            "dynamodb": {
                **told["dynamodb"],
                "SequenceNumber": str(number),
                "NewImage": {**told["dynamodb"]["NewImage"], "eventId": {"S": f"1f0c9a52-7c1e-4b0e-9d0a-{number:012}"}},
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
