"""Checks that readers find all shards of a counter: on the right page, which was announced before its first use."""

from collections.abc import Iterator, Sequence

from tests.faults.evidence import Change, Snapshot
from tests.faults.stored import Announcement, Counted, Shard, announcements_in, counter_item, of_kind, shards_in

_SHARDS_PER_PAGE = 8
_MAX_PAGES = 64


def wide_counters(snapshots: Sequence[Snapshot]) -> set[Counted]:
    """The counters that have more than one page in the last snapshot."""
    return {found.counter for found in announcements_in(snapshots[-1].items)}


def used_pages(snapshots: Sequence[Snapshot]) -> set[tuple[Counted, int]]:
    """All pages after the first that hold usage, as (counter, page)."""
    return {(shard.counter, shard.page) for shard in shards_in(snapshots[-1].items) if shard.page > 0}


def wrong_in(snapshots: Sequence[Snapshot], changes: Sequence[Change]) -> Iterator[str]:
    """Describe every item of a counter that a reader of the total would miss or misread."""
    for snapshot in snapshots:
        announced = {found.counter: found for found in announcements_in(snapshot.items)}
        for item in of_kind("counter", snapshot.items):
            name = f"{item['pk']['S']} {item['sk']['S']}"
            match counter_item(item):
                case None:
                    yield f"{name} is neither a shard nor an announcement"
                case Announcement() as found:
                    yield from (f"{name} {wrong}" for wrong in _wrong_in_announcement(found))
                case Shard() as shard:
                    if shard.page != shard.number // _SHARDS_PER_PAGE or shard.number < 0:
                        yield f"{name} is on the wrong page"
                    if shard.page and (shard.counter not in announced or shard.page >= announced[shard.counter].pages):
                        yield f"{name} is on a page that was not announced"
    yield from _wrong_in_order(changes)


def _wrong_in_announcement(found: Announcement) -> Iterator[str]:
    if found.page != 0:
        yield f"announces pages on page {found.page}"
    if not 2 <= found.pages <= _MAX_PAGES:
        yield f"announces {found.pages} pages"
    if found.total != 0:
        yield f"announces pages and adds {found.total} to the total"


def _wrong_in_order(changes: Sequence[Change]) -> Iterator[str]:
    """Announcements only grow, are never deleted, and come before the first shard on their pages."""
    announced: dict[Counted, int] = {}
    for change in changes:
        name = f"{change.pk} {change.sk}"
        found = None if change.after is None else counter_item(change.after)
        match found:
            case None if change.sk.endswith("#pages"):
                yield f"{name} was deleted"
            case Announcement():
                before = announced.get(found.counter, 1)
                if found.pages <= before:
                    yield f"{name} was announced with {found.pages} pages after {before}"
                announced[found.counter] = found.pages
            case Shard() if found.page >= announced.get(found.counter, 1):
                yield f"{name} was written before its page was announced"
