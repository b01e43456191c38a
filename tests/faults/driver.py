"""Runs a workload: the real handlers on a real DynamoDB engine, with the faults of the workload."""

import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from infra.environments import LOCAL
from local import emulator
from ops import organizations
from tests.faults.bus import BUS, Bus, FailureBucket, Queue
from tests.faults.clock import SharedClock
from tests.faults.environment import (
    OPERATOR,
    PUBLISHER,
    RECORD,
    SUBSCRIPTIONS,
    TIMEOUT_S,
    WATCHER,
    Died,
    Environment,
    ForkServer,
    fork_server,
)
from tests.faults.event_source import SHARDS, Consumer, EventSource
from tests.faults.evidence import Attempt, BatchAttempt, Evidence, Sent, Snapshot
from tests.faults.faults import ANSWER, Faults
from tests.faults.others import Others
from tests.faults.stream_reader import StreamReader
from tests.faults.wire import Wire, serving
from tests.faults.workload import (
    ORGANIZATIONS,
    UNTIL_ANSWERED,
    VARIANTS,
    Action,
    Batch,
    Item,
    Operation,
    Phase,
    StatusPut,
    Work,
    Workload,
    content,
    flawed,
    turns,
)
from tests.testing import engine
from tests.testing.engine import Engine
from tests.testing.payloads import batch_request, payload, record_request

# The partition key prefixes that infra/ filters for each consumer of the stream.
WATCHED = ("counter#", "organization#", "plan#")
PUBLISHED = ("usage#", "notice#")

# The maximum skew of a wall clock. Two environments differ by at most twice this.
_SKEW_S = 1.0
# The share of the frozen time that an environment's monotonic clock counts: all, some or nothing.
_AWAKE_IN_BETWEEN = (1.0, 0.01, 0.0, 0.0)

_SETTINGS = {
    "AWS_SECRET_ACCESS_KEY": emulator.SECRET_ACCESS_KEY,
    "AWS_DEFAULT_REGION": emulator.REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    # An IP address makes S3's client use path-style addresses. Each call is redirected when it is made.
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "TABLE_NAME": "set for each run",
    "BUS_NAME": BUS,
    "FAILURE_BUCKET": "failures",
    "REJECTED_QUEUE_URL": "http://127.0.0.1:9/rejected",
    "POWERTOOLS_SERVICE_NAME": "usage-metering",
    "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
}


@dataclass(frozen=True)
class Run:
    """The results of one workload run."""

    evidence: Evidence
    faults: Faults
    conflicts: int
    """Transactions that conflicted without an injected fault."""
    deliveries: int
    """Batches that the stream's consumers got, including repeated deliveries."""
    partial_answers: int
    """Batches for which a consumer reported failed records."""
    elapsed_s: float


@dataclass(frozen=True)
class Stage:
    """The engine, fork server and clock that workloads run on, one after the other."""

    engine: Engine
    fork_server: ForkServer
    shared_clock: SharedClock
    log_file: Path
    """The log of the functions."""


