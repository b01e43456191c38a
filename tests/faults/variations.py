"""Record functions with one defect or difference each, to test that the driver notices it."""

import os
from typing import Any

from metering.storage.organization_reads import OrganizationAndPlan
from metering.usage.organization_cache import OrganizationCache

from tests.faults.clock import Clock
from tests.faults.fork_server import Respond, record, record_service


class _LookingTwice(OrganizationCache):
    """Reads the organization one extra time."""

    def find(self, name: str) -> OrganizationAndPlan | None:
        super().find(name)
        self.__post_init__()
        return super().find(name)


def one_more_call(clock: Clock) -> Respond:
    """The record function with one extra call."""
    return record(clock, _LookingTwice)


def forgetful(clock: Clock) -> Respond:
    """The record function, but it answers some usage as recorded without recording it."""
    ours = record(clock)

    def respond(event: Any, context: Any) -> Any:
        if "k-7" in event["body"] + event["headers"].get("idempotency-key", ""):
            return {"statusCode": 200, "headers": {}, "body": '{"recorded":true,"currentUsage":1,"limitReached":false}'}
        return ours(event, context)

    return respond


def endless(clock: Clock) -> Respond:
    """The record function, but it never answers some requests."""
    ours = record(clock)

    def respond(event: Any, context: Any) -> Any:
        while "-1" in event["body"] + event["headers"].get("idempotency-key", ""):
            pass
        return ours(event, context)

    return respond


def one_more_call_after_a_conflict(clock: Clock) -> Respond:
    """The record function with one extra call that only follows a conflict."""
    service = record_service()

    def look_again(parsed: Any, **_: Any) -> None:
        if "CancellationReasons" in parsed:
            service.deps.client.describe_table(TableName=os.environ["TABLE_NAME"])

    service.deps.client.meta.events.register("after-call.dynamodb.TransactWriteItems", look_again)
    return record(clock)
