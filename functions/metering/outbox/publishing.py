"""The publishing of facts from stream records: at least once, always with the same id, in no order.

Several calls run at once. After a crash anywhere in this module, Lambda sends the same batch again.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from threading import Event, Semaphore
from typing import TYPE_CHECKING, Any, TypeAlias

from aws_lambda_powertools import Logger, Metrics
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from metering.model.timeouts import Timeouts
from metering.outbox.events import UNPUBLISHABLE, Fact, entry, new_fact
from metering.outbox.stream_batches import sequence_number
from metering.storage.signals import MalformedItem

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client

# The most entries that PutEvents accepts.
_CHUNK = 10
# The most calls that run at once. If the bus answers within 10 ms, Python has no CPU time for more.
AT_ONCE = 16
# The most tries for an entry here. Returning it to the stream would make Lambda send its neighbours again too.
_ROUNDS = 4
# Error codes of entries that no retry can fix. A denial by policy is not among them: the stream waits until an
# operator fixes the policy. Source: EventBridge API reference, PutEventsResultEntry, ErrorCode.
_NEVER_ACCEPTED = {"InvalidArgument", "MalformedDetail"}
# Error codes of calls that no retry can fix, because of their entries.
_INVALID_CALLS = {"ValidationException", "RequestEntityTooLargeException"}

TIMEOUTS = Timeouts(connect_s=1.0, read_s=4.0, tries=2)
CLIENT_SETTINGS = {
    # One connection for each thread. Beyond the pool's size, each call would open its own.
    "max_pool_connections": AT_ONCE,
    # By default, botocore builds its user agent again for every call, which takes a tenth of the call's CPU time.
    "user_agent": "usage-metering",
}
# The time that must be left in the invocation when a call starts. It includes the call's backoff of up to a second.
RESERVE_S = TIMEOUTS.slowest_s + 1.0 + 1.0


@dataclass(frozen=True)
class PublisherDeps:
    """The bus, the failure store, and what else publishing needs from outside."""

    events: "EventBridgeClient"
    bus: str
    source: str
    failures: "S3Client"
    failure_bucket: str
    at_once: int
    """The most calls that run at once. That many threads share the clients, the logger and `random`."""
    sleep: Callable[[float], None]
    random: Random
    logger: Logger
    metrics: Metrics


@dataclass(frozen=True)
class _Due:
    """A fact to publish, and its stream record."""

    fact: Fact
    record: Any


@dataclass(frozen=True)
class _Malformed:
    """A stream record that should hold a fact, but does not."""

    reason: str
    record: Any


_Task: TypeAlias = _Due | _Malformed


def publish(
    records: Sequence[dict[str, Any]], deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> str | None:
    """Publish the new facts in the stream records, and add what was done to `counts`.

    1. Chunks of ten records go to the bus, several at once. They start in order and end in any order, so consumers
       must not rely on the order of events.
    2. Then the records of the chunk that can never be published go to the failure store, and count as done.
    3. After the first record that is neither published nor stored, no further chunk starts. The stream resends
       everything from that record on, so later events would only be sent twice. Chunks that started earlier finish.

    After a crash between two calls, the stream resends all records. Events already published go out again, with the
    same ids.

    Returns: the sequence number of the first record, in the batch's order, that is not done. None if all are done.
    """
    to_do = _to_do(records)
    chunks = [to_do[start : start + _CHUNK] for start in range(0, len(to_do), _CHUNK)]
    blocked = _finish_all(chunks, deps, remaining_s, counts)
    if blocked is None:
        return None
    counts["BatchesReturned"] += 1
    # Every stream record has a sequence number. An empty one makes Lambda send the whole batch again.
    return sequence_number(blocked.record)


def _to_do(records: Sequence[Any]) -> list[_Task]:
    """Return the records' tasks, in order. A record without a new fact has none."""
    to_do: list[_Task] = []
    for record in records:
        try:
            fact = new_fact(record)
        except MalformedItem as malformed:
            to_do.append(_Malformed(str(malformed), record))
        else:
            if fact is not None:
                to_do.append(_Due(fact, record))
    return to_do


