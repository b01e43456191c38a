"""Publishing: the facts in stream records become events, at least once, always with the same id, in any order.

A fact is new usage or a new notice (`events.Fact`). Several PutEvents calls run in parallel. After a crash anywhere in
this module, Lambda sends the same batch again. Then published events are sent again, with the same ids.
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

# The maximum number of entries in a PutEvents call.
_CHUNK = 10
# The maximum number of parallel calls. If the bus answers within 10 ms, 16 threads use all of Python's CPU time.
AT_ONCE = 16
# How many rounds of tries a chunk gets. After that, Lambda resends the first unfinished record and all later ones, also
# the published ones.
_ROUNDS = 4
# Error codes of entries that no retry can fix. Missing permissions are not among them: an operator can add the
# permission while the stream retries. Source: EventBridge API reference, PutEventsResultEntry, ErrorCode.
_NEVER_ACCEPTED = {"InvalidArgument", "MalformedDetail"}
# Error codes of calls with an invalid entry. A retry of the same call cannot succeed.
_INVALID_CALLS = {"ValidationException", "RequestEntityTooLargeException"}

# At its slowest, a call takes 10 s, and 1 s of backoff between its tries: a fifth of the invocation's 60 s.
TIMEOUTS = Timeouts(connect_s=1.0, read_s=4.0, tries=2)
CLIENT_SETTINGS = {
    # One connection for each thread. With a smaller pool, some calls would open a new connection each time.
    "max_pool_connections": AT_ONCE,
    # By default, botocore builds its user agent again for every call, which takes a tenth of the call's CPU time.
    "user_agent": "usage-metering",
}
# A call starts only if this much time is left in the invocation. It covers the call, 1 s of backoff, and 1 s to return.
RESERVE_S = TIMEOUTS.slowest_s + 1.0 + 1.0


@dataclass(frozen=True)
class PublisherDeps:
    """The publisher's dependencies."""

    events: "EventBridgeClient"
    bus: str
    source: str
    failures: "S3Client"
    failure_bucket: str
    at_once: int
    """The maximum number of parallel calls. That many threads share the clients, the logger and `random`."""
    sleep: Callable[[float], None]
    random: Random
    logger: Logger
    metrics: Metrics


@dataclass(frozen=True)
class _Due:
    """A fact that is due to be published, and its stream record."""

    fact: Fact
    record: Any


@dataclass(frozen=True)
class _Malformed:
    """A stream record that should hold a fact, but does not."""

    reason: str
    record: Any


# A task is done when its fact is published, or when its stream record is in the failure bucket.
_Task: TypeAlias = _Due | _Malformed


