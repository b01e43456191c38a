"""Billing periods, which are UTC months, and the expiry of records."""

from datetime import UTC, datetime, timedelta

from metering.model.moments import to_epoch_s

BILLING_PERIOD_PATTERN = r"[0-9]{4}-(0[1-9]|1[0-2])"


def billing_period_of(moment: datetime) -> str:
    """Return the billing period of an aware `moment`: its UTC month."""
    return moment.astimezone(UTC).strftime("%Y-%m")


def expiry(recorded_at: datetime, retention: timedelta) -> int:
    """Return the epoch second at which a record from `recorded_at` expires."""
    return to_epoch_s(recorded_at) + int(retention.total_seconds())
