"""The usage record as the API returns it."""

import json

from metering.http.models import UsageGetOutput
from metering.model.moments import to_timestamp
from metering.model.usage import Usage


def record_output(usage: Usage) -> UsageGetOutput:
    """Return the record of `usage`. Optional members without a value are absent."""
    output = UsageGetOutput(
        idempotencyKey=usage.idempotency_key,
        feature=usage.feature,
        quantity=usage.quantity,
        billingPeriod=usage.billing_period,
        recordedAt=to_timestamp(usage.recorded_at),
        eventId=usage.event_id,
    )
    if usage.source_id is not None:
        output["sourceId"] = usage.source_id
    if usage.source_type is not None:
        output["sourceType"] = usage.source_type
    if usage.metadata is not None:
        output["metadata"] = json.loads(usage.metadata)
    return output
