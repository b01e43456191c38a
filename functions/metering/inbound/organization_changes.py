"""The changes that other services' events make to organizations. Every order of events leads to the same stored state.

The handler sends a malformed event to a queue, with the reason. If the change of an event could not be stored, Lambda
sends the event to the same queue.
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
from metering.storage.lists import LISTED_IN, organizations_list
from metering.storage.organization_items import organization_key

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

TIMEOUTS = Timeouts(connect_s=1.0, read_s=4.0, tries=3)
# A try fails only if another writer changes the same organization at the same moment. Two writers seldom do, so ten
# failures in a row are very unlikely.
_TRIES = 10
# Every queue with a default maximum accepts this size. SQS and EventBridge now accept 1 MiB, but an older queue can
# still have the earlier default, 256 KiB. Source: SQS API reference, SendMessage, MessageBody, and CreateQueue,
# MaximumMessageSize.
_MAX_BYTES = 256 * 1024


class _Raced(Exception):
    """Another writer has changed the organization since it was read."""


@dataclass(frozen=True)
class SubscriptionDeps:
    """The dependencies of `consume`, among them the table of organizations and the queue of malformed events."""

    client: "DynamoDBClient"
    table: str
    queue: "SQSClient"
    queue_url: str
    now: Callable[[], datetime]
    logger: Logger
    metrics: Metrics


def consume(event: Any, deps: SubscriptionDeps) -> None:
    """Store the change that one event from the bus describes, or put a malformed event into the queue.

    Raises:
        ClientError, BotoCoreError: a call to DynamoDB or the queue failed. Lambda delivers the event again one minute
            later, and once more two minutes after that. Then Lambda puts the event into the queue, in Lambda's
            own form and without our reason. Source: AWS Lambda developer guide, asynchronous invocation, error
            handling.
    """
    try:
        change = change_of(event, deps.now())
    except EventMalformed as malformed:
        # After a crash here, Lambda delivers the event again, so the queue can hold the event twice.
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
    """Return the queue's message: the reason and the event, or as much of the event as fits."""
    # ASCII escapes can also hold half of a UTF-16 pair, which UTF-8 cannot encode. At worst, they triple the bytes.
    message = json.dumps({"reason": reason, "event": event}, default=str)
    for left_out, rest in _shortened(event):
        if len(message) <= _MAX_BYTES:
            break
        message = json.dumps({"reason": f"{reason} (too large: without {left_out})", "event": rest}, default=str)
    return message


def _shortened(event: Any) -> Iterator[tuple[str, Any]]:
    """Yield smaller and smaller versions of the event, each with the name of the parts that are left out.

    The last version is small for every event that EventBridge delivers.
    """
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
    """Write the fields of the change that are newer than the stored ones. Return whether anything was written.

    Raises:
        _Raced: another writer was faster; nothing was written.
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
        ":list": organizations_list(change.organization),
        ":changed": {"M": {**stamps, **{name: {"S": change.stamp} for name in newer}}},
    }
    sets = ["organizationId = :organization", f"{LISTED_IN} = :list", "changed = :changed"]
    removes = []
    if "status" not in newer:
        sets.append("#status = if_not_exists(#status, :active)")
        values[":active"] = {"S": "active"}
    for number, (name, value) in enumerate(newer.items()):
        # `status` is a reserved word in expressions.
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
