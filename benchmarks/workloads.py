"""Runs the functions' real handlers on an emulated table and counts their calls.

A workload is one execution environment of the record function at a steady rate. Its writes then go through the stream
to the publisher and the watcher. Seeds and a simulated clock make every run of the same code count the same.
"""

import io
import itertools
import json
import math
import os
import runpy
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

# The functions read these once, at import, as in Lambda. The tests set the same values, so the order does not matter.
os.environ.update(
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",  # noqa: S106 - not a secret, because nothing here reaches AWS
    AWS_DEFAULT_REGION="eu-central-1",
    AWS_EC2_METADATA_DISABLED="true",
    TABLE_NAME="usage",
    KEYS_TABLE_NAME="keys",
    BUS_NAME="metering",
    FAILURE_BUCKET="failures",
    POWERTOOLS_SERVICE_NAME="usage-metering",
    POWERTOOLS_METRICS_NAMESPACE="UsageMetering",
)

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from metering import limit_watcher, publisher
from metering.model.organizations import Organization
from metering.model.periods import billing_period_of
from metering.model.plans import Entitlement, Plan
from metering.model.usage import CounterId
from metering.outbox.publishing import PublisherDeps
from metering.outbox.thresholds import WatcherDeps
from metering.storage import counter_pages, ledger
from metering.storage.counter_items import COUNTER_PREFIX, FIRST_SHARD, SHARDS_PER_PAGE, counter_prefix, page_partition
from metering.storage.ledger import Addition
from metering.storage.notice_items import NOTICE_PREFIX
from metering.storage.organization_items import ORGANIZATION_PREFIX
from metering.storage.plan_items import PLAN_PREFIX
from metering.storage.usage_records import USAGE_PREFIX
from metering.usage.organization_cache import CACHED_S

from benchmarks.counting import Call, Change, Tally, count_dynamodb, count_events
from benchmarks.units import billed_http_requests, item_bytes
from infra.environments import PROD
from tests.testing.engine import Engine
from tests.testing.payloads import batch_request, example, record_request
from tests.testing.service import Clock, Context, RecordFunction
from tests.testing.table import put_on_plan

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient

_NAIVE = Path(__file__).parent / "handlers" / "naive.py"
_BUS = "metering"
# The maximum of stream records in one delivery to a reader.
PUBLISHED_AT_ONCE, WATCHED_AT_ONCE = PROD.publisher_batch_size, PROD.watcher_batch_size
_PUBLISHED = (USAGE_PREFIX, NOTICE_PREFIX)
_WATCHED = (COUNTER_PREFIX, ORGANIZATION_PREFIX, PLAN_PREFIX)
# A logger needs its own name to have its own stream. The names are as long as the functions', as lines contain them.
_NAMES = (f"function-{number:05}" for number in itertools.count())

# Storage overhead of each item. Source: DynamoDB developer guide, "DynamoDB item sizes and formats".
_ITEM_OVERHEAD_BYTES = 100
# Longer than an environment caches organizations and plans.
_FORGOTTEN_S = 2 * CACHED_S
# Uncounted first requests, because an environment learns the width of a counter from its first one.
_WARM_UP = 2

Limit: TypeAlias = Literal["none", "soft", "hard"]
StreamRecord: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """Requests of one kind."""

    records_per_request: int = 1
    is_quiet: bool = False
    """Whether each request comes from another organization, finds empty caches, and has its changes delivered alone.

    Otherwise all requests come from one organization at a steady rate. The stream's deliveries are then full, as if
    others also wrote much."""
    requests_per_s: float = 20.0
    """The rate of one execution environment, if not quiet."""
    shards: int = 1
    """How many shards each counter has already."""
    limit: Limit = "soft"
    requests: int = 20
    """How many requests are counted."""
    metadata_bytes: int = 0
    is_replayed: bool = False
    """Whether each counted request repeats an uncounted one."""
    begins: bool = False
    """Whether each counter begins with the first request of its organization."""


