"""Usage, and the counter that adds it up."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

# Totals stay exact in JavaScript (2^53) for nine million of the largest quantity in one period.
MAX_QUANTITY = 1_000_000_000
# What a number in DynamoDB keeps exactly.
MAX_TOTAL = 10**38 - 1
# Totals are exact in JavaScript up to here, and so must limits be.
MAX_LIMIT = 2**53 - 1


class CounterId(NamedTuple):
    """A counter's organization, billing period and feature."""

    organization: str
    billing_period: str
    feature: str


@dataclass(frozen=True)
class Usage:
    """One usage of a feature by an organization: what a usage record stores and an event tells."""

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
    """Epoch seconds: from this second on the idempotency key is free again."""
    trace_id: str | None = None
    source_id: str | None = None
    source_type: str | None = None
    metadata: str | None = None
    """The caller's JSON object, as compact text."""

    @property
    def counter(self) -> CounterId:
        """Where it is added up."""
        return CounterId(self.organization, self.billing_period, self.feature)
