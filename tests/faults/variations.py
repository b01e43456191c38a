"""Record functions that differ from ours in one respect, to see that the driver notices."""

from typing import Any

from metering.organizations import Organizations

from tests.faults.clock import Clock
from tests.faults.nursery import Respond, record


class _LookingTwice(Organizations):
    """Reads the organization once more than needed."""

    def status(self, organization: str) -> str | None:
        super().status(organization)
        self._remembered.clear()
        return super().status(organization)


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
