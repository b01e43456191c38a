"""Keeps each test on real time within one UTC month, because a new billing period starts totals at 0."""

import time
from datetime import UTC, datetime, timedelta


def wait_s(now: datetime, lasts_s: float) -> float:
    """The seconds to wait at `now` (UTC), so that the month lasts at least `lasts_s` longer.

    The result is 0.0, except right before the end of a month.
    """
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    left_s = ((first + timedelta(days=32)).replace(day=1) - now).total_seconds()
    return left_s if left_s < lasts_s else 0.0


def wait_for_room(lasts_s: float) -> None:
    """Wait until the UTC month lasts at least `lasts_s` longer. Waits only near the month's end."""
    # Check again, because the sleep may end slightly early.
    while (left_s := wait_s(datetime.now(UTC), lasts_s)) > 0:
        time.sleep(left_s)
