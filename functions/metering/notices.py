"""Notices: that an organization's usage has reached a threshold of a limit, remembered once and for all.

    pk = notice#<organization>#<billing period>   sk = <feature>#<limit>#<percentage>

There is one for each organization, feature, period, limit and threshold, put if absent: its own record in the stream is
what its event is published from, so whatever crashes, there is one event, and never two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from metering.errors import MalformedItem
from metering.items import (
    BILLING_PERIOD_PATTERN,
    FEATURE_PATTERN,
    MAX_TOTAL,
    ORGANIZATION_PATTERN,
    Item,
    moment_in,
    text_in,
    to_timestamp,
    whole_number_in,
)
from metering.plans import MAX_LIMIT, Feature

NOTICE_PREFIX = "notice#"
# The percentage that stands for the limit itself.
REACHED = 100


@dataclass(frozen=True)
class Notice:
    organization: str
    feature: str
    billing_period: str
    limit: int
    percentage: int
    """The threshold, of the limit; REACHED for the limit itself."""
    current_usage: int
    noticed_at: datetime
    """Aware, UTC, whole milliseconds."""
    event_id: str
    expires_at: int
    """Epoch seconds."""


def thresholds(feature: Feature, total: int) -> list[int]:
    """The thresholds that `total` is at or beyond, as percentages; none of what was never used."""
    if feature.limit is None or total < 1:
        return []
    return [each for each in (*feature.warn_at, REACHED) if total * 100 >= each * feature.limit]


def notice_key(organization: str, billing_period: str, feature: str, limit: int, percentage: int) -> Item:
    """Where a notice lives."""
    return {
        "pk": {"S": f"{NOTICE_PREFIX}{organization}#{billing_period}"},
        "sk": {"S": f"{feature}#{limit}#{percentage}"},
    }


def notice_item(notice: Notice) -> Item:
    """The notice as it is stored."""
    return {
        **notice_key(notice.organization, notice.billing_period, notice.feature, notice.limit, notice.percentage),
        "currentUsage": {"N": str(notice.current_usage)},
        "noticedAt": {"S": to_timestamp(notice.noticed_at)},
        "eventId": {"S": notice.event_id},
        "expiresAt": {"N": str(notice.expires_at)},
    }


def notice_from_item(item: Mapping[str, Any]) -> Notice:
    """The notice that an item, or a stream's image of one, stores.

    Raises:
        MalformedItem: it is not what `notice_item` writes.
    """
    _, organization, billing_period = text_in(
        item, "pk", rf"{NOTICE_PREFIX}{ORGANIZATION_PATTERN}#{BILLING_PERIOD_PATTERN}"
    ).split("#")
    feature, limit, percentage = text_in(item, "sk", rf"{FEATURE_PATTERN}#[0-9]{{1,16}}#[0-9]{{1,3}}").split("#")
    if int(limit) > MAX_LIMIT or not 1 <= int(percentage) <= REACHED:
        raise MalformedItem("sk names no limit and threshold")
    return Notice(
        organization=organization,
        feature=feature,
        billing_period=billing_period,
        limit=int(limit),
        percentage=int(percentage),
        current_usage=whole_number_in(item, "currentUsage", 0, MAX_TOTAL),
        noticed_at=moment_in(item, "noticedAt"),
        event_id=text_in(item, "eventId", r"[\x21-\x7e]{1,64}"),
        expires_at=whole_number_in(item, "expiresAt", 0, 10**12),
    )
