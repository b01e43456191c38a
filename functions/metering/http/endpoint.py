"""A request of the HTTP API in, its answer out, whatever happens between."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any, Generic, TypeAlias, TypeVar

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from metering.http import caller, problems, request, strict_json
from metering.http.caller import TokenRules
from metering.http.operations import Operation
from metering.http.request import Request
from metering.model.errors import InvalidRequest, KeyReused, MeteringError, NotFound
from metering.model.timeouts import Timeouts
from metering.storage.retry import RetryBudget

T = TypeVar("T")

# A transaction takes milliseconds; a call that takes two seconds is lost. One second try heals a connection that the
# other side closed while we were frozen; what else needs patience is retried within the budget.
TIMEOUTS = Timeouts(connect_s=1.0, read_s=2.0, tries=2)
# Left of the invocation when the last call starts, so that its slowest course, with a backoff of up to a second, still
# leaves time to answer.
RESERVE_S = TIMEOUTS.slowest_s + 1.0 + 0.5

Answer: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Service(Generic[T]):
    """Everything that answering a request needs from outside it; what is stored is reached by `deps`."""

    deps: T
    rules: TokenRules
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Random
    logger: Logger
    metrics: Metrics


# Answers a request that asks for its operation, for the organization that the caller belongs to.
Serve: TypeAlias = Callable[[Request, str, Service[T], RetryBudget], Answer]


def respond(event: Any, context: LambdaContext, service: Service[T], served: Mapping[Operation, Serve[T]]) -> Answer:
    """Answer one request of the HTTP API (payload format 2.0) for one of the operations `served`.

    Never raises: what is not foreseen is logged with its traceback and answered as an internal error.
    """
    asked = request.read(event, fallback_id=context.aws_request_id)
    remaining_s = context.get_remaining_time_in_millis() / 1000
    budget = RetryBudget(
        service.monotonic() + remaining_s - RESERVE_S, service.monotonic, service.sleep, service.random
    )
    service.logger.set_correlation_id(asked.id)
    operation: Operation | None = None
    try:
        operation = request.operation(asked)
        serve = _serving(operation, served)
        # Before validating, so that errors leak nothing.
        organization = caller.authorize(asked, operation.scope, service.rules)
        return serve(asked, organization, service, budget)
    except Exception as error:  # noqa: BLE001 - the edge: an unforeseen error must not reach the caller as it is
        _log_failure(error, budget, service)
        status, headers, body = problems.problem(error, operation, asked.id)
        return {"statusCode": status, "headers": headers, "body": strict_json.compact(body)}
    finally:
        service.metrics.flush_metrics()


def success(output: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer to a request that went well."""
    all_headers = {"Content-Type": "application/json", **(headers or {})}
    return {"statusCode": 200, "headers": all_headers, "body": strict_json.compact(output)}


def count(metrics: Metrics, outcomes: Mapping[str, int], budget: RetryBudget) -> None:
    """Count what has become of a request, or of its records, and what it took."""
    took = {"TransactionConflicts": budget.conflicts, "Retries": budget.retries}
    for name, value in (*outcomes.items(), *took.items()):
        metrics.add_metric(name, "Count", value)


def _serving(operation: Operation, served: Mapping[Operation, Serve[T]]) -> Serve[T]:
    if operation not in served:
        # Another function's, to which the route leads; while a deployment is under way it may not yet.
        raise NotFound("This route is not served here: send the same request again later.")
    return served[operation]


def _log_failure(error: Exception, budget: RetryBudget, service: Service[T]) -> None:
    kind = problems.kind_of(error)
    facts = {
        "code": kind.code,
        "status": kind.status,
        "cause": type(error).__name__,
        "conflicts": budget.conflicts,
        "retries": budget.retries,
    }
    if isinstance(error, InvalidRequest):
        count(service.metrics, {"KeyReused" if isinstance(error, KeyReused) else "RequestInvalid": 1}, budget)
        service.logger.info("invalid request", extra=facts)
    elif isinstance(error, MeteringError) and kind is not problems.INTERNAL:
        count(service.metrics, {"RequestUnavailable": 1}, budget)
        service.logger.warning("store unavailable", extra=facts)
    else:
        count(service.metrics, {"RequestFailed": 1}, budget)
        service.logger.error("request failed", exc_info=error, extra=facts)
