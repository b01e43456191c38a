"""An organization's usage records and totals, read from the table.

Each read is consistent. A busy table is asked again for a minute.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING

from metering.model.errors import Unavailable
from metering.model.usage import CounterId, RecordFilter, Usage
from metering.storage import counter_pages, ledger
from metering.storage.retry import RetryBudget, until_answered
from metering.storage.signals import MalformedItem
from metering.storage.usage_records import usage_key
from metering.usage import listing
from metering.usage.cursors import START, Position

from ops.errors import RecordUnknown, TableBusy, TableUnreadable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PATIENCE_S = 60.0
# A page of the list ends after about this many read records.
_PAGE_SIZE = listing.MAX_EXAMINED


def budget() -> RetryBudget:
    """Return a new retry budget of a minute."""
    return RetryBudget(time.monotonic() + PATIENCE_S, time.monotonic, time.sleep, SystemRandom())


@contextmanager
def reading() -> Iterator[None]:
    """Turn the failures of reads into messages for a person.

    Raises:
        TableBusy: DynamoDB throttled the reads, or did not answer.
        TableUnreadable: an item does not have the form that this version writes.
    """
    try:
        yield
    except Unavailable as late:
        raise TableBusy(f"DynamoDB did not answer for {PATIENCE_S:g} s: run the command again later.") from late
    except MalformedItem as malformed:
        raise TableUnreadable(f"an item of this organization cannot be read: {malformed}.") from malformed


def get(dynamodb: "DynamoDBClient", table: str, organization: str, idempotency_key: str) -> Usage:
    """Read the record under an idempotency key.

    Raises:
        RecordUnknown: there is none, or it has expired.
    """
    key = usage_key(organization, idempotency_key)
    with reading():
        read = partial(ledger.read_record, dynamodb, table, key, datetime.now(UTC))
        stored = until_answered(read, budget())
    if stored is None:
        raise RecordUnknown(f"{organization} has no usage record under the key {idempotency_key}, or it has expired.")
    return stored.usage


def listed(
    dynamodb: "DynamoDBClient",
    table: str,
    organization: str,
    wanted: RecordFilter,
    advance: Callable[[Position | None], object] = lambda _: None,
) -> Iterator[list[Usage]]:
    """Yield all records that match the filter, part by part: each record that exists all the time, exactly once.

    `advance` is called after each part with the position that the list has reached.
    """
    position: Position | None = START
    while position is not None:
        with reading():
            page = listing.read_page(
                dynamodb, table, organization, wanted, position, _PAGE_SIZE, budget(), datetime.now(UTC)
            )
        yield page.usages
        position = page.next
        advance(position)


def totals(dynamodb: "DynamoDBClient", table: str, organization: str, billing_period: str) -> Counter[str]:
    """Read the totals of all counters in a billing period, by feature."""
    found: Counter[str] = Counter()
    with reading():
        left = budget()
        ask = partial(until_answered, budget=left)
        pages = counter_pages.first_pages(dynamodb, table, organization, billing_period, ask=ask)
        for feature, first in pages.items():
            if isinstance(first, MalformedItem):
                raise first
            counter = CounterId(organization, billing_period, feature)
            further = counter_pages.total_of_further_pages(dynamodb, table, counter, first.pages, left)
            found[feature] = first.total + further
    return found
