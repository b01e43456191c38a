"""The notice: stored once, never changed.

    pk = notice#<organization>#<billing period>   sk = <feature>#<limit>#<percentage>

Each organization, feature, period, limit and threshold has one notice. The watcher puts a notice only if it is absent.
The publisher makes the event from the notice's own stream record. So no crash leads to a second event with another id.
"""

from collections.abc import Mapping
from typing import Any

from metering.model.moments import to_timestamp
from metering.model.names import FEATURE_PATTERN, ORGANIZATION_PATTERN
from metering.model.notices import REACHED, Notice
from metering.model.periods import BILLING_PERIOD_PATTERN
from metering.model.usage import MAX_LIMIT, MAX_TOTAL
from metering.storage.attributes import Item, moment_in, text_in, whole_number_in
from metering.storage.signals import MalformedItem

NOTICE_PREFIX = "notice#"


def notice_key(organization: str, billing_period: str, feature: str, limit: int, percentage: int) -> Item:
    """Return the key of a notice."""
    return {
        "pk": {"S": f"{NOTICE_PREFIX}{organization}#{billing_period}"},
        "sk": {"S": f"{feature}#{limit}#{percentage}"},
    }


def notice_item(notice: Notice) -> Item:
    """Return the notice as it is stored."""
    return {
        **notice_key(notice.organization, notice.billing_period, notice.feature, notice.limit, notice.percentage),
        "currentUsage": {"N": str(notice.current_usage)},
        "noticedAt": {"S": to_timestamp(notice.noticed_at)},
        "eventId": {"S": notice.event_id},
        "expiresAt": {"N": str(notice.expires_at)},
    }


def notice_from_item(item: Mapping[str, Any]) -> Notice:
    """Return the notice that an item, or its image in the stream, stores.

    Raises:
        MalformedItem: the item is not in the form that `notice_item` writes.
    """
    _, organization, billing_period = text_in(
        item, "pk", rf"{NOTICE_PREFIX}{ORGANIZATION_PATTERN}#{BILLING_PERIOD_PATTERN}"
    ).split("#")
    feature, limit, percentage = text_in(item, "sk", rf"{FEATURE_PATTERN}#[0-9]{{1,16}}#[0-9]{{1,3}}").split("#")
    if int(limit) > MAX_LIMIT or not 1 <= int(percentage) <= REACHED:
        raise MalformedItem("sk does not name a limit and a threshold")
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
