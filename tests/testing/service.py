"""The API's functions outside Lambda: their real code with a given client, on a clock that tests move."""

import io
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from aws_lambda_powertools.metrics import EphemeralMetrics
from metering import query_api, record_api
from metering.http.caller import TokenRules
from metering.http.endpoint import Service
from metering.model.clocks import Clocks
from metering.usage.counters import Counters
from metering.usage.organization_cache import OrganizationCache
from metering.usage.queries import QueryDeps
from metering.usage.recorder import RecordDeps

from tests.testing.logs import logger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")


NOW = datetime(2026, 11, 23, 0, 20, 4, 123456, UTC)


@dataclass
class Clock:
    """A wall clock and a monotonic clock. Sleeping moves both. Freezing stops only the monotonic clock."""

    at: datetime = NOW
    slept: list[float] = field(default_factory=list)
    frozen: timedelta = timedelta()
    """How far the monotonic clock is behind."""

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - self.frozen).timestamp()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)

    @property
    def clocks(self) -> Clocks:
        return Clocks(self.now, self.monotonic)

    def pass_by(self, **time: float) -> None:
        self.at += timedelta(**time)

    def freeze(self, **time: float) -> None:
        """Let wall time pass while the environment is frozen."""
        self.at += timedelta(**time)
        self.frozen += timedelta(**time)

    def set_back(self, **time: float) -> None:
        """Set the wall clock back; the monotonic clock keeps its time."""
        self.at -= timedelta(**time)
        self.frozen -= timedelta(**time)


class WallClock:
    """The real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class Context:
    """A Lambda context with `timeout_s` left on `clock` from its creation."""

    clock: Any
    timeout_s: float = 15.0
    aws_request_id: str = "8a6ab6c4-2d8e-4d54-9f60-6b5b0f6c1c11"

    def __post_init__(self) -> None:
        self._until = self.clock.monotonic() + self.timeout_s

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._until - self.clock.monotonic()) * 1000))


class Longest(Random):
    """Always chooses the longest wait."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


@dataclass(frozen=True)
class Reply:
    """A parsed answer of one of the functions."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


class StatusUnexpected(AssertionError):
    """A reply has an unexpected status; the message holds both statuses and the body."""


def expect(status: int, reply: Reply) -> Reply:
    """Return `reply` if it has this status.

    Raises:
        StatusUnexpected: the reply has another status.
    """
    if reply.status != status:
        raise StatusUnexpected(f"expected {status}, got {reply.status}: {reply.body}")
    return reply


@dataclass
class RecordFunction:
    """One warm execution environment of the record function."""

    client: "DynamoDBClient"
    clock: Any = field(default_factory=Clock)
    table: str = "usage"
    timeout_s: float = 15.0
    reject_unknown_features: bool = False
    random: Random = field(default_factory=lambda: Random(20261123))
    log: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        clocks = Clocks(self.clock.now, self.clock.monotonic)
        organizations = OrganizationCache(self.client, self.table, clocks)
        deps = RecordDeps(
            self.client,
            self.table,
            organizations,
            Counters(self.client, self.table, clocks),
            retention=timedelta(days=400),
            reject_unknown_features=self.reject_unknown_features,
        )
        self.service = _service(deps, self.clock, self.random, self.log)

    def __call__(self, event: Any, status: int = 200) -> Reply:
        """Return the reply to `event`, which must have this status.

        Raises:
            StatusUnexpected: the reply has another status.
        """
        return expect(status, self.reply(event))

    def reply(self, event: Any) -> Reply:
        """Return the reply to `event` with any status."""
        context: Any = Context(self.clock, self.timeout_s)
        return _reply(self.answer(event, context))

    def answer(self, event: Any, context: Any) -> dict[str, Any]:
        """Return the answer in API Gateway's format."""
        return record_api.respond(event, context, self.service)


@dataclass
class QueryFunction:
    """One warm execution environment of the query function."""

    client: "DynamoDBClient"
    clock: Any = field(default_factory=Clock)
    table: str = "usage"
    timeout_s: float = 15.0
    log: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        clocks = Clocks(self.clock.now, self.clock.monotonic)
        deps = QueryDeps(self.client, self.table, OrganizationCache(self.client, self.table, clocks))
        self.service = _service(deps, self.clock, Random(20261123), self.log)

    def __call__(self, event: Any, status: int = 200) -> Reply:
        """Return the reply to `event`, which must have this status.

        Raises:
            StatusUnexpected: the reply has another status.
        """
        return expect(status, self.reply(event))

    def reply(self, event: Any) -> Reply:
        """Return the reply to `event` with any status."""
        context: Any = Context(self.clock, self.timeout_s)
        return _reply(self.answer(event, context))

    def answer(self, event: Any, context: Any) -> dict[str, Any]:
        """Return the answer in API Gateway's format."""
        return query_api.respond(event, context, self.service)


def _reply(answer: dict[str, Any]) -> Reply:
    return Reply(answer["statusCode"], answer["headers"], json.loads(answer["body"]))


def _service(deps: T, clock: Any, random: Random, log: io.StringIO) -> Service[T]:
    # Powertools' Metrics share one set per process, but Lambda environments do not share metrics.
    metrics: Any = EphemeralMetrics()
    return Service(
        deps=deps,
        rules=TokenRules(),
        now=clock.now,
        monotonic=clock.monotonic,
        sleep=clock.sleep,
        random=random,
        logger=logger(log),
        metrics=metrics,
    )
