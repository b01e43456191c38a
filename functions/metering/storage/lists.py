"""The lists that name all organizations, and all counters of a billing period, without a read of the whole table.

    listedIn = organizations#<n>    an organization
    listedIn = open#<period>#<n>    a counter of this billing period: its first shard

The organization's hash decides n, from 00 to 63. Each item gets its list in the update that creates it, and the list
never changes. So the index costs one write unit for each item, once.

The index `lists` has the keys of the listed items, by `listedIn`, then pk. Its reads are never consistent, so it only
names items. Read the items themselves for their contents.
"""

import hashlib

from metering.storage.attributes import Item

LISTS = "lists"
LISTED_IN = "listedIn"
# If DynamoDB throttles the index, it throttles the table's writes. A partition key of the index serves 1,000 write
# units per second. So 64 lists serve about 50,000 new counters in the first second of a month (docs/scale.md).
PARTS = 64


def organizations_list(organization: str) -> Item:
    """Return the list of this organization, as `listedIn` stores it."""
    return _list("organizations", _part(organization))


def open_list(organization: str, billing_period: str) -> Item:
    """Return the list of the organization's counters in this billing period, as `listedIn` stores it."""
    return _list(f"open#{billing_period}", _part(organization))


def organizations_lists() -> list[Item]:
    """Return the lists that together name all organizations."""
    return [_list("organizations", part) for part in range(PARTS)]


def open_lists(billing_period: str) -> list[Item]:
    """Return the lists that together name all counters of this billing period."""
    return [_list(f"open#{billing_period}", part) for part in range(PARTS)]


def _list(name: str, part: int) -> Item:
    return {"S": f"{name}#{part:02}"}


def _part(organization: str) -> int:
    return hashlib.sha256(organization.encode()).digest()[0] % PARTS
