"""Reads of counters, page by page, and the announcement of further pages.

One consistent query reads a whole page. Each page has its own query, so the pages of a total come from different
moments.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from metering.model.usage import CounterId
from metering.storage.attributes import Item
from metering.storage.counter_items import (
    DAY_ATTRIBUTES,
    FIRST_SHARD,
    HARD,
    PAGES,
    counter_days,
    counter_feature,
    counter_partition,
    counter_prefix,
    counter_shard,
    counter_total,
    page_partition,
    pages_announced,
    pages_in,
    pages_key,
)
from metering.storage.failures import busy_when_unanswered
from metering.storage.retry import RetryBudget, until_answered
from metering.storage.signals import MalformedItem, StoreBusy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

# The recording path reads totals all the time, so only the reads that ask for days transfer them.
_TOTALS = "sk, #total, #pages, #hard"
_DAYS = ", ".join([_TOTALS, *DAY_ATTRIBUTES.values()])


class FirstPage(NamedTuple):
    """A counter as its first page shows it. The defaults describe a counter that has no item yet."""

    total: int = 0
    """The sum of the shards in this page."""
    shards: int = 0
    """The highest number of an existing shard, plus 1. 0: the page has no shard."""
    pages: int = 1
    """The number of announced pages, including this one."""
    is_soft: bool = False
    """Whether the counter is soft. A soft counter can use several shards, and stays soft in its billing period."""
    days: Counter[int] = Counter()  # noqa: RUF012 - never changed in place
    """The total by day of the billing period, for a read that asks for days."""

    def with_item(self, item: Item, *, by_day: bool = False) -> "FirstPage":
        """Return this page with one more item included.

        Raises:
            MalformedItem: the item is neither a valid shard nor a valid announcement of pages.
        """
        announced = pages_announced(item)
        if announced is not None:
            return self._replace(pages=announced)
        shard = counter_shard(item)
        is_soft = self.is_soft or (shard == FIRST_SHARD and HARD not in item)
        days = self.days + counter_days(item) if by_day else self.days
        return FirstPage(self.total + counter_total(item), max(self.shards, shard + 1), self.pages, is_soft, days)


def first_page(client: "DynamoDBClient", table: str, counter: CounterId) -> FirstPage:
    """Return the counter's first page, with all usage and announcements that were acknowledged before this call.

    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer.
        MalformedItem: an item of the page cannot be read.
    """
    return reduce(FirstPage.with_item, _page(client, table, counter, 0), FirstPage())


def page_total(client: "DynamoDBClient", table: str, counter: CounterId, page: int) -> int:
    """Return the sum of the shards in one of the counter's pages. The read is consistent.

    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer.
        MalformedItem: a shard of the page has no valid total.
    """
    return sum(counter_total(shard) for shard in _page(client, table, counter, page))


def page_days(client: "DynamoDBClient", table: str, counter: CounterId, page: int) -> Counter[int]:
    """Return the sum of the shards in one of the counter's pages, by day. The read is consistent.

    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer.
    """
    return sum((counter_days(shard) for shard in _page(client, table, counter, page, by_day=True)), Counter[int]())


def total_of_further_pages(
    client: "DynamoDBClient", table: str, counter: CounterId, pages: int, budget: RetryBudget
) -> int:
    """Return the sum of the counter's pages after the first, for a counter with this many `pages`.

    Each page is one consistent read.

    Raises:
        Unavailable: the deadline passed before all pages were read.
        MalformedItem: a shard of a page has no valid total.
    """
    return sum(_further_pages(partial(page_total, client, table, counter), pages, budget))


def days_of_further_pages(
    client: "DynamoDBClient", table: str, counter: CounterId, pages: int, budget: RetryBudget
) -> Counter[int]:
    """Return the same sum as `total_of_further_pages`, by day of the billing period.

    Raises:
        Unavailable: the deadline passed before all pages were read.
    """
    return sum(_further_pages(partial(page_days, client, table, counter), pages, budget), Counter[int]())


def first_pages(
    client: "DynamoDBClient",
    table: str,
    organization: str,
    billing_period: str,
    *,
    feature: str = "",
    by_day: bool = False,
    ask: Callable[[Callable[[], Any]], Any] = lambda call: call(),
) -> dict[str, FirstPage | MalformedItem]:
    """Return the first pages of the organization's counters in a billing period, by feature.

    With a `feature`, only its counter is read. With `by_day`, each page has its days. The result for a counter with a
    malformed item is a MalformedItem. Many counters need several queries, and only each query by itself is consistent.
    `ask` runs each query, for example with retries.

    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer.
    """
    found: dict[str, FirstPage | MalformedItem] = {}
    after: Item | None = None
    while True:
        partition = counter_partition(organization, billing_period)
        query = partial(_query, client, table, partition, feature, after, by_day=by_day)
        answer = ask(query)
        for item in answer["Items"]:
            name = counter_feature(item)
            page = found.get(name, FirstPage())
            if isinstance(page, FirstPage):
                try:
                    found[name] = page.with_item(item, by_day=by_day)
                except MalformedItem as malformed:
                    found[name] = malformed
        after = answer.get("LastEvaluatedKey")
        if after is None:
            return found


def announce(client: "DynamoDBClient", table: str, counter: CounterId, pages: int) -> int:
    """Announce that the counter has at least this many `pages`. Usage is added to a page only after its announcement.

    A read of the total reads the first page, and then every page that the first page announces. So the total includes
    all usage that was recorded before the read.

    Returns: the number of pages announced now.
    Raises:
        StoreBusy: DynamoDB throttled the call or did not answer. It is unknown whether the announcement was written.
        MalformedItem: another announcement is stored, and it has no valid number of pages.
    """
    try:
        with busy_when_unanswered():
            client.update_item(
                TableName=table,
                Key=pages_key(counter),
                # The announcement has a total of 0, so a sum of all items with the feature's prefix stays correct.
                UpdateExpression="SET #pages = :pages, #total = :none",
                ConditionExpression="attribute_not_exists(#pages) OR #pages < :pages",
                ExpressionAttributeNames={"#pages": PAGES, "#total": "total"},
                ExpressionAttributeValues={":pages": {"N": str(pages)}, ":none": {"N": "0"}},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
    except client.exceptions.ConditionalCheckFailedException as others:
        answer: Any = others.response
        return pages_in(answer["Item"])
    except client.exceptions.TransactionConflictException:
        raise StoreBusy("another write holds the announcement") from None
    return pages


def _further_pages(ask: Callable[[int], T], pages: int, budget: RetryBudget) -> Iterator[T]:
    return (until_answered(partial(ask, page), budget) for page in range(1, pages))


def _page(client: "DynamoDBClient", table: str, counter: CounterId, page: int, *, by_day: bool = False) -> list[Any]:
    # At most 9 items of less than 1 KB, so one query returns them all.
    return list(_query(client, table, page_partition(counter, page), counter.feature, by_day=by_day)["Items"])


def _query(
    client: "DynamoDBClient",
    table: str,
    partition: str,
    feature: str,
    after: Item | None = None,
    *,
    by_day: bool = False,
) -> Any:
    condition, values = "pk = :pk", {":pk": {"S": partition}}
    if feature:
        condition += " AND begins_with(sk, :feature)"
        values[":feature"] = {"S": counter_prefix(feature)}
    start: Any = {} if after is None else {"ExclusiveStartKey": after}
    with busy_when_unanswered():
        return client.query(
            TableName=table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ProjectionExpression=_DAYS if by_day else _TOTALS,
            ExpressionAttributeNames={"#total": "total", "#pages": PAGES, "#hard": HARD},
            ConsistentRead=True,
            **start,
        )
