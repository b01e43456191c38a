"""Record functions that differ from ours in one respect, to see that the driver notices."""

from typing import Any

from metering.directory import Directory
from metering.plans import Organization

from tests.faults.clock import Clock
from tests.faults.nursery import Respond, record


class _LookingTwice(Directory):
    """Reads the organization once more than needed."""

    def organization(self, name: str) -> Organization | None:
        super().organization(name)
        self.__post_init__()
        return super().organization(name)


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