def publish(
    records: Sequence[dict[str, Any]], deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> str | None:
    """Publish the new facts in the stream records, and add the number of each outcome to `counts`.

    1. Chunks of up to ten facts go to the bus in parallel. They start in order and end in any order, so consumers must
       not rely on the order of events.
    2. A record that can never be published goes to the failure bucket, and counts as done.
    3. If a record is neither published nor stored, no further chunk starts, because Lambda resends every record from
       that one on. Chunks that have started finish.

    Returns: the sequence number of the first record that is not done, or None if all are done.
    """
    to_do = _to_do(records)
    chunks = [to_do[start : start + _CHUNK] for start in range(0, len(to_do), _CHUNK)]
    blocked = _finish_all(chunks, deps, remaining_s, counts)
    if blocked is None:
        return None
    counts["BatchesReturned"] += 1
    # AWS gives each stream record a sequence number. Without it, the empty text makes Lambda resend the whole batch.
    return sequence_number(blocked.record)


def _to_do(records: Sequence[Any]) -> list[_Task]:
    """Return a task for each record with a new fact, and for each malformed record, in order."""
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
    """Do the tasks, several chunks in parallel. Return the first task that is not done, or None.

    This thread starts the chunks in order, so it skips no chunk before a failed one. On return, all threads have ended,
    because Lambda would freeze a running thread and resume it in another invocation.

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

    # Each chunk has its own Counter, because a Counter and Powertools' metrics are not thread-safe.
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
    """Do up to ten tasks. Return the first task that is not done, or None."""
    left: list[_Task] = [*_send([each for each in chunk if isinstance(each, _Due)], deps, remaining_s, counts)]
    # The chunk's facts come first. Otherwise a thousand malformed records could use up the time of every invocation.
    for each in chunk:
        if isinstance(each, _Malformed) and not _store(each.record, each.reason, deps, remaining_s, counts):
            # Store no later record now, because Lambda resends every record from this one on.
            left.append(each)
            break
    return next((each for each in chunk if each in left), None)


def _send(chunk: list[_Due], deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]) -> list[_Due]:
    """Send up to ten facts to the bus, with retries. Return the facts that are not done, in order."""
    for attempt in range(_ROUNDS):
        if not chunk:
            break
        if attempt > 0:
            if remaining_s() < RESERVE_S:
                break
            deps.sleep(deps.random.uniform(0, 0.1 * 2**attempt))
        chunk = _try_to_send(chunk, deps, remaining_s, counts)
    return chunk


def _try_to_send(
    chunk: list[_Due], deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> list[_Due]:
    """Send the facts in one call, or each alone if one is invalid. Return the facts to send again, in order.

    A fact that the bus can never accept goes to the failure bucket.
    """
    if remaining_s() < RESERVE_S:
        return chunk
    entries = [entry(due.fact, deps.bus, deps.source) for due in chunk]
    try:
        # If the answer is lost, the events are possibly published. They are sent again, with the same ids.
        answers = deps.events.put_events(Entries=entries)["Entries"]
    except (BotoCoreError, ClientError) as error:
        deps.logger.warning(
            "bus did not accept the chunk", extra={"cause": type(error).__name__, "entries": len(chunk)}
        )
        if not _blames_entries(error):
            return chunk
        if len(chunk) > 1:
            # One invalid entry makes the whole call fail. If it is sent alone, the other entries succeed.
            return [left for due in chunk for left in _try_to_send([due], deps, remaining_s, counts)]
        return (
            [] if _store(chunk[0].record, f"the bus did not accept it: {error}", deps, remaining_s, counts) else chunk
        )
    counts["EventsPublished"] += sum("ErrorCode" not in answer for answer in answers)
    again: list[_Due] = []
    for due, answer in zip(chunk, answers, strict=True):
        code = answer.get("ErrorCode")
        if code is None:
            continue
        never = code in _NEVER_ACCEPTED
        if not (never and _store(due.record, f"the bus did not accept it: {code}", deps, remaining_s, counts)):
            again.append(due)
    if again:
        codes = sorted({str(answer["ErrorCode"]) for answer in answers if "ErrorCode" in answer})
        deps.logger.warning("bus did not accept some entries", extra={"codes": codes, "entries": len(again)})
    return again


def _blames_entries(error: BotoCoreError | ClientError) -> bool:
    """Return whether the call failed because of its entries. Then a retry of the same call cannot succeed."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] in _INVALID_CALLS
    return isinstance(error, ParamValidationError)


def _store(
    record: Any, reason: str, deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> bool:
    """Put a record that can never be published into the failure bucket. Return whether it is stored."""
    if remaining_s() < RESERVE_S:
        return False
    # The name depends on the record alone. So a second delivery overwrites the object, even if the reason differs.
    name = hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()
    key = f"{UNPUBLISHABLE}/{name}.json"
    text = json.dumps({"reason": reason, "record": record}, sort_keys=True, default=str)
    try:
        deps.failures.put_object(Bucket=deps.failure_bucket, Key=key, Body=text.encode())
    except (BotoCoreError, ClientError) as error:
        facts = {"cause": type(error).__name__, "key": key}
        deps.logger.exception("failure bucket did not accept a record", extra=facts)
        return False
    counts["RecordsUnpublishable"] += 1
    deps.logger.error("record can never be published", extra={"reason": reason, "key": key})
    return True
