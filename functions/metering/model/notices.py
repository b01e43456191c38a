"""Notices: facts that an organization's usage has reached a threshold of a limit."""

from dataclasses import dataclass
from datetime import datetime

# The percentage of the limit itself.
REACHED = 100


@dataclass(frozen=True)
class Notice:
    organization: str
    feature: str
    billing_period: str
    limit: int
    percentage: int
    """The threshold as a percentage of the limit; REACHED for the limit itself."""
    current_usage: int
    noticed_at: datetime
    """Aware, UTC, whole milliseconds."""
    event_id: str
    expires_at: int
    """Epoch seconds."""