@dataclass(frozen=True)
class Work:
    """One function's calls and logs for a number of records."""

    records: int
    invocations: int = 0
    calls: Sequence[Call] = ()
    log_bytes: int = 0

    @property
    def write_units(self) -> int:
        return sum(call.write_units for call in self.calls)

    @property
    def read_units(self) -> float:
        return sum(call.read_units for call in self.calls)

    @property
    def events(self) -> int:
        return sum(call.events for call in self.calls)

    @property
    def reported_units(self) -> float:
        """The units that the engine reports for the calls."""
        return sum(call.reported_units or 0 for call in self.calls)

    def made(self, *operations: str) -> int:
        """The number of calls of these operations."""
        return sum(call.operation in operations for call in self.calls)


@dataclass(frozen=True)
class Counted:
    """The work of all functions for some requests."""

    http_requests: int
    """Requests as API Gateway bills them."""
    recording: Work
    publishing: Work
    watching: Work
    changes: Sequence[Change] = field(default=(), compare=False)
    """The items that the requests wrote. They contain random ids, so comparisons leave them out."""


def run(workload: Workload, running: Engine) -> Counted:
    """Count the workload on an engine. Each call also has the units that the engine reports."""
    counting = _Counting(running)
    counted, by_request = _record(workload, counting)
    streams = by_request if workload.is_quiet else [counted.changes]
    return replace(
        counted,
        publishing=_publish(workload, streams, counting),
        watching=_watch(workload, streams, counting),
    )


