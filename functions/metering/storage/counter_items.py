"""The counter: a set of items whose sum is the total of one feature in one billing period.

    pk = counter#<organization>#<period>   sk = <feature>#<shard>  part of the total, summed on read: shards 0 to 7
    pk = counter#<organization>#<period>   sk = <feature>#pages    how many pages of shards there are, if more than one
    pk = counter#<organization>#<period>#<feature>#<page>
                                           sk = <feature>#<shard>  shards of a further page: page 1 has 8 to 15

Organizations and features hold no `#`, so a stored key decodes to exactly one set of parts. Whoever adds to a further
page has seen it announced, so whoever then reads the announcement misses none.
"""

import re
from collections.abc import Mapping
from typing import Any

from metering.model.names import FEATURE_PATTERN, ORGANIZATION_PATTERN
from metering.model.periods import BILLING_PERIOD_PATTERN
from metering.model.usage import MAX_TOTAL, CounterId
from metering.storage.attributes import Item, text_in, whole_number_in
from metering.storage.signals import MalformedItem

COUNTER_PREFIX = "counter#"
FIRST_SHARD = 0
# A partition key serves about 1,000 write units a second and an addition in a transaction costs two: eight items that
# are held for 6 ms each, at the share of the time at which few meet, take half of that.
SHARDS_PER_PAGE = 8
# What a reader of the total has to ask at most.
MAX_PAGES = 64
# In the key of a counter's announcement, and the attribute that says how many there are.
PAGES = "pages"
# On a counter's first shard: all of the counter is in it, and a hard limit may rely on that.
HARD = "hard"


def counter_partition(organization: str, billing_period: str) -> str:
    """The partition key under which the first page of all counters of an organization's billing period lives."""
    return f"{COUNTER_PREFIX}{organization}#{billing_period}"


def page_partition(counter: CounterId, page: int) -> str:
    """The partition key under which a page of this counter's shards lives, from 0 on; each further one has its own."""
    first = counter_partition(counter.organization, counter.billing_period)
    return first if page == 0 else f"{first}#{counter.feature}#{page}"


def pages_key(counter: CounterId) -> Item:
    """Where the counter's pages are announced: on its first page, where every reader looks."""
    return {
        "pk": {"S": page_partition(counter, 0)},
        "sk": {"S": f"{counter_prefix(counter.feature)}{PAGES}"},
    }


def pages_announced(item: Mapping[str, Any]) -> int | None:
    """How many pages this item of a first page announces; None: it is a shard.

    Raises:
        MalformedItem: it announces none.
    """
    return pages_in(item) if text_in(item, "sk").endswith(f"#{PAGES}") else None


def pages_in(announcement: Mapping[str, Any]) -> int:
    """How many pages this announcement tells of.

    Raises:
        MalformedItem: it tells of none.
    """
    return whole_number_in(announcement, PAGES, 1, MAX_PAGES)


def counter_prefix(feature: str) -> str:
    """What the sort keys of all shards of this feature's counter begin with, and of no other's."""
    return f"{feature}#"


def counter_of(keys: Mapping[str, Any]) -> CounterId:
    """The counter that the item with these keys is part of: a shard of any page, or what announces its pages.

    Raises:
        MalformedItem: these are no counter's keys.
    """
    first = rf"{COUNTER_PREFIX}({ORGANIZATION_PATTERN})#({BILLING_PERIOD_PATTERN})"
    further = rf"(?:#({FEATURE_PATTERN})#[1-9][0-9]*)?"
    pk, sk = text_in(keys, "pk"), text_in(keys, "sk")
    page, item = re.fullmatch(first + further, pk), re.fullmatch(rf"({FEATURE_PATTERN})#(?:[0-9]+|{PAGES})", sk)
    if page is None or item is None or page[4] not in (None, item[1]):
        raise MalformedItem("pk and sk are not those of a counter")
    return CounterId(page[1], page[2], item[1])


def counter_feature(shard: Mapping[str, Any]) -> str:
    """The feature whose counter this shard, or its key, is part of."""
    feature: str = shard["sk"]["S"].rpartition("#")[0]
    return feature


def counter_shard(shard: Mapping[str, Any]) -> int:
    """The number of this shard of a counter.

    Raises:
        MalformedItem: it has none.
    """
    return int(text_in(shard, "sk", rf"{FEATURE_PATTERN}#[0-9]{{1,4}}").rpartition("#")[2])


def counter_total(shard: Mapping[str, Any]) -> int:
    """What was added to this shard of a counter.

    Raises:
        MalformedItem: it has no total.
    """
    return whole_number_in(shard, "total", 0, MAX_TOTAL)


def counter_key(counter: CounterId, shard: int) -> Item:
    """The key of this shard of the counter."""
    return {
        "pk": {"S": page_partition(counter, shard // SHARDS_PER_PAGE)},
        "sk": {"S": f"{counter_prefix(counter.feature)}{shard}"},
    }
