"""Billing periods, which are UTC months, and how long a record is kept."""

from datetime import UTC, datetime, timedelta

from metering.model.moments import to_epoch_s

BILLING_PERIOD_PATTERN = r"[0-9]{4}-(0[1-9]|1[0-2])"


def billing_period_of(moment: datetime) -> str:
    """The billing period that an aware `moment` falls into: its UTC month."""
    return moment.astimezone(UTC).strftime("%Y-%m")


def expiry(recorded_at: datetime, retention: timedelta) -> int:
    """The second at which a record of `recorded_at` ends."""
    return to_epoch_s(recorded_at) + int(retention.total_seconds())