def run_naively(requests: int, running: Engine) -> Counted:
    """Count single records with the naive handler, one for each of `requests`."""
    counting = _Counting(running)
    keys = f"{counting.table}-keys"
    running.dynamodb.create_table(
        TableName=keys,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    logger, log = _logger()
    recording = runpy.run_path(str(_NAIVE))["recording"]
    handler = recording(counting.dynamodb, counting.events, logger, keys=keys, table=counting.table, bus=_BUS)
    http_requests = 0
    for event in _requests(Workload(), requests):
        _expect_recorded(handler(event, Context(counting.clock)), 1)
        http_requests += billed_http_requests(len(event["body"].encode()))
    calls = counting.tally.take().calls
    nothing = Work(requests)
    return Counted(http_requests, Work(requests, requests, calls, _written(log)), publishing=nothing, watching=nothing)


def stored_bytes(running: Engine) -> int:
    """The bytes that DynamoDB stores for one record."""
    changes = run(Workload(requests=1), running).changes
    (record,) = (change.after for change in changes if change.key["pk"]["S"].startswith(USAGE_PREFIX))
    return item_bytes(record) + _ITEM_OVERHEAD_BYTES


class _Counting:
    """A new table, and clients whose calls are counted."""

    def __init__(self, running: Engine) -> None:
        self.table, _ = running.create_table()
        self.observer = running.dynamodb
        self.tally, self.clock = Tally(), Clock()
        session = boto3.Session(running.keys.access_key_id, "not-a-secret", region_name="us-east-1")
        config = Config(proxies={}, retries={"total_max_attempts": 1})
        self.dynamodb: DynamoDBClient = session.client("dynamodb", endpoint_url=running.endpoint, config=config)
        self.events: EventBridgeClient = session.client("events", config=config)
        count_dynamodb(self.dynamodb, self.observer, self.tally, ask=True)
        count_events(self.events, self.tally)
        hooks: Any = self.events.meta.events
        hooks.register("before-send.events.PutEvents", _accepted)


def _accepted(request: Any, **_: Any) -> AWSResponse:
    """The answer of a bus that accepts everything."""
    answers = [{"EventId": str(number)} for number, _ in enumerate(json.loads(request.body)["Entries"])]
    response: Any = AWSResponse(request.url, 200, HTTPHeaders(), None)
    response._content = json.dumps({"FailedEntryCount": 0, "Entries": answers}).encode()
    accepted: AWSResponse = response
    return accepted


def _prepare(workload: Workload, counting: _Counting) -> None:
    """Store the organizations with their plan, and the shards of their counters."""
    client, table, period = counting.observer, counting.table, billing_period_of(counting.clock.now())
    # Far above the recorded usage, so that there are no notices and no refusals.
    feature = Entitlement(limit=10**12, unit="calls", hard=workload.limit == "hard")
    plan = None if workload.limit == "none" else Plan("pro", "Professional", {"api_calls": feature})
    for organization in _organizations(workload):
        put_on_plan(client, table, Organization(organization), plan)
        counter = CounterId(organization, period, "api_calls")
        if workload.shards > 1:
            _spread(client, table, counter, workload.shards)
        elif not workload.begins:
            begun = Addition(counter, (), FIRST_SHARD, feature.limit if feature.hard else None)
            ledger.commit_additions(client, table, [begun])


def _spread(client: "DynamoDBClient", table: str, counter: CounterId, shards: int) -> None:
    """Store `shards` shards of the counter, and announce its further pages."""
    for shard in range(shards):
        partition = page_partition(counter, shard // SHARDS_PER_PAGE)
        key = {"pk": {"S": partition}, "sk": {"S": f"{counter_prefix(counter.feature)}{shard}"}}
        client.put_item(TableName=table, Item={**key, "total": {"N": "1234567"}, "count": {"N": "1234567"}})
    if shards > SHARDS_PER_PAGE:
        counter_pages.announce(client, table, counter, shards // SHARDS_PER_PAGE)


def _record(workload: Workload, counting: _Counting) -> tuple[Counted, list[list[Change]]]:
    """Send all requests to one warm environment.

    Returns: the counted work, and the changes of each request.
    """
    _prepare(workload, counting)
    tally, clock = counting.tally, counting.clock
    function = RecordFunction(counting.dynamodb, clock, counting.table)
    logger, log = _logger()
    function.service = replace(function.service, logger=logger)
    http_requests, by_request, calls = 0, list[list[Change]](), list[Call]()
    with _printed() as metrics:
        for number, event in enumerate(_requests(workload, _WARM_UP + workload.requests)):
            clock.pass_by(seconds=_FORGOTTEN_S if workload.is_quiet else 1 / workload.requests_per_s)
            for _ in range(2 if workload.is_replayed else 1):
                tally.take()
                _expect_recorded(function.answer(event, Context(clock)), workload.records_per_request)
            one = tally.take()
            if number < _WARM_UP:
                _forget(log, metrics)
                continue
            http_requests += billed_http_requests(len(event["body"].encode()))
            by_request.append(one.changes)
            calls += one.calls
    records = workload.requests * workload.records_per_request
    return Counted(
        http_requests,
        Work(records, workload.requests, calls, _written(log, metrics)),
        publishing=Work(records),
        watching=Work(records),
        changes=list(itertools.chain.from_iterable(by_request)),
    ), by_request


def _requests(workload: Workload, requests: int) -> Iterator[Any]:
    random = Random(20261123)
    organizations = itertools.cycle(_organizations(workload))
    metadata = {"note": "x" * (workload.metadata_bytes - len('{"note":""}'))} if workload.metadata_bytes else ...
    for organization in itertools.islice(organizations, requests):
        records = [
            example(idempotencyKey=str(uuid.UUID(int=random.getrandbits(128), version=4)), metadata=metadata)
            for _ in range(workload.records_per_request)
        ]
        claims = {"org_id": organization}
        is_batch = workload.records_per_request > 1
        yield batch_request(records, claims=claims) if is_batch else record_request(records[0], claims=claims)


def _organizations(workload: Workload) -> list[str]:
    return [f"demo-org-{number:03}" for number in range(_WARM_UP + workload.requests if workload.is_quiet else 1)]


def _expect_recorded(answer: Mapping[str, Any], records: int) -> None:
    body = json.loads(answer["body"])
    totals = body.get("totals")
    recorded = int(body.get("recorded", False)) if totals is None else totals["recorded"] + totals["replayed"]
    if answer["statusCode"] != 200 or recorded != records:
        raise RuntimeError(f"the request was not recorded: {answer}")


def _publish(workload: Workload, streams: Sequence[Sequence[Change]], counting: _Counting) -> Work:
    logger, log = _logger()
    bucket: Any = None  # not used, because no record is malformed
    metrics: Any = EphemeralMetrics()
    deps = PublisherDeps(
        events=counting.events,
        bus=_BUS,
        source="saas.billing",
        failures=bucket,
        failure_bucket="failures",
        # One after the other, so that each run is the same.
        at_once=1,
        sleep=counting.clock.sleep,
        random=Random(1),
        logger=logger,
        metrics=metrics,
    )
    respond = partial(publisher.respond, deps=deps)
    delivered = _delivered(streams, _PUBLISHED, counting.clock)
    return _invoke(workload, respond, delivered, PUBLISHED_AT_ONCE, counting, log)


def _watch(workload: Workload, streams: Sequence[Sequence[Change]], counting: _Counting) -> Work:
    logger, log = _logger()
    metrics: Any = EphemeralMetrics()
    now = counting.clock.now
    deps = WatcherDeps(counting.dynamodb, counting.table, timedelta(days=400), now, logger, metrics)
    respond = partial(limit_watcher.respond, deps=deps)
    delivered = _delivered(streams, _WATCHED, counting.clock)
    return _invoke(workload, respond, delivered, WATCHED_AT_ONCE, counting, log)


def _invoke(
    workload: Workload,
    respond: Any,
    streams: list[list[StreamRecord]],
    at_once: int,
    counting: _Counting,
    log: io.StringIO,
) -> Work:
    """Invoke a reader of the stream with its deliveries, `at_once` records at a time."""
    invocations, times = 0, 1
    if not workload.is_quiet:
        # The changes are repeated until the last delivery is as full as the others.
        (stream,) = streams
        times = at_once // math.gcd(len(stream), at_once)
        streams = [stream * times]
    with _printed() as metrics:
        for stream in streams:
            for start in range(0, len(stream), at_once):
                event = {"Records": stream[start : start + at_once]}
                answer = respond(event, Context(counting.clock, timeout_s=300.0))
                if answer["batchItemFailures"]:
                    raise RuntimeError(f"a reader of the stream failed: {answer} {log.getvalue()}")
                invocations += 1
    records = workload.requests * workload.records_per_request * times
    return Work(records, invocations, counting.tally.take().calls, _written(log, metrics))


def _delivered(
    streams: Sequence[Sequence[Change]], prefixes: tuple[str, ...], clock: Clock
) -> list[list[StreamRecord]]:
    """The changes as Lambda delivers them to a reader that filters partition keys by `prefixes`."""
    return [
        [
            _stream_record(change, number, clock)
            for number, change in enumerate(changes)
            if change.after and change.key["pk"]["S"].startswith(prefixes)
        ]
        for changes in streams
    ]


def _stream_record(change: Change, number: int, clock: Clock) -> StreamRecord:
    return {
        "eventName": "MODIFY" if change.before else "INSERT",
        "dynamodb": {
            "Keys": change.key,
            "NewImage": change.after,
            **({"OldImage": change.before} if change.before else {}),
            "SequenceNumber": f"{number:028}",
            "ApproximateCreationDateTime": clock.at.timestamp(),
        },
    }


def _logger() -> tuple[Logger, io.StringIO]:
    log = io.StringIO()
    return Logger(service=next(_NAMES), stream=log), log


@contextmanager
def _printed() -> Iterator[io.StringIO]:
    """Capture the printed text, such as metrics. Lambda logs it."""
    text = io.StringIO()
    with redirect_stdout(text):
        yield text


def _forget(*texts: io.StringIO) -> None:
    for text in texts:
        text.seek(0)
        text.truncate()


def _written(*texts: io.StringIO) -> int:
    return sum(len(text.getvalue().encode()) for text in texts)
