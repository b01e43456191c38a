"""View a bus: receive a copy of every event, without an effect on other consumers.

    bus ─ the viewer's own rule, which matches every event ─ the viewer's own queue ─ long polls

A killed viewer leaves its rule and its queue behind, both named `usage-metering-viewer-…`. Delete them by hand.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import CommandFailed

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sqs import SQSClient

# The maximum of WaitTimeSeconds (SQS API reference, ReceiveMessage).
LONGEST_POLL_S = 20

# Events contain text of callers. These characters would control a person's terminal, or change the order of its text.
_CONTROLS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

# Every event has a source, and every source starts with the empty prefix.
_EVERYTHING = {"source": [{"prefix": ""}]}


@contextmanager
def subscription(events: "EventBridgeClient", sqs: "SQSClient", bus: str) -> Iterator[str]:
    """Create a queue that receives every event put on `bus` from now on. Delete it and its rule at the end.

    Yields: the queue's URL, for `receive`.
    """
    name = f"usage-metering-viewer-{uuid.uuid4().hex[:12]}"
    undo: list[Callable[[], object]] = []
    try:
        # An hour covers a viewer stopped at a breakpoint, and keeps the queues of killed viewers small.
        queue = sqs.create_queue(QueueName=name, Attributes={"MessageRetentionPeriod": "3600"})["QueueUrl"]
        undo.append(lambda: sqs.delete_queue(QueueUrl=queue))
        queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        rule_arn = events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(_EVERYTHING))["RuleArn"]
        undo.append(lambda: events.delete_rule(Name=name, EventBusName=bus))
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": _may_send(rule_arn, queue_arn)})
        answer = events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "viewer", "Arn": queue_arn}])
        undo.append(lambda: events.remove_targets(Rule=name, EventBusName=bus, Ids=["viewer"]))
        if answer["FailedEntryCount"]:
            raise CommandFailed(f"EventBridge rejected the viewer's queue: {answer['FailedEntries']}.")
        yield queue
    finally:
        for step in reversed(undo):
            # If one removal fails (stack deleted, permission missing), still try the others.
            with suppress(ClientError, BotoCoreError):
                step()


def receive(sqs: "SQSClient", queue: str, wait_s: int) -> list[str]:
    """Receive the next events, each as one JSON line. The list is empty if none arrived within `wait_s` (0 to 20).

    Deletes the events from the viewer's queue. A crash right after the deletion loses them for this viewer only.
    """
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s).get("Messages", [])
    if messages:
        # If a deletion fails, the viewer shows an event twice. Consumers of this bus must expect that anyway.
        sqs.delete_message_batch(
            QueueUrl=queue,
            Entries=[{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)],
        )
    return [_as_one_line(message["Body"]) for message in messages]


def _as_one_line(body: str) -> str:
    # JSON strings escape line breaks, so the remaining ones are whitespace between members.
    line = body.replace("\r", " ").replace("\n", " ")
    return _CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", line)


def _may_send(rule_arn: str, queue_arn: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
