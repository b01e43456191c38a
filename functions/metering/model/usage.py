"""Usage, and the counter that adds it up."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from metering.model.periods import day_in_period

# JavaScript holds numbers exactly up to 2^53, which is more than nine million usages of this quantity in one period.
MAX_QUANTITY = 1_000_000_000
# DynamoDB keeps a number of 38 digits exactly.
MAX_TOTAL = 10**38 - 1
# JavaScript holds totals exactly up to this number, so it is the largest limit.
MAX_LIMIT = 2**53 - 1


class CounterId(NamedTuple):
    """A counter's organization, billing period and feature."""

    organization: str
    billing_period: str
    feature: str


class RecordFilter(NamedTuple):
    """The usage records to list: those of a billing period, of a feature, or of both. None: of all."""

    billing_period: str | None = None
    feature: str | None = None


@dataclass(frozen=True)
class Usage:
    """One usage of a feature by an organization: the content of a usage record and of its event."""

    organization: str
    feature: str
    quantity: int
    idempotency_key: str
    fingerprint: str
    event_id: str
    recorded_at: datetime
    """Aware, UTC, whole milliseconds."""
    billing_period: str
    """The UTC month of `recorded_at`, as `2026-11`."""
    expires_at: int
    """Epoch seconds. From this second on, the idempotency key is free again."""
    trace_id: str | None = None
    source_id: str | None = None
    source_type: str | None = None
    metadata: str | None = None
    """The caller's JSON object, as compact text."""

    @property
    def counter(self) -> CounterId:
        """The counter that includes this usage."""
        return CounterId(self.organization, self.billing_period, self.feature)

    @property
    def day(self) -> int:
        """The day of the billing period that counts this usage, from 1 on."""
        return day_in_period(self.billing_period, self.recorded_at)
