"""The usual way to write this: an idempotency layer around the handler, a counter, an event in the request.

Its answers are the same except for limits, and it writes less. docs/cost.md lists the promises that it lacks.
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent

_RETENTION_S = 400 * 24 * 3600
_KEY = "[requestContext.authorizer.jwt.claims.org_id, powertools_json(body).idempotencyKey]"


def recording(
    dynamodb: Any, events: Any, logger: Logger, *, keys: str, table: str, bus: str
) -> Callable[[Any, Any], dict[str, Any]]:
    """Build a handler with these clients. The table `keys` belongs to the idempotency layer."""
    layer = DynamoDBPersistenceLayer(keys, boto3_client=dynamodb)
    config = IdempotencyConfig(
        event_key_jmespath=_KEY,
        payload_validation_jmespath="body",
        expires_after_seconds=_RETENTION_S,
        raise_on_no_idempotency_key=True,
    )

    @idempotent(persistence_store=layer, config=config)
    def record(event: Any, _context: Any) -> dict[str, Any]:
        usage = json.loads(event["body"])
        organization = event["requestContext"]["authorizer"]["jwt"]["claims"]["org_id"]
        now = datetime.now(UTC)
        total = _count(dynamodb, table, f"counter#{organization}#{now:%Y-%m}", usage)
        # A crash or a failure right here leaves a count without an event. The layer releases the key at once, or at the
        # end of the invocation's time. So a retry counts a second time, and without a retry the event is lost.
        _publish(events, bus, organization, usage, event["requestContext"]["requestId"], now)
        logger.info("usage recorded", extra={"organization": organization, "feature": usage["feature"]})
        return {
            "statusCode": 200,
            "headers": {"Content-Type": "application/json"},
            "body": json.dumps({"recorded": True, "currentUsage": total, "limitReached": False}),
        }

    handler: Callable[[Any, Any], dict[str, Any]] = record
    return handler


def _count(dynamodb: Any, table: str, counter: str, usage: dict[str, Any]) -> int:
    answer = dynamodb.update_item(
        TableName=table,
        Key={"pk": {"S": counter}, "sk": {"S": usage["feature"]}},
        UpdateExpression="ADD #total :quantity, #count :one",
        ExpressionAttributeNames={"#total": "total", "#count": "count"},
        ExpressionAttributeValues={":quantity": {"N": str(usage["quantity"])}, ":one": {"N": "1"}},
        ReturnValues="UPDATED_NEW",
    )
    return int(answer["Attributes"]["total"]["N"])


def _publish(events: Any, bus: str, organization: str, usage: dict[str, Any], trace_id: str, now: datetime) -> None:
    payload = {
        "organizationId": organization,
        "feature": usage["feature"],
        "quantity": usage["quantity"],
        "billingPeriod": f"{now:%Y-%m}",
        "recordedAt": now.isoformat(timespec="milliseconds"),
    }
    detail = {
        "id": usage["idempotencyKey"],
        "occurredAt": payload["recordedAt"],
        "traceId": trace_id,
        "key": "billing.usage.recorded",
        "version": "1.0.0",
        "payload": payload,
    }
    entry = {"EventBusName": bus, "Source": "saas.billing", "DetailType": detail["key"], "Detail": json.dumps(detail)}
    events.put_events(Entries=[entry])


handler = recording(
    boto3.client("dynamodb"),
    boto3.client("events"),
    Logger(),
    keys=os.environ["KEYS_TABLE_NAME"],
    table=os.environ["TABLE_NAME"],
    bus=os.environ["BUS_NAME"],
)
