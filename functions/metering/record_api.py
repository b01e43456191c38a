"""The record function: an HTTPS request in, its answer out.

Environment: TABLE_NAME; ORGANIZATION_CLAIM (`org_id`); RETENTION_DAYS (400), the idempotency window;
UNKNOWN_FEATURES (`accept` or `reject`).
"""

import gc

# Imports make a hundred thousand objects and hardly any garbage: looking for it would take a tenth of the cold start.
gc.disable()

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom
from typing import Any

import botocore.session
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from metering import contract, json_text, problems, request
from metering.command import Books, RecordUsage, UsageRecorded, UsageRefused, record_usage
from metering.contract import Operation, RecordUsageOutput
from metering.directory import Directory
from metering.errors import KeyReused, MeteringError, Refused
from metering.plans import is_reached
from metering.request import Request
from metering.retry import Effort

# A transaction takes milliseconds; a call that takes two seconds is lost. One second try heals a connection that the
# other side closed while we were frozen; what else needs patience is retried by `Effort`, which knows the deadline.
_CONNECT_S, _READ_S, _TRIES, _LONGEST_BACKOFF_S = 1.0, 2.0, 2, 1.0
CONFIG = Config(
    connect_timeout=_CONNECT_S,
    read_timeout=_READ_S,
    retries={"mode": "standard", "total_max_attempts": _TRIES},
    tcp_keepalive=True,
)
# Left of the invocation when the last call starts, so that its slowest course still leaves time to answer.
RESERVE_S = _TRIES * (_CONNECT_S + _READ_S) + _LONGEST_BACKOFF_S + 0.5

Answer = dict[str, Any]


@dataclass(frozen=True)
class Service:
    """Everything that answering a request needs from outside it."""

    books: Books
    organization_claim: str
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Random
    logger: Logger
    metrics: Metrics


def respond(event: Any, context: LambdaContext, service: Service) -> Answer:
    """Answer one request of the HTTP API (payload format 2.0).

    Never raises: what is not foreseen is logged with its traceback and answered as an internal error.
    """
    asked = request.read(event, fallback_id=context.aws_request_id)
    remaining_s = context.get_remaining_time_in_millis() / 1000
    effort = Effort(service.monotonic() + remaining_s - RESERVE_S, service.monotonic, service.sleep, service.random)
    service.logger.set_correlation_id(asked.id)
    operation: Operation | None = None
    try:
        operation = request.operation(asked)
        command = _command(asked, operation, service.organization_claim)
        outcome = record_usage(command, service.books, effort, service.now())
        _tell(outcome, effort, service)
        return _success(outcome)
    except Exception as error:  # noqa: BLE001 - the edge: an unforeseen error must not reach the caller as it is
        _tell_failed(error, effort, service)
        status, headers, body = problems.problem(error, operation, asked.id)
        return {"statusCode": status, "headers": headers, "body": json_text.compact(body)}
    finally:
        service.metrics.flush_metrics()


def _command(asked: Request, operation: Operation, organization_claim: str) -> RecordUsage:
    # Who may not call learns nothing about the input.
    request.require_scope(asked, operation.scope)
    organization = request.organization(asked, organization_claim)
    members = request.with_idempotency_key(request.members(asked, operation.max_body_bytes), asked)
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
    headers = {"Content-Type": "application/json"}
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
    return {"statusCode": 200, "headers": headers, "body": json_text.compact(output)}


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
        _count(service.metrics, "UsageRefused", effort)
        service.logger.info("usage refused at its limit", extra=facts)
        return
    _count(service.metrics, "UsageReplayed" if outcome.replayed else "UsageRecorded", effort)
    message = "usage replayed" if outcome.replayed else "usage recorded"
    service.logger.info(message, extra={**facts, "event_id": usage.event_id})


def _tell_failed(error: Exception, effort: Effort, service: Service) -> None:
    kind = problems.kind_of(error)
    facts = {
        "code": kind.code,
        "status": kind.status,
        "cause": type(error).__name__,
        "conflicts": effort.conflicts,
        "retries": effort.retries,
    }
    if isinstance(error, Refused):
        _count(service.metrics, "KeyReused" if isinstance(error, KeyReused) else "RequestRefused", effort)
        service.logger.info("request refused", extra=facts)
    elif isinstance(error, MeteringError) and kind is not problems.INTERNAL:
        _count(service.metrics, "RequestUnavailable", effort)
        service.logger.warning("store unavailable", extra=facts)
    else:
        _count(service.metrics, "RequestFailed", effort)
        service.logger.error("request failed", exc_info=error, extra=facts)


def _count(metrics: Metrics, outcome: str, effort: Effort) -> None:
    metrics.add_metric(name=outcome, unit=MetricUnit.Count, value=1)
    metrics.add_metric(name="TransactionConflicts", unit=MetricUnit.Count, value=effort.conflicts)
    metrics.add_metric(name="Retries", unit=MetricUnit.Count, value=effort.retries)


def service_from_environment() -> Service:
    """What the function's environment variables describe."""
    # botocore itself: boto3 adds a quarter to the cold start, and its resources are of no use here.
    session: Any = botocore.session.get_session()
    client = session.create_client("dynamodb", config=CONFIG)
    table = os.environ["TABLE_NAME"]
    return Service(
        books=Books(
            client=client,
            table=table,
            directory=Directory(client, table, time.monotonic),
            retention=timedelta(days=int(os.environ.get("RETENTION_DAYS", "400"))),
            reject_unknown_features=os.environ.get("UNKNOWN_FEATURES", "accept") == "reject",
        ),
        organization_claim=os.environ.get("ORGANIZATION_CLAIM", "org_id"),
        now=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        sleep=time.sleep,
        # A restored snapshot of a process would repeat what a seeded generator had left.
        random=SystemRandom(),
        logger=Logger(),
        metrics=Metrics(),
    )


_SERVICE = service_from_environment()

# What is there now stays, and no later collection need look at it.
gc.freeze()
gc.enable()


def handler(event: Any, context: LambdaContext) -> Answer:
    """AWS Lambda's entry."""
    return respond(event, context, _SERVICE)