def _finish_all(
    chunks: list[list[_Task]], deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> _Task | None:
    """Publish or keep the tasks, several chunks at once. Return the first task that is not done, or None.

    This thread starts the chunks in order. On return, every chunk before the first failed one has therefore ended. All
    threads have ended too, because Lambda would freeze a running one and resume it in another invocation.

    Raises: a thread's unexpected exception, after all threads have ended.
    """
    free = Semaphore(deps.at_once)
    failed = Event()

    def finish(chunk: list[_Task], counted: Counter[str]) -> _Task | None:
        is_done = False
        try:
            first_not_done = _finish(chunk, deps, remaining_s, counted)
            is_done = first_not_done is None
            return first_not_done
        finally:
            if not is_done:
                failed.set()
            free.release()

    # Each thread has its own Counter, because threads can share neither a Counter nor Powertools' metrics.
    begun: list[tuple[Future[_Task | None], Counter[str]]] = []
    with ThreadPoolExecutor(deps.at_once) as pool:
        for chunk in chunks:
            free.acquire()
            if failed.is_set():
                break
            counted: Counter[str] = Counter()
            begun.append((pool.submit(finish, chunk, counted), counted))
    for _, counted in begun:
        counts.update(counted)
    first_of_each = [finishing.result() for finishing, _ in begun]
    return next((each for each in first_of_each if each is not None), None)


def _finish(
    chunk: list[_Task], deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> _Task | None:
    """Publish or keep up to ten tasks. Return the first that is not done, or None."""
    left: list[_Task] = [*_not_sent([each for each in chunk if isinstance(each, _Due)], deps, remaining_s, counts)]
    # Malformed records come last. A thousand of them could otherwise use up the time of every delivery.
    for each in chunk:
        if isinstance(each, _Malformed) and not _keep(each.record, each.reason, deps, remaining_s, counts):
            # The stream resends the records after it too.
            left.append(each)
            break
    return next((each for each in chunk if each in left), None)


def _not_sent(
    chunk: list[_Due], deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> list[_Due]:
    """Send up to ten facts to the bus, with retries. Return those that are not done, in order."""
    for attempt in range(_ROUNDS):
        if not chunk:
            break
        if attempt > 0:
            if remaining_s() < RESERVE_S:
                break
            deps.sleep(deps.random.uniform(0, 0.1 * 2**attempt))
        chunk = _not_done(chunk, deps, remaining_s, counts)
    return chunk


def _not_done(
    chunk: list[_Due], deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> list[_Due]:
    """Call PutEvents once. Return the facts that must be sent again, in order."""
    if remaining_s() < RESERVE_S:
        return chunk
    entries = [entry(due.fact, deps.bus, deps.source) for due in chunk]
    try:
        # If the answer is lost, the events may be published: they are sent again, with the same ids.
        answers = deps.events.put_events(Entries=entries)["Entries"]
    except (BotoCoreError, ClientError) as error:
        deps.logger.warning("chunk not accepted", extra={"cause": type(error).__name__, "entries": len(chunk)})
        if not _is_of_the_entries(error):
            return chunk
        if len(chunk) > 1:
            # One invalid entry fails the whole call. Sent alone, it fails only itself.
            return [left for due in chunk for left in _not_done([due], deps, remaining_s, counts)]
        return [] if _keep(chunk[0].record, f"the bus did not accept it: {error}", deps, remaining_s, counts) else chunk
    counts["EventsPublished"] += sum("ErrorCode" not in answer for answer in answers)
    again: list[_Due] = []
    for due, answer in zip(chunk, answers, strict=True):
        code = answer.get("ErrorCode")
        if code is None:
            continue
        never = code in _NEVER_ACCEPTED
        if not (never and _keep(due.record, f"the bus did not accept it: {code}", deps, remaining_s, counts)):
            again.append(due)
    if again:
        codes = sorted({str(answer["ErrorCode"]) for answer in answers if "ErrorCode" in answer})
        deps.logger.warning("entries not accepted", extra={"codes": codes, "entries": len(again)})
    return again


def _is_of_the_entries(error: BotoCoreError | ClientError) -> bool:
    """Return whether the call failed because of its entries, so that no retry of them can succeed."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] in _INVALID_CALLS
    return isinstance(error, ParamValidationError)


def _keep(
    record: Any, reason: str, deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> bool:
    """Put a record that can never be published into the failure store. Return whether it is stored."""
    if remaining_s() < RESERVE_S:
        return False
    # The record alone decides the name, so a second delivery overwrites the object even with a reason in other words.
    name = hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()
    key = f"{UNPUBLISHABLE}/{name}.json"
    text = json.dumps({"reason": reason, "record": record}, sort_keys=True, default=str)
    try:
        deps.failures.put_object(Bucket=deps.failure_bucket, Key=key, Body=text.encode())
    except (BotoCoreError, ClientError) as error:
        facts = {"cause": type(error).__name__, "key": key}
        deps.logger.exception("failure store did not accept a record", extra=facts)
        return False
    counts["RecordsUnpublishable"] += 1
    deps.logger.error("record can never be published", extra={"reason": reason, "key": key})
    return True
