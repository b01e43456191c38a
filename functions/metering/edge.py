"""What the API's functions share: a request of the HTTP API in, its answer out, whatever happens between.

Environment: TABLE_NAME; ORGANIZATION_CLAIM (`org_id`); SCOPE_PREFIX (none); ROLES_AS_SCOPES (`no` or `yes`).
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import botocore.session
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from metering import caller, json_text, problems, request
from metering.caller import TokenRules
from metering.contract import Operation
from metering.errors import KeyReused, MeteringError, NotFound, Refused
from metering.memory import Clocks
from metering.request import Request
from metering.retry import Effort

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

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

Answer: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Service(Generic[T]):
    """Everything that answering a request needs from outside it; what is stored is reached by `books`."""

    books: T
    rules: TokenRules
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Random
    logger: Logger
    metrics: Metrics


# Answers a request that asks for its operation, for the organization that the caller belongs to.
Serve: TypeAlias = Callable[[Request, str, Service[T], Effort], Answer]


def respond(event: Any, context: LambdaContext, service: Service[T], served: Mapping[Operation, Serve[T]]) -> Answer:
    """Answer one request of the HTTP API (payload format 2.0) for one of the operations `served`.

    Never raises: what is not foreseen is logged with its traceback and answered as an internal error.
    """
    asked = request.read(event, fallback_id=context.aws_request_id)
    remaining_s = context.get_remaining_time_in_millis() / 1000
    effort = Effort(service.monotonic() + remaining_s - RESERVE_S, service.monotonic, service.sleep, service.random)
    service.logger.set_correlation_id(asked.id)
    operation: Operation | None = None
    try:
        operation = request.operation(asked)
        serve = _serving(operation, served)
        # Before validating, so that errors leak nothing.
        organization = caller.authorize(asked, operation.scope, service.rules)
        return serve(asked, organization, service, effort)
    except Exception as error:  # noqa: BLE001 - the edge: an unforeseen error must not reach the caller as it is
        _tell_failed(error, effort, service)
        status, headers, body = problems.problem(error, operation, asked.id)
        return {"statusCode": status, "headers": headers, "body": json_text.compact(body)}
    finally:
        service.metrics.flush_metrics()


def success(output: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer to a request that went well."""
    all_headers = {"Content-Type": "application/json", **(headers or {})}
    return {"statusCode": 200, "headers": all_headers, "body": json_text.compact(output)}


def count(metrics: Metrics, outcomes: Mapping[str, int], effort: Effort) -> None:
    """Count what has become of a request, or of its records, and what it took."""
    took = {"TransactionConflicts": effort.conflicts, "Retries": effort.retries}
    for name, value in (*outcomes.items(), *took.items()):
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)


def _serving(operation: Operation, served: Mapping[Operation, Serve[T]]) -> Serve[T]:
    if operation not in served:
        # Another function's, to which the route leads; while a deployment is under way it may not yet.
        raise NotFound("This route is not served here: send the same request again later.")
    return served[operation]


def _tell_failed(error: Exception, effort: Effort, service: Service[T]) -> None:
    kind = problems.kind_of(error)
    facts = {
        "code": kind.code,
        "status": kind.status,
        "cause": type(error).__name__,
        "conflicts": effort.conflicts,
        "retries": effort.retries,
    }
    if isinstance(error, Refused):
        count(service.metrics, {"KeyReused" if isinstance(error, KeyReused) else "RequestRefused": 1}, effort)
        service.logger.info("request refused", extra=facts)
    elif isinstance(error, MeteringError) and kind is not problems.INTERNAL:
        count(service.metrics, {"RequestUnavailable": 1}, effort)
        service.logger.warning("store unavailable", extra=facts)
    else:
        count(service.metrics, {"RequestFailed": 1}, effort)
        service.logger.error("request failed", exc_info=error, extra=facts)


def service_from_environment(books: "Callable[[DynamoDBClient, str, Clocks], T]") -> Service[T]:
    """What the function's environment variables describe, with the `books` of a client, a table and the clocks."""
    # botocore itself: boto3 adds a quarter to the cold start, and its resources are of no use here.
    session: Any = botocore.session.get_session()
    clocks = Clocks(lambda: datetime.now(UTC), time.monotonic)
    return Service(
        books=books(session.create_client("dynamodb", config=CONFIG), os.environ["TABLE_NAME"], clocks),
        rules=TokenRules(
            organization_claim=os.environ.get("ORGANIZATION_CLAIM", "org_id"),
            scope_prefix=os.environ.get("SCOPE_PREFIX", ""),
            roles_as_scopes=os.environ.get("ROLES_AS_SCOPES", "no") == "yes",
        ),
        now=clocks.now,
        monotonic=clocks.monotonic,
        sleep=time.sleep,
        # A restored snapshot of a process would repeat what a seeded generator had left.
        random=SystemRandom(),
        logger=Logger(),
        metrics=Metrics(),
    )
