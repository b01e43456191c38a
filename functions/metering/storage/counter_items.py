"""The counter: a set of items whose sum is the total of one feature in one billing period.

    pk = counter#<organization>#<period>   sk = <feature>#<shard>  part of the total, summed on read: shards 0 to 7;
                                                                   d01 to d31: the part of each day;
                                                                   listedIn: the list of shard 0 (storage/lists.py)
    pk = counter#<organization>#<period>   sk = <feature>#pages    announcement: the number of pages, if more than one
    pk = counter#<organization>#<period>#<feature>#<page>
                                           sk = <feature>#<shard>  shards of a further page: page 1 has 8 to 15

Organizations and features hold no `#`, so a stored key decodes to exactly one set of parts. Usage is added to a page
only after the page is announced. So a reader of the announcement misses no page.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from metering.model.names import FEATURE_PATTERN, ORGANIZATION_PATTERN
from metering.model.periods import BILLING_PERIOD_PATTERN, MAX_DAYS
from metering.model.usage import MAX_TOTAL, CounterId
from metering.storage.attributes import Item, text_in, whole_number_in
from metering.storage.signals import MalformedItem

COUNTER_PREFIX = "counter#"
FIRST_SHARD = 0
# A partition key serves about 1,000 write units a second, and an addition in a transaction costs two. Each addition
# holds its item for about 6 ms. At a rate with few conflicts, eight items use half of the write units.
SHARDS_PER_PAGE = 8
# The maximum number of pages of a counter, and of queries for its total.
MAX_PAGES = 64
# The end of the sort key of a counter's announcement, and its attribute for the number of pages.
PAGES = "pages"
# An attribute of a counter's first shard. A shard with this attribute holds the whole counter, for a hard limit.
HARD = "hard"


def counter_partition(organization: str, billing_period: str) -> str:
    """Return the partition key of the first page of each counter of the organization in this billing period."""
    return f"{COUNTER_PREFIX}{organization}#{billing_period}"


def page_partition(counter: CounterId, page: int) -> str:
    """Return the partition key of this page of the counter. Page 0 is the first; each further page has its own key."""
    first = counter_partition(counter.organization, counter.billing_period)
    return first if page == 0 else f"{first}#{counter.feature}#{page}"


def pages_key(counter: CounterId) -> Item:
    """Return the key of the announcement of the counter's pages. It is on the first page, which every reader reads."""
    return {
        "pk": {"S": page_partition(counter, 0)},
        "sk": {"S": f"{counter_prefix(counter.feature)}{PAGES}"},
    }


def pages_announced(item: Mapping[str, Any]) -> int | None:
    """Return the number of pages that this item of a first page announces; None if it is a shard.

    Raises:
        MalformedItem: the announcement has no valid number of pages.
    """
    return pages_in(item) if text_in(item, "sk").endswith(f"#{PAGES}") else None


def pages_in(announcement: Mapping[str, Any]) -> int:
    """Return the number of pages in this announcement.

    Raises:
        MalformedItem: the announcement has no valid number of pages.
    """
    return whole_number_in(announcement, PAGES, 1, MAX_PAGES)


def counter_prefix(feature: str) -> str:
    """Return the prefix of the sort keys of this feature's counter. No other counter's sort keys have this prefix."""
    return f"{feature}#"


def counter_of(keys: Mapping[str, Any]) -> CounterId:
    """Return the counter of the item with these keys: a shard of any page, or the announcement of pages.

    Raises:
        MalformedItem: these are not the keys of a counter.
    """
    first = rf"{COUNTER_PREFIX}({ORGANIZATION_PATTERN})#({BILLING_PERIOD_PATTERN})"
    further = rf"(?:#({FEATURE_PATTERN})#[1-9][0-9]*)?"
    pk, sk = text_in(keys, "pk"), text_in(keys, "sk")
    page, item = re.fullmatch(first + further, pk), re.fullmatch(rf"({FEATURE_PATTERN})#(?:[0-9]+|{PAGES})", sk)
    if page is None or item is None or page[4] not in (None, item[1]):
        raise MalformedItem("pk and sk are not the keys of a counter")
    return CounterId(page[1], page[2], item[1])


def counter_feature(shard: Mapping[str, Any]) -> str:
    """Return the feature of the counter that this shard, or its key, belongs to."""
    feature: str = shard["sk"]["S"].rpartition("#")[0]
    return feature


def counter_shard(shard: Mapping[str, Any]) -> int:
    """Return the number of this shard of a counter.

    Raises:
        MalformedItem: the sort key has no shard number.
    """
    return int(text_in(shard, "sk", rf"{FEATURE_PATTERN}#[0-9]{{1,4}}").rpartition("#")[2])


def counter_total(shard: Mapping[str, Any]) -> int:
    """Return the part of the counter's total in this shard.

    Raises:
        MalformedItem: the shard has no valid total.
    """
    return whole_number_in(shard, "total", 0, MAX_TOTAL)


def day_attribute(day: int) -> str:
    """Return the attribute of a shard for the usage of this day of the billing period."""
    return f"d{day:02}"


# The attributes for all days of a billing period, by day.
DAY_ATTRIBUTES = {day: day_attribute(day) for day in range(1, MAX_DAYS + 1)}


def counter_days(shard: Mapping[str, Any]) -> Counter[int]:
    """Return the parts of the shard's total by day of the billing period.

    Raises:
        MalformedItem: the shard has no valid total, or its days do not add up to its total.
    """
    days = Counter(
        {day: whole_number_in(shard, name, 0, MAX_TOTAL) for day, name in DAY_ATTRIBUTES.items() if name in shard}
    )
    if days.total() != counter_total(shard):
        raise MalformedItem("the days do not add up to the total")
    return days


def counter_key(counter: CounterId, shard: int) -> Item:
    """Return the key of this shard of the counter."""
    return {
        "pk": {"S": page_partition(counter, shard // SHARDS_PER_PAGE)},
        "sk": {"S": f"{counter_prefix(counter.feature)}{shard}"},
    }
