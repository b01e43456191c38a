"""Looking at a bus: every event that is delivered while one looks, taken from nobody else.

    bus ─ a rule of the viewer's own, matching everything ─ a queue of its own ─ long polls

A viewer that is killed leaves its rule and queue behind, both named `usage-metering-viewer-…`: delete them by hand.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import CommandFailed

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sqs import SQSClient

# The longest that one receive may wait (SQS API reference, ReceiveMessage).
LONGEST_POLL_S = 20

# An empty prefix is in every source, and every event has one.
_EVERYTHING = {"source": [{"prefix": ""}]}


@contextmanager
def subscription(events: "EventBridgeClient", sqs: "SQSClient", bus: str) -> Iterator[str]:
    """A queue that gets every event put on `bus` from now on; removed at the end, with its rule.

    Yields: the queue's URL, for `receive`.
    """
    name = f"usage-metering-viewer-{uuid.uuid4().hex[:12]}"
    undo: list[Callable[[], object]] = []
    try:
        # An hour is long enough for a viewer that is stopped at a breakpoint, and forgotten ones stay small.
        queue = sqs.create_queue(QueueName=name, Attributes={"MessageRetentionPeriod": "3600"})["QueueUrl"]
        undo.append(lambda: sqs.delete_queue(QueueUrl=queue))
        queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        rule_arn = events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(_EVERYTHING))["RuleArn"]
        undo.append(lambda: events.delete_rule(Name=name, EventBusName=bus))
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": _may_send(rule_arn, queue_arn)})
        answer = events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "viewer", "Arn": queue_arn}])
        undo.append(lambda: events.remove_targets(Rule=name, EventBusName=bus, Ids=["viewer"]))
        if answer["FailedEntryCount"]:
            raise CommandFailed(f"EventBridge refused the viewer's queue: {answer['FailedEntries']}.")
        yield queue
    finally:
        for step in reversed(undo):
            # What cannot be removed (the stack is gone, permission is missing) must not keep the rest from it.
            with suppress(ClientError, BotoCoreError):
                step()


def receive(sqs: "SQSClient", queue: str, wait_s: int) -> list[str]:
    """The next delivered events, each whole as one JSON line; none if nothing came within `wait_s` (0 to 20).

    Each is handed out once: a crash of the viewer right after loses it to this viewer, and to nobody else.
    """
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s).get("Messages", [])
    if messages:
        # A failed deletion shows an event twice, which consumers of this bus must expect anyway.
        sqs.delete_message_batch(
            QueueUrl=queue,
            Entries=[{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)],
        )
    return [_as_one_line(message["Body"]) for message in messages]


def _as_one_line(body: str) -> str:
    # Inside a JSON string line breaks are escaped, so any that are there stand between the members.
    return body.replace("\r", " ").replace("\n", " ")


def _may_send(rule_arn: str, queue_arn: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
