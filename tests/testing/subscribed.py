"""A subscribed organization and its plan."""

from datetime import UTC, datetime

from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan

FEATURES = {
    "api_calls": Entitlement(limit=10, unit="calls", upgrade_url="https://example.com/upgrade"),
    "storage_gb": Entitlement(limit=0),
    "seats": Entitlement(limit=3, hard=True),
    "exports": Entitlement(unit="files", upgrade_url="https://example.com/exports"),
}
PRO = Plan("pro", "Professional", FEATURES)
SUBSCRIBED = Organization(
    "demo-org",
    plan="pro",
    subscription_id="sub-1",
    subscription_status="ACTIVE",
    current_period_start=datetime(2026, 11, 1, tzinfo=UTC),
    current_period_end=datetime(2026, 12, 1, tzinfo=UTC),
    cancel_at_period_end=False,
)
