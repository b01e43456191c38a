"""Counters, read page by page, and the announcement of further pages. Consistent, each page by itself."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from metering.model.usage import CounterId
from metering.storage.attributes import Item
from metering.storage.counter_items import (
    FIRST_SHARD,
    HARD,
    PAGES,
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


class FirstPage(NamedTuple):
    """A counter as its first page shows it."""

    total: int
    """Of the shards in this page."""
    shards: int
    """Up to the last one that there is; 0: the counter was not begun."""
    pages: int
    """As many as are announced, this one included."""
    is_soft: bool
    """Whether it was begun, and may spread over shards: no hard limit will hold in its period. That stays so."""


def first_page(client: "DynamoDBClient", table: str, counter: CounterId) -> FirstPage:
    """The counter's first page. Consistent: whatever was answered as recorded or announced before this call is in it.

    Raises:
        StoreBusy: throttled or unanswered.
    """
    total, shards, pages, is_soft = 0, 0, 1, False
    for item in _page(client, table, counter, 0):
        announced = pages_announced(item)
        if announced is not None:
            pages = announced
            continue
        shard = counter_shard(item)
        total += counter_total(item)
        shards = max(shards, shard + 1)
        is_soft = is_soft or (shard == FIRST_SHARD and HARD not in item)
    return FirstPage(total, shards, pages, is_soft)


def page_total(client: "DynamoDBClient", table: str, counter: CounterId, page: int) -> int:
    """What the shards of one of the counter's pages add up to. Consistent.

    Raises:
        StoreBusy: throttled or unanswered.
    """
    return sum(counter_total(shard) for shard in _page(client, table, counter, page))


def total_of_further_pages(
    client: "DynamoDBClient", table: str, counter: CounterId, pages: int, budget: RetryBudget
) -> int:
    """What the counter comes to beside its first page, when so many `pages` are announced. Consistent, each by itself.

    Raises:
        Unavailable: the deadline came first.
    """
    ask = partial(page_total, client, table, counter)
    return sum(until_answered(partial(ask, page), budget) for page in range(1, pages))


class FirstPages(NamedTuple):
    """What one organization used in a billing period, by feature, as one page of its counters' first pages shows it."""

    totals: Counter[str]
    pages: dict[str, int]
    """As many as are announced, of those features that have more than the first."""
    malformed: dict[str, MalformedItem]
    """Features of whose counters an item cannot be read; the others are as they should be."""
    after: Item | None
    """Where the next such page begins; None: there is no next one."""


def first_pages(
    client: "DynamoDBClient",
    table: str,
    organization: str,
    billing_period: str,
    after: Item | None = None,
    *,
    feature: str = "",
) -> FirstPages:
    """One page of the organization's usage in the billing period, or of one `feature` of it alone.

    It is the first one, or the one `after` another. A feature's shards may stand on two of them: whoever reads several
    adds them up. Consistent, each by itself.

    Raises:
        StoreBusy: throttled or unanswered.
    """
    answer = _ask(client, table, counter_partition(organization, billing_period), feature, after)
    found = FirstPages(Counter(), {}, {}, answer.get("LastEvaluatedKey"))
    for item in answer["Items"]:
        name = counter_feature(item)
        try:
            announced = pages_announced(item)
            if announced is None:
                found.totals[name] += counter_total(item)
            else:
                found.pages[name] = announced
        except MalformedItem as malformed:
            found.malformed[name] = malformed
    return found


def all_first_pages(ask: Callable[[Item | None], FirstPages]) -> FirstPages:
    """All of them added up: `ask` is asked for the first one, and then for each that comes after another."""
    found = ask(None)
    after = found.after
    while after is not None:
        more = ask(after)
        found.totals.update(more.totals)
        found.pages.update(more.pages)
        found.malformed.update(more.malformed)
        after = more.after
    return found._replace(after=None)


def announce(client: "DynamoDBClient", table: str, counter: CounterId, pages: int) -> int:
    """Have it known that the counter has so many `pages`, or more: nobody adds to a page before this has returned it.

    Whoever sums a counter reads its first page and then every page that it found announced there: it so misses nothing
    that was recorded before.

    Returns: how many are announced now.
    Raises:
        StoreBusy: throttled or unanswered; it may be announced.
    """
    try:
        with busy_when_unanswered():
            client.update_item(
                TableName=table,
                Key=pages_key(counter),
                # Without usage of its own: whoever sums all that begins with the feature need not know of it.
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


def _page(client: "DynamoDBClient", table: str, counter: CounterId, page: int) -> list[Any]:
    # At most 9 items of a few hundred bytes: always one answer.
    return list(_ask(client, table, page_partition(counter, page), counter.feature)["Items"])


def _ask(client: "DynamoDBClient", table: str, partition: str, feature: str, after: Item | None = None) -> Any:
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
            ProjectionExpression="sk, #total, #pages, #hard",
            ExpressionAttributeNames={"#total": "total", "#pages": PAGES, "#hard": HARD},
            ConsistentRead=True,
            **start,
        )
