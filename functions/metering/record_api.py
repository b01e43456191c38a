"""The record function: an HTTPS request in, its answer out.

Environment: TABLE_NAME; ORGANIZATION_CLAIM (`org_id`); RETENTION_DAYS (400), the idempotency window;
UNKNOWN_FEATURES (`accept` or `reject`).
"""

import gc

# Imports make a hundred thousand objects and hardly any garbage: looking for it would take a tenth of the cold start.
gc.disable()

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from aws_lambda_powertools.utilities.typing import LambdaContext

from metering import contract, edge, json_text, request
from metering.command import Books, RecordUsage, UsageRecorded, UsageRefused, record_usage
from metering.contract import RECORD_USAGE, RecordUsageOutput
from metering.directory import Directory
from metering.edge import Answer
from metering.plans import is_reached
from metering.request import Request
from metering.retry import Effort

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Service: TypeAlias = edge.Service[Books]


def respond(event: Any, context: LambdaContext, service: Service) -> Answer:
    """Answer one request of the HTTP API. Never raises."""
    return edge.respond(event, context, service, {RECORD_USAGE: _record})


def _record(asked: Request, organization: str, service: Service, effort: Effort) -> Answer:
    outcome = record_usage(_command(asked, organization), service.books, effort, service.now())
    _tell(outcome, effort, service)
    return _success(outcome)


def _command(asked: Request, organization: str) -> RecordUsage:
    members = request.with_idempotency_key(request.members(asked, RECORD_USAGE.max_body_bytes), asked)
    usage = contract.record_usage_input(members)
    metadata = usage.get("metadata")
    return RecordUsage(
        organization=organization,
        feature=usage["feature"],
        quantity=usage["quantity"],
        idempotency_key=usage["idempotencyKey"],
        fingerprint=json_text.fingerprint({name: value for name, value in members.items() if name != "idempotencyKey"}),
        trace_id=asked.id,
        source_id=usage.get("sourceId"),
        source_type=usage.get("sourceType"),
        metadata=None if metadata is None else json_text.compact(metadata),
    )


def _success(outcome: UsageRecorded | UsageRefused) -> Answer:
    headers = {}
    if isinstance(outcome, UsageRecorded) and outcome.replayed:
        headers["Idempotent-Replayed"] = "true"
    output = RecordUsageOutput(
        recorded=isinstance(outcome, UsageRecorded),
        currentUsage=outcome.current_usage,
        # What a hard limit refuses does not fit, even where less would.
        limitReached=isinstance(outcome, UsageRefused) or is_reached(outcome.limit, outcome.current_usage),
    )
    if outcome.limit is not None:
        output["limit"] = outcome.limit
    return edge.success(output, headers)


def _tell(outcome: UsageRecorded | UsageRefused, effort: Effort, service: Service) -> None:
    usage = outcome.usage
    facts = {
        "organization": usage.organization,
        "feature": usage.feature,
        "quantity": usage.quantity,
        "billing_period": usage.billing_period,
        "current_usage": outcome.current_usage,
        "limit": outcome.limit,
        "conflicts": effort.conflicts,
        "retries": effort.retries,
    }
    if isinstance(outcome, UsageRefused):
        edge.count(service.metrics, "UsageRefused", effort)
        service.logger.info("usage refused at its limit", extra=facts)
        return
    edge.count(service.metrics, "UsageReplayed" if outcome.replayed else "UsageRecorded", effort)
    message = "usage replayed" if outcome.replayed else "usage recorded"
    service.logger.info(message, extra={**facts, "event_id": usage.event_id})


def service_from_environment() -> Service:
    """What the function's environment variables describe."""

    def books(client: "DynamoDBClient", table: str) -> Books:
        return Books(
            client=client,
            table=table,
            directory=Directory(client, table, time.monotonic),
            retention=timedelta(days=int(os.environ.get("RETENTION_DAYS", "400"))),
            reject_unknown_features=os.environ.get("UNKNOWN_FEATURES", "accept") == "reject",
        )

    return edge.service_from_environment(books)


_SERVICE = service_from_environment()

# What is there now stays, and no later collection need look at it.
gc.freeze()
gc.enable()


def handler(event: Any, context: LambdaContext) -> Answer:
    """AWS Lambda's entry."""
    return respond(event, context, _SERVICE)
