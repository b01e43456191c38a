"""Applies others' events to organizations: in whatever order they come, the same is stored in the end.

An event that cannot be understood goes to a queue, with the reason; one that cannot be stored goes there from Lambda.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics

from metering.inbound.consumed_events import ORG_CREATED, Change, EventMalformed, change_of
from metering.model.timeouts import Timeouts
from metering.storage.attributes import Item
from metering.storage.organization_items import organization_key

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

TIMEOUTS = Timeouts(connect_s=1.0, read_s=4.0, tries=3)
# Two writers of one organization at the same moment are rare, and more than two hardly ever happen.
_TRIES = 10
# What any queue takes. SQS takes 1 MiB by now, as EventBridge does of an event, but a queue's own maximum may still be
# the 256 KiB of before. Source: SQS API reference, SendMessage, MessageBody, and CreateQueue, MaximumMessageSize.
_MAX_BYTES = 256 * 1024


class _Raced(Exception):
    """Somebody else has changed the organization since it was read."""


@dataclass(frozen=True)
class SubscriptionDeps:
    """Where organizations are kept, and where what was not understood goes."""

    client: "DynamoDBClient"
    table: str
    queue: "SQSClient"
    queue_url: str
    now: Callable[[], datetime]
    logger: Logger
    metrics: Metrics


def consume(event: Any, deps: SubscriptionDeps) -> None:
    """Store what one event from the bus says.

    Raises:
        ClientError, BotoCoreError: DynamoDB or the queue did not take it. Lambda delivers the event again, a minute
            later and two minutes after that, and then puts it into the queue itself, in a form of its own, without
            our reason. Source: AWS Lambda developer guide, asynchronous invocation, error handling.
    """
    try:
        change = change_of(event, deps.now())
    except EventMalformed as malformed:
        # A crash before this line, or after it, makes Lambda deliver the event again: it may be in the queue twice.
        message = _message(str(malformed), event)
        deps.queue.send_message(QueueUrl=deps.queue_url, MessageBody=message)
        deps.metrics.add_metric("EventsRejected", "Count", 1)
        deps.logger.warning("event rejected", extra={"reason": str(malformed)})
        return
    written = _written(change, deps)
    deps.metrics.add_metric("OrganizationsChanged" if written else "EventsOutdated", "Count", 1)
    deps.logger.info(
        "organization changed" if written else "event is outdated",
        extra={"organization": change.organization, "key": change.key, "event_id": change.event_id},
    )


def _message(reason: str, event: Any) -> str:
    """What the queue is to keep: the reason and the event, or as much of the event as a message holds."""
    # Escaped, so that half a character is kept as it came. That makes three bytes of one, at worst.
    message = json.dumps({"reason": reason, "event": event}, default=str)
    for left_out, rest in _shortened(event):
        if len(message) <= _MAX_BYTES:
            break
        message = json.dumps({"reason": f"{reason} (too large: without {left_out})", "event": rest}, default=str)
    return message


def _shortened(event: Any) -> Iterator[tuple[str, Any]]:
    """What can be left out of an event, and the event without it. The last is small in what EventBridge delivers."""
    if isinstance(event, Mapping):
        detail = event.get("detail")
        if isinstance(detail, Mapping):
            yield "detail.payload", {**event, "detail": _without(detail, "payload")}
        yield "detail and resources", _without(event, "detail", "resources")


def _without(members: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name not in names}


def _written(change: Change, deps: SubscriptionDeps) -> bool:
    for _ in range(_TRIES - 1):
        try:
            return _write(change, deps)
        except _Raced:
            continue
    return _write(change, deps)


def _write(change: Change, deps: SubscriptionDeps) -> bool:
    """Write what the change has to say that is newer than what is stored; whether there was any.

    Raises:
        _Raced: somebody else wrote meanwhile; nothing written.
    """
    key = organization_key(change.organization)
    stored = deps.client.get_item(TableName=deps.table, Key=key, ConsistentRead=True).get("Item")
    if change.key == ORG_CREATED and stored is not None:
        return False
    stamps: Any = (stored or {}).get("changed", {"M": {}})["M"]
    newer = {name: value for name, value in change.fields.items() if stamps.get(name, {"S": ""})["S"] < change.stamp}
    if stored is not None and not newer:
        return False
    values: Item = {
        ":organization": {"S": change.organization},
        ":changed": {"M": {**stamps, **{name: {"S": change.stamp} for name in newer}}},
    }
    sets = ["organizationId = :organization", "changed = :changed"]
    removes = []
    if "status" not in newer:
        sets.append("#status = if_not_exists(#status, :active)")
        values[":active"] = {"S": "active"}
    for number, (name, value) in enumerate(newer.items()):
        # The word is reserved in expressions.
        place = "#status" if name == "status" else name
        if value is None:
            removes.append(place)
        else:
            sets.append(f"{place} = :v{number}")
            values[f":v{number}"] = value
    if stored is None:
        condition = "attribute_not_exists(pk)"
    elif "changed" in stored:
        condition, values[":before"] = "changed = :before", stored["changed"]
    else:
        condition = "attribute_exists(pk) AND attribute_not_exists(changed)"
    try:
        deps.client.update_item(
            TableName=deps.table,
            Key=key,
            UpdateExpression=f"SET {', '.join(sets)}" + (f" REMOVE {', '.join(removes)}" if removes else ""),
            ConditionExpression=condition,
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues=values,
        )
    except deps.client.exceptions.ConditionalCheckFailedException as failed:
        raise _Raced from failed
    return True
