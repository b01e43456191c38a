"""Record functions that differ from ours in one respect, to see that the driver notices."""

import os
from typing import Any

from metering.storage.organization_reads import OrganizationAndPlan
from metering.usage.organization_cache import OrganizationCache

from tests.faults.clock import Clock
from tests.faults.fork_server import Respond, record, record_service


class _LookingTwice(OrganizationCache):
    """Reads the organization once more than needed."""

    def find(self, name: str) -> OrganizationAndPlan | None:
        super().find(name)
        self.__post_init__()
        return super().find(name)


def one_more_call(clock: Clock) -> Respond:
    """Ours, with a call that somebody has added."""
    return record(clock, _LookingTwice)


def forgetful(clock: Clock) -> Respond:
    """Answers some usage as recorded and forgets about it."""
    ours = record(clock)

    def respond(event: Any, context: Any) -> Any:
        if "k-7" in event["body"] + event["headers"].get("idempotency-key", ""):
            return {"statusCode": 200, "headers": {}, "body": '{"recorded":true,"currentUsage":1,"limitReached":false}'}
        return ours(event, context)

    return respond


def endless(clock: Clock) -> Respond:
    """Never answers some usage."""
    ours = record(clock)

    def respond(event: Any, context: Any) -> Any:
        while "-1" in event["body"] + event["headers"].get("idempotency-key", ""):
            pass
        return ours(event, context)

    return respond


def one_more_call_after_a_conflict(clock: Clock) -> Respond:
    """Ours, with a call that somebody has added where hardly anybody looks."""
    service = record_service()

    def look_again(parsed: Any, **_: Any) -> None:
        if "CancellationReasons" in parsed:
            service.deps.client.describe_table(TableName=os.environ["TABLE_NAME"])

    service.deps.client.meta.events.register("after-call.dynamodb.TransactWriteItems", look_again)
    return record(clock)
