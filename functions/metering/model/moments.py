"""Moments: the texts that the service reads, and the text that it stores, publishes and compares.

    2026-11-23T00:20:04.123Z    2026-11-23t01:20:04+01:00    2026-12-31T23:59:60Z    read: RFC 3339, with an offset
    2026-11-23T00:20:04.123Z                                                         written: milliseconds, in UTC

This module parses every moment from outside, so that the same text means the same moment everywhere.
"""

import re
from datetime import UTC, datetime

# Source: RFC 3339, section 5.6. `T` and `Z` can be lower case, and a minute can have a leap second.
MOMENT_PATTERN = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)


def parse(text: str) -> datetime:
    """Return the moment that `text` names, in UTC. Digits below a microsecond are cut off.

    A leap second counts as the second before it. Every minute can have a leap second here, because a table of the
    announced leap seconds would need updates.

    Raises:
        ValueError: `text` is not an RFC 3339 moment, or names a moment that does not exist.
    """
    if re.fullmatch(MOMENT_PATTERN, text) is None:
        raise ValueError("not a moment with an offset from UTC, such as 2026-11-23T00:20:04Z")
    if text[17:19] == "60":
        text = f"{text[:17]}59{text[19:]}"
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # OverflowError: its year in UTC is before 1 or after 9999
        raise ValueError("not a moment that exists") from None


def whole_milliseconds(moment: datetime) -> datetime:
    """Return `moment` cut to whole milliseconds, the precision of stored and published moments."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def to_timestamp(moment: datetime) -> str:
    """Return `moment` as ISO 8601 in UTC with milliseconds: `2026-11-23T00:20:04.123Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_epoch_s(moment: datetime) -> int:
    """Return whole seconds since 1970, rounded down. DynamoDB's TTL compares in this form."""
    return int(moment.timestamp() // 1)
