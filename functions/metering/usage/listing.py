"""The list of an organization's usage records, page by page.

The list goes from bucket to bucket, and by idempotency key inside a bucket. A record never changes its position. So a
reader of all pages finds each record that exists all the time exactly once, whatever others write meanwhile.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from metering.model.errors import Unavailable
from metering.model.usage import RecordFilter, Usage
from metering.storage.record_buckets import BucketPart, read_bucket
from metering.storage.retry import RetryBudget, until_answered
from metering.storage.usage_records import BUCKETS, has_expired
from metering.usage.cursors import Position, position_after

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# The maximum number of parallel queries. Each can return 1 MB, which takes several MB of memory, and costs 256 read
# units. botocore's default pool has 10 connections.
AT_ONCE = 8
# A page ends after this many read records. A filter with few matches would otherwise use up the table's throughput.
MAX_EXAMINED = 10_000


class Page(NamedTuple):
    """A part of the list."""

    usages: list[Usage]
    """The unexpired records that match the filter. The list can be empty although more records follow."""
    next: Position | None
    """The position of the next page; None at the end of the list."""


def read_page(
    client: "DynamoDBClient",
    table: str,
    organization: str,
    wanted: RecordFilter,
    start: Position,
    most: int,
    budget: RetryBudget,
    now: datetime,
) -> Page:
    """Return at most `most` records of the organization from `start` on.

    Rounds of parallel queries read the next buckets: first one bucket, then up to AT_ONCE. So an organization with few
    records takes one page. If there are many records, a page reads hardly more than it returns. The page ends at
    `most` records, after MAX_EXAMINED read records, or at the deadline.

    Raises:
        Unavailable: the deadline passed before the first bucket was read.
        MalformedItem: a record cannot be read.
    """
    found: list[Usage] = []
    position: Position | None = start
    examined, width = 0, 1
    late: Unavailable | None = None
    while position is not None and late is None and len(found) < most and examined < MAX_EXAMINED:
        read = partial(read_bucket, client, table, organization, wanted=wanted, most=most - len(found))
        parts, late = _read_round(read, position, width, budget)
        if late is not None and not parts and position == start:
            raise late
        width = min(2 * width, AT_ONCE)
        for bucket, part in enumerate(parts, position.bucket):
            found += [usage for usage in part.usages if not has_expired(usage, now)]
            examined += part.examined
            position = _behind(bucket, part)
            if part.last_key is not None:
                # The later buckets' records come after the rest of this bucket. A later round reads them again.
                width = 1
                break
    if len(found) > most:
        return Page(found[:most], position_after(found[most - 1].idempotency_key))
    return Page(found, position)


def _read_round(
    read: Callable[[int, str | None], BucketPart], position: Position, width: int, budget: RetryBudget
) -> tuple[list[BucketPart], Unavailable | None]:
    """Read a part of each of the next `width` buckets, in parallel.

    On return, all threads have ended, because Lambda would freeze a running thread.

    Returns: the parts up to the first bucket that was not read before the deadline, and that bucket's error.
    """
    afters = {position.bucket: position.after}
    buckets = range(position.bucket, min(position.bucket + width, BUCKETS))
    # Each thread counts its own retries, because a count is not thread-safe.
    budgets = [replace(budget, retries=0) for _ in buckets]
    with ThreadPoolExecutor(len(buckets)) as pool:
        reading = [
            pool.submit(until_answered, partial(read, bucket, afters.get(bucket)), own)
            for bucket, own in zip(buckets, budgets, strict=True)
        ]
    budget.retries += sum(own.retries for own in budgets)
    parts: list[BucketPart] = []
    for part in reading:
        try:
            parts.append(part.result())
        except Unavailable as late:
            return parts, late
    return parts, None


def _behind(bucket: int, part: BucketPart) -> Position | None:
    """Return the position behind a part of this bucket; None at the end of the list."""
    if part.last_key is not None:
        return Position(bucket, part.last_key)
    return Position(bucket + 1) if bucket + 1 < BUCKETS else None