@contextmanager
def stage(directory: Path, engine_name: str | None = None) -> Iterator[Stage]:
    """Run an engine and a fork server until the end of the block; their files go to `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    clock_file, log_file = directory / "clock", directory / "functions.log"
    with (
        engine.running(directory, engine_name) as running,
        log_file.open("wb") as log,
        fork_server(clock_file, {**_SETTINGS, "AWS_ACCESS_KEY_ID": running.keys.access_key_id}, log) as born,
    ):
        yield Stage(running, born, SharedClock(clock_file), log_file)


def run(
    workload: Workload, on: Stage, *, record: str = RECORD, on_progress: Callable[[int], None] | None = None
) -> Run:
    """Run the workload until all clients are done and all events are delivered.

    `record` is the function that the record environments run. `on_progress` gets the number of finished operations.
    """
    started_s = time.monotonic()
    shared_clock = on.shared_clock
    crowded = {operation.id for phase in workload.phases if phase.crowded for operation in phase.operations}
    faults = Faults(workload.seed, crowded=crowded, script=workload.faults)
    bus, store, rejected = Bus(workload.seed, workload.unpublishable_one_in), FailureBucket(), Queue()
    wire = Wire(on.engine.endpoint, faults, bus, store, rejected)
    table, stream = on.engine.create_table()
    with serving(wire):
        numbers = itertools.count()

        def environments(function: str, count: int) -> list[Environment]:
            made = []
            for number in itertools.islice(numbers, count):
                settings = {"TABLE_NAME": table, "WIRE_URL": f"{wire.url}/{number}"}
                made.append(Environment(number, function, on.fork_server, shared_clock, settings))
                random = Random(f"{workload.seed} clock {number}")
                made[-1].clock.set_apart(random.uniform(-_SKEW_S, _SKEW_S), random.choice(_AWAKE_IN_BETWEEN))
                wire.environments[number] = made[-1]
            return made

        shards = SHARDS if workload.restless else 1
        # One more environment than clients, so that a retry rarely reaches the environment of its first attempt.
        clients = _Clients(workload, environments(record, workload.clients + 1), shared_clock, faults, on_progress)
        others = Others([*environments(OPERATOR, 2), *environments(SUBSCRIPTIONS, 2)], shared_clock)
        watcher = Consumer("watch", WATCHED, environments(WATCHER, shards), LOCAL.watcher_batch_size)
        publisher = Consumer("publish", PUBLISHED, environments(PUBLISHER, shards), LOCAL.publisher_batch_size)
        # The watcher comes before the publisher, which publishes its notices.
        reader, consumers = StreamReader(on.engine, stream, shared_clock), [watcher, publisher]
        source = EventSource(reader, consumers, workload.seed, restless=workload.restless)
        snapshots = []
        actions = itertools.count(-1, -1)
        try:
            for number, phase in enumerate(workload.phases):
                shared_clock.at_s = phase.starts_at_s
                before = workload.phases[number - 1] if number else None
                for organization in _to_be_put(workload, phase, before):
                    status: organizations.Status = "inactive" if organization in phase.inactive else "active"
                    with others.logged(StatusPut(next(actions), -1, organization, status)):
                        organizations.put(on.engine.dynamodb, table, organization, status)
                _prepare(on.engine, table, number, phase, Random(f"{workload.seed} {number}"))
                source.hold(held=not phase.settled)
                clients.work(number, phase, others)
                source.catch_up()
                if phase.settled:
                    source.settle(watcher)
                snapshots.append(Snapshot(shared_clock.at_s, on.engine.items(table), phase.settled))
            # Environments cache totals for about a second. Move the clock, so that they read again.
            shared_clock.at_s += 2
            clients.ask_for_totals(len(workload.phases) - 1)
        finally:
            source.finish()
            for environment in wire.environments.values():
                environment.close()
        snapshots.append(Snapshot(shared_clock.at_s, on.engine.items(table), settled=True))
    on.engine.drop_table(table)
    evidence = Evidence(
        snapshots=snapshots,
        events=bus.delivered,
        kept=store.objects,
        unpublishable=bus.unpublishable,
        abandoned=[*others.given_up, *source.abandoned],
        hung=[label for environment in wire.environments.values() for label in environment.hung],
        attempts=clients.log,
        done=others.log,
        queued=rejected.messages,
        batches=clients.batches,
        changes=reader.changes,
        skew_s=_SKEW_S,
        # The wall clock of a request runs ahead of the shared time until the next request starts.
        lateness_s=TIMEOUT_S[RECORD],
    )
    return Run(
        evidence=evidence,
        faults=faults,
        conflicts=wire.conflicts,
        deliveries=source.deliveries,
        partial_answers=source.partial_answers,
        elapsed_s=time.monotonic() - started_s,
    )


def _to_be_put(workload: Workload, phase: Phase, before: Phase | None) -> list[str]:
    """The organizations whose status must change before the phase starts."""
    if before is not None:
        return sorted({*phase.inactive} ^ {*before.inactive})
    used = {operation.organization for operation in workload.operations}
    return [organization for organization in ORGANIZATIONS if organization in used]


def _prepare(engine: Engine, table: str, number: int, phase: Phase, random: Random) -> None:
    for way in phase.damaged:
        engine.dynamodb.put_item(TableName=table, Item=_damaged(f"damaged-{number}-{way}", way))
    if phase.swept:
        # TTL deletes items late, so some expired items remain.
        for item in engine.items(table):
            expires_at_s = int(item.get("expiresAt", {}).get("N", "0"))
            if 0 < expires_at_s <= phase.starts_at_s and random.random() < 0.5:
                engine.dynamodb.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})


def _damaged(key: str, way: int) -> dict[str, Any]:
    """A usage record or notice that can never be published, damaged in the way with this number."""
    item: dict[str, Any] = payload("stream-new.json")["Records"][0]["dynamodb"]["NewImage"]
    bucket = sha256(key.encode()).hexdigest()[:2]
    item |= {"pk": {"S": f"usage#acme#{bucket}"}, "sk": {"S": key}, "organizationId": {"S": "acme"}}
    item |= {"expiresAt": {"N": "99999999999"}}
    notice = {
        "pk": {"S": "notice#acme#2026-10"},
        "sk": {"S": f"{key}#1000#100"},
        "currentUsage": {"N": "1000"},
        "noticedAt": {"S": "2026-10-31T00:00:00.000Z"},
        "eventId": {"S": key},
        "expiresAt": {"N": "99999999999"},
    }
    match way:
        case 0:
            del item["quantity"]
        case 1:
            item["organizationId"] = {"S": "bolt"}
        case 2:
            item["quantity"] = {"N": "1.5"}
        case 3:
            item["billingPeriod"] = {"S": "November"}
        case 4:
            return notice | {"currentUsage": {"N": "-1"}}
        case _:
            del notice["eventId"]
            return notice
    return item


class _Clients:
    """Backend services that record usage and retry, each on its own thread."""

    def __init__(
        self,
        workload: Workload,
        environments: list[Environment],
        shared_clock: SharedClock,
        faults: Faults,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self._workload = workload
        self._shared_clock = shared_clock
        self._faults = faults
        self._on_progress = on_progress
        self._idle: queue.Queue[Environment] = queue.Queue()
        for environment in environments:
            self._idle.put(environment)
        self._lock = threading.Lock()
        self._done = 0
        self.log: list[Attempt] = []
        self.batches: list[BatchAttempt] = []

    def work(self, phase_number: int, phase: Phase, others: Others) -> None:
        """Run the operations and actions of the phase. Return after every client finished or gave up."""
        tick_s = phase.lasts_s / max(1, len(phase.operations) + len(phase.actions))

        def work_off(turn: tuple[Work | Action, ...]) -> None:
            for each in turn:
                with self._lock:
                    # Use whole milliseconds, like stored times, so that both compare in the same order everywhere.
                    self._shared_clock.at_s = round(self._shared_clock.at_s + tick_s, 3)
                    self._done += isinstance(each, Operation | Batch)
                    done = self._done
                if isinstance(each, Operation):
                    self._do(phase_number, each)
                elif isinstance(each, Batch):
                    self._do_batch(phase_number, each)
                else:
                    others.do(each)
                if self._on_progress:
                    self._on_progress(done)

        with ThreadPoolExecutor(self._workload.clients) as pool:
            list(pool.map(work_off, turns(phase, self._workload.clients)))

    def ask_for_totals(self, phase_number: int) -> None:
        """Send the last recorded usage of each counter again. The replay answers the counter's total."""
        last: dict[tuple[str, str, str], Attempt] = {}
        for attempt in [*self.log, *(each for batch in self.batches for each in batch.attempts)]:
            if attempt.recorded and attempt.phase == phase_number:
                last[attempt.organization, str(attempt.content["feature"]), attempt.key] = attempt
        asked = {(organization, feature): attempt for (organization, feature, _), attempt in last.items()}
        for number, attempt in enumerate(asked.values()):
            again = Operation(-1 - number, attempt.organization, attempt.key)
            self._attempt(phase_number, again, UNTIL_ANSWERED, attempt.content)

    def _do(self, phase: int, operation: Operation) -> None:
        def attempt(number: int) -> bool:
            return self._attempt(phase, operation, number)

        _until_answered(attempt, operation.patience, impatient=operation.impatient)

    def _do_batch(self, phase: int, batch: Batch) -> None:
        sent = tuple(_sent(batch.organization, item) for item in batch.items)
        left = list(range(len(sent)))

        def attempt(number: int) -> bool:
            chosen = list(left)
            done = self._attempt_batch(phase, batch, number, [sent[place] for place in chosen])
            if batch.trims:
                # Do not send records with a final answer again.
                left[:] = [place for place, is_done in zip(chosen, done, strict=True) if not is_done]
            return all(done)

        # Two parallel attempts must send the same records.
        impatient = batch.impatient and not batch.trims
        _until_answered(attempt, batch.patience, impatient=impatient)

    def _attempt(self, phase: int, operation: Operation, number: int, sent: dict[str, Any] | None = None) -> bool:
        """Send the request once.

        Returns: whether the answer is final.
        """
        if sent is None:
            changed = number >= operation.changes_after
            variant = (operation.variant + changed) % VARIANTS
            sent = content(operation.organization, operation.key, variant)
        trace_id = f"request-{operation.id}.{number}"
        exchange = self._invoke(_event(operation, number, sent, trace_id), operation.id, number)
        attempt = Attempt(
            operation=operation.id,
            number=number,
            phase=phase,
            organization=operation.organization,
            key=operation.key,
            content=sent,
            trace_id=trace_id,
            **vars(exchange),
        )
        with self._lock:
            self.log.append(attempt)
        return _is_for_good(attempt)

    def _attempt_batch(
        self, phase: int, batch: Batch, number: int, sent: list[tuple[Sent, dict[str, Any]]]
    ) -> list[bool]:
        """Send these records of the batch once.

        Returns: for each record, whether its answer is final.
        """
        trace_id = f"request-{batch.id}.{number}"
        exchange = self._invoke(_batch_event(batch, [raw for _, raw in sent], trace_id), batch.id, number)
        attempt = BatchAttempt(
            operation=batch.id,
            number=number,
            phase=phase,
            organization=batch.organization,
            records=tuple(each for each, _ in sent),
            trace_id=trace_id,
            **vars(exchange),
        )
        with self._lock:
            self.batches.append(attempt)
        answered = {each.index for each in attempt.attempts if _is_for_good(each)}
        is_answered = attempt.status not in (None, 503)
        return [is_answered if each.flawed else index in answered for index, (each, _) in enumerate(sent)]

    def _invoke(self, event: Any, operation: int, number: int) -> "_Exchange":
        environment = self._idle.get()
        began, began_at_s = time.monotonic_ns(), self._shared_clock.at_s
        try:
            answer = environment.invoke(event, f"record {operation}.{number}")
            if self._faults.at(environment.next_call(ANSWER)) is not None:
                answer = None
        except Died:
            answer = None
        finally:
            ended_at_s = self._shared_clock.at_s + environment.clock.late_s
            self._idle.put(environment)
        return _Exchange(
            began=began,
            ended=time.monotonic_ns(),
            began_at_s=began_at_s,
            ended_at_s=ended_at_s,
            # API Gateway answers 500 if the runtime reports an error.
            status=None if answer is None else answer.get("statusCode", 500),
            headers={} if answer is None else answer.get("headers", {}),
            body={} if answer is None else json.loads(answer.get("body", "{}")),
            environment=environment.number,
        )


