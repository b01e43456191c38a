"""Billing periods, which are UTC months, and the expiry of records."""

from datetime import UTC, date, datetime, timedelta

from metering.model.moments import to_epoch_s

BILLING_PERIOD_PATTERN = r"[1-9][0-9]{3}-(0[1-9]|1[0-2])"
# The days of the longest billing period.
MAX_DAYS = 31


def billing_period_of(moment: datetime) -> str:
    """Return the billing period of an aware `moment`: its UTC month."""
    return moment.astimezone(UTC).strftime("%Y-%m")


def start_of(billing_period: str) -> datetime:
    """Return the first moment of the billing period, in UTC."""
    return datetime.fromisoformat(f"{billing_period}-01").replace(tzinfo=UTC)


def end_of(billing_period: str) -> datetime:
    """Return the first moment after the billing period, in UTC. The next billing period starts at this moment."""
    return (start_of(billing_period) + timedelta(days=MAX_DAYS)).replace(day=1)


def day_in_period(billing_period: str, moment: datetime) -> int:
    """Return the day of an aware `moment` in its billing period, from 1 on: 1 plus the days since the first day.

    It is not the day of the month. A period that begins on 28 February holds two days that are a 28th.
    """
    return 1 + (moment.astimezone(UTC).date() - start_of(billing_period).date()).days


def date_in_period(billing_period: str, day: int) -> date:
    """Return the UTC date of this day of the billing period. The first day is day 1, as in `day_in_period`."""
    return start_of(billing_period).date() + timedelta(days=day - 1)


def expiry(recorded_at: datetime, retention: timedelta) -> int:
    """Return the epoch second at which a record from `recorded_at` expires."""
    return to_epoch_s(recorded_at) + int(retention.total_seconds())
