"""Tests on real time each stay within one UTC month: with the next billing period totals begin anew."""

import time
from datetime import UTC, datetime, timedelta


def wait_s(now: datetime, lasts_s: float) -> float:
    """How long to wait at `now`, in UTC, for a month that goes on for `lasts_s`: 0.0, but right before its end."""
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    left_s = ((first + timedelta(days=32)).replace(day=1) - now).total_seconds()
    return left_s if left_s < lasts_s else 0.0


def wait_for_room(lasts_s: float) -> None:
    """Return in a UTC month that goes on for `lasts_s`: at once, but right before its end."""
    # Again, if the sleep was a little short of the clock.
    while (left_s := wait_s(datetime.now(UTC), lasts_s)) > 0:
        time.sleep(left_s)
