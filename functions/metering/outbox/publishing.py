"""Publishes what stream records tell of: at least once, with the same id each time, in no order.

Several calls are under way at once. A crash anywhere in here makes Lambda send the same batch again.
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

# The most entries that PutEvents takes.
_CHUNK = 10
# So many calls are under way at once. With a bus that answers within 10 ms, Python has no more time for more of them.
AT_ONCE = 16
# Failed entries are sent again here this often: reporting them would make Lambda send their neighbours again too.
_ROUNDS = 4
# What no retry heals, entry by entry. A denial by policy is not among them: an operator mends that, and the
# stream waits for it. Source: EventBridge API reference, PutEventsResultEntry, ErrorCode.
_NEVER_ACCEPTED = {"InvalidArgument", "MalformedDetail"}
# The same for a call as a whole, by what is in it.
_INVALID_CALLS = {"ValidationException", "RequestEntityTooLargeException"}

TIMEOUTS = Timeouts(connect_s=1.0, read_s=4.0, tries=2)
CLIENT_SETTINGS = {
    # A connection for each thread: beyond the pool's size each call would make its own.
    "max_pool_connections": AT_ONCE,
    # botocore puts its own together anew for every call, which takes a tenth of the call's CPU.
    "user_agent": "usage-metering",
}
# Left of the invocation when the last call starts, its backoff of up to a second included.
RESERVE_S = TIMEOUTS.slowest_s + 1.0 + 1.0


@dataclass(frozen=True)
class PublisherDeps:
    """Where records go, and what sending them needs from outside."""

    events: "EventBridgeClient"
    bus: str
    source: str
    failures: "S3Client"
    failure_bucket: str
    at_once: int
    """So many calls are under way at most. Clients, logger and random are used by as many threads."""
    sleep: Callable[[float], None]
    random: Random
    logger: Logger
    metrics: Metrics


@dataclass(frozen=True)
class _Due:
    """A fact to publish, and the stream record it came from."""

    fact: Fact
    record: Any


@dataclass(frozen=True)
class _Malformed:
    """A stream record that should tell of a fact and does not."""

    reason: str
    record: Any


_Task: TypeAlias = _Due | _Malformed


def publish(
    records: Sequence[dict[str, Any]], deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> str | None:
    """Publish what the stream records tell of for the first time; what was done is added to `counts`.

    1. Ten at a time go to the bus, with several calls under way at once. They are begun in order and end in any, so
       nobody may rely on the order of events.
    2. What of each ten can never be published goes to the failure store then, and counts as done.
    3. At the first record that could be neither, nothing more is begun: the stream sends again from there, so whatever
       was sent after it would only be sent twice. Chunks that started before the failure are still sent.

    A crash between any two calls leaves what was sent before it, which the stream sends again with the same ids.

    Returns: the sequence number of the first record, in the batch's order, that is not done, or None if all are.
    """
    to_do = _to_do(records)
    chunks = [to_do[start : start + _CHUNK] for start in range(0, len(to_do), _CHUNK)]
    blocked = _finish_all(chunks, deps, remaining_s, counts)
    if blocked is None:
        return None
    counts["BatchesReturned"] += 1
    # Every record of a stream has a number; an empty one makes Lambda send the whole batch again.
    return sequence_number(blocked.record)


def _to_do(records: Sequence[Any]) -> list[_Task]:
    """What the records ask for; most of them something, and some nothing."""
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
    """Publish or keep what is in the chunks, several at once; the first that is not done, or None.

    Begun in order by this one thread, so all before the first that fails have been begun, and have ended on return. The
    threads end, too: one that Lambda froze with the environment would go on in another invocation.

    Raises: what was unforeseen in a thread, after all have ended.
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

    # Each thread counts for itself: neither a Counter nor Powertools' metrics can be shared.
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
    """Publish or keep what is in the chunk, up to ten records; the first that is not done, or None."""
    left: list[_Task] = [*_not_sent([each for each in chunk if isinstance(each, _Due)], deps, remaining_s, counts)]
    # Last: in the time that a thousand of them may take, nothing would be published, at no delivery.
    for each in chunk:
        if isinstance(each, _Malformed) and not _keep(each.record, each.reason, deps, remaining_s, counts):
            # Those after it come again with it.
            left.append(each)
            break
    return next((each for each in chunk if each in left), None)


def _not_sent(
    chunk: list[_Due], deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> list[_Due]:
    """Send up to ten facts to the bus; what of them is not done, in order."""
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
    """One PutEvents; what of the chunk is still to be sent, in order."""
    if remaining_s() < RESERVE_S:
        return chunk
    entries = [entry(due.fact, deps.bus, deps.source) for due in chunk]
    try:
        # If the answer is lost, the events may be out: they are sent again, with the same ids.
        answers = deps.events.put_events(Entries=entries)["Entries"]
    except (BotoCoreError, ClientError) as error:
        deps.logger.warning("chunk not accepted", extra={"cause": type(error).__name__, "entries": len(chunk)})
        if not _is_of_the_entries(error):
            return chunk
        if len(chunk) > 1:
            # One of them spoils the call for all: alone, it spoils it for itself.
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
    """Whether the call failed for what is in it, so that no retry of the same can succeed."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] in _INVALID_CALLS
    return isinstance(error, ParamValidationError)


def _keep(
    record: Any, reason: str, deps: PublisherDeps, remaining_s: Callable[[], float], counts: Counter[str]
) -> bool:
    """Put a record that can never be published into the failure store, with the reason; whether it is there now."""
    if remaining_s() < RESERVE_S:
        return False
    # Named by the record alone, so that a second delivery overwrites it, also if the reason is then told otherwise.
    name = hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()
    key = f"{UNPUBLISHABLE}/{name}.json"
    text = json.dumps({"reason": reason, "record": record}, sort_keys=True, default=str)
    try:
        deps.failures.put_object(Bucket=deps.failure_bucket, Key=key, Body=text.encode())
    except (BotoCoreError, ClientError) as error:
        facts = {"cause": type(error).__name__, "key": key}
        deps.logger.exception("failure store did not take a record", extra=facts)
        return False
    counts["RecordsUnpublishable"] += 1
    deps.logger.error("record can never be published", extra={"reason": reason, "key": key})
    return True