@dataclass(frozen=True)
class _Exchange:
    """The times and the answer of one request, with the field names of `Attempt`."""

    began: int
    ended: int
    began_at_s: float
    ended_at_s: float
    status: int | None
    headers: dict[str, str]
    body: dict[str, Any]
    environment: int


def _until_answered(attempt: Callable[[int], bool], patience: int, *, impatient: bool) -> None:
    """Make numbered attempts until one gets a final answer. If `impatient`, make the first two in parallel."""
    numbers = iter(range(patience))
    if impatient:
        first_two = list(itertools.islice(numbers, 2))
        with ThreadPoolExecutor(2) as pool:
            if any(list(pool.map(attempt, first_two))):
                return
    for number in numbers:
        if attempt(number):
            return


def _is_for_good(attempt: Attempt) -> bool:
    return attempt.status is not None and attempt.status != 503


def _sent(organization: str, item: Item) -> tuple[Sent, Any]:
    """A record of a batch as the client logs it, and as the client sends it."""
    sent = content(organization, item.key, item.variant)
    raw = {**sent, "idempotencyKey": item.key}
    return Sent(item.key, sent, item.flaw is not None), raw if item.flaw is None else flawed(raw, item.flaw)


def _event(operation: Operation, number: int, sent: dict[str, Any], trace_id: str) -> Any:
    # The same content, but with its members in another order in each attempt.
    members = list(sent.items())
    Random(trace_id).shuffle(members)
    body = dict(members)
    claims = {"org_id": operation.organization}
    if number % 2:
        return record_request(body, headers={"idempotency-key": operation.key}, claims=claims, request_id=trace_id)
    return record_request({**body, "idempotencyKey": operation.key}, claims=claims, request_id=trace_id)


def _batch_event(batch: Batch, records: list[Any], trace_id: str) -> Any:
    order = Random(trace_id)
    shuffled = [
        dict(order.sample(list(each.items()), len(each))) if isinstance(each, dict) else each for each in records
    ]
    return batch_request(shuffled, claims={"org_id": batch.organization}, request_id=trace_id)
