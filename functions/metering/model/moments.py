"""Moments: as others write them, and as we store, publish and compare them.

    2026-11-23T00:20:04.123Z    2026-11-23t01:20:04+01:00    2026-12-31T23:59:60Z    read: RFC 3339, with an offset
    2026-11-23T00:20:04.123Z                                                         written: milliseconds, in UTC

Every moment from outside is read here, so that it means the same everywhere.
"""

import re
from datetime import UTC, datetime

# Source: RFC 3339, section 5.6. `T` and `Z` may be lower case, and a minute may have a leap second.
MOMENT_PATTERN = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)


def parse(text: str) -> datetime:
    """The moment that `text` names, in UTC; digits below a microsecond are cut off.

    A leap second counts as the second before it. Any minute may have one: a table of those that were announced would
    have to be kept up to date.

    Raises:
        ValueError: `text` is not an RFC 3339 moment, or names a moment that does not exist.
    """
    if re.fullmatch(MOMENT_PATTERN, text) is None:
        raise ValueError("not a moment with its offset from UTC, as 2026-11-23T00:20:04Z")
    if text[17:19] == "60":
        text = f"{text[:17]}59{text[19:]}"
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: in UTC, its year is before 1 or after 9999
        raise ValueError("not a moment that exists") from None


def whole_milliseconds(moment: datetime) -> datetime:
    """`moment` without what is below a millisecond, which would be lost when it is stored or published."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def to_timestamp(moment: datetime) -> str:
    """ISO 8601 with milliseconds, in UTC: `2026-11-23T00:20:04.123Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_epoch_s(moment: datetime) -> int:
    """Whole seconds since 1970, rounded down: the form in which DynamoDB's TTL compares."""
    return int(moment.timestamp() // 1)
