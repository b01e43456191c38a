"""The publisher function outside Lambda: its real code with a scripted bus and a failure bucket."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from botocore.exceptions import ReadTimeoutError
from metering import publisher
from metering.outbox.publishing import PublisherDeps

from tests.testing.logs import logger
from tests.testing.service import Clock, Context


@dataclass
class Bus:
    """Answers each call of PutEvents with the next answer of `script`.

    An answer is a list with an error code or None for each entry, or an exception. Accepted entries are `delivered`. A
    ReadTimeoutError loses the answer, but accepts all entries.
    """

    script: Iterator[Any] = field(default_factory=lambda: iter(()))
    calls: list[list[str]] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    """The ids of entries that an answer confirmed as accepted."""

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - botocore's spelling
        ids = [json.loads(entry["Detail"])["id"] for entry in Entries]
        self.calls.append(ids)
        answer = next(self.script, None)
        if isinstance(answer, ReadTimeoutError):
            self.delivered += ids
        if isinstance(answer, Exception):
            raise answer
        codes = answer or [None] * len(ids)
        taken = [id_ for id_, code in zip(ids, codes, strict=True) if code is None]
        self.delivered += taken
        self.taken += taken
        results = [{"EventId": "x"} if code is None else {"ErrorCode": code, "ErrorMessage": "m"} for code in codes]
        return {"FailedEntryCount": sum(code is not None for code in codes), "Entries": results}


@dataclass
class Publisher:
    """The publisher function with a scripted bus and a real failure bucket."""

    s3: Any
    bus: Any = field(default_factory=Bus)
    metrics: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    timeout_s: float = 60.0
    at_once: int = 1
    """The number of parallel calls. With more than 1, a script cannot control which call gets which answer."""
    log: io.StringIO = field(default_factory=io.StringIO)

    def __call__(self, *records: Any) -> list[str]:
        failures = self.answer({"Records": list(records)})["batchItemFailures"]
        return [failure["itemIdentifier"] for failure in failures]

    def answer(self, event: Any) -> dict[str, Any]:
        """The partial batch response to this event."""
        metrics: Any = _Metrics(self.metrics)
        deps = PublisherDeps(
            events=self.bus,
            bus="metering",
            source="saas.billing",
            failures=self.s3,
            failure_bucket="failures",
            at_once=self.at_once,
            sleep=self.clock.sleep,
            random=Random(1),
            logger=logger(self.log),
            metrics=metrics,
        )
        context: Any = Context(self.clock, self.timeout_s)
        return publisher.respond(event, context, deps)

    def kept(self) -> list[dict[str, Any]]:
        listed = self.s3.list_objects_v2(Bucket="failures").get("Contents", [])
        return [json.loads(self.s3.get_object(Bucket="failures", Key=each["Key"])["Body"].read()) for each in listed]


class _Metrics:
    """Sums up metrics by name."""

    def __init__(self, sums: dict[str, Any]) -> None:
        self._sums = sums

    def add_metric(self, name: str, unit: Any, value: float) -> None:
        del unit
        self._sums[name] = self._sums.get(name, 0) + value

    def flush_metrics(self) -> None:
        """Do nothing, because no metric is buffered."""
