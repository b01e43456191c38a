"""The endpoint of all routes: read the request, authorize it, run its operation, and turn errors into problems."""

import json
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
from metering.model.errors import InvalidRequest, KeyReused, MeteringError, Unavailable
from metering.model.timeouts import Timeouts
from metering.storage.retry import RetryBudget

T = TypeVar("T")

# A transaction takes milliseconds, so do not wait longer than 2 s. The second try covers a connection that DynamoDB
# closed while Lambda had frozen the execution environment. All further retries use the retry budget.
TIMEOUTS = Timeouts(connect_s=1.0, read_s=2.0, tries=2)
# No call starts with less time left. All tries of a call can time out (6 s), with a backoff of up to 1 s between them.
# The answer gets 0.5 s.
RESERVE_S = TIMEOUTS.slowest_s + 1.0 + 0.5

# Lambda returns at most 6 MB. The rest of the answer, such as its headers, takes far less than 1 MB.
# Source: Lambda developer guide, Lambda quotas, Invocation payload.
MAX_ANSWER_BYTES = 5 * 1024 * 1024

Answer: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Service(Generic[T]):
    """The dependencies of a request. `deps` has the operations' own: the client, the table and the caches."""

    deps: T
    rules: TokenRules
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Random
    logger: Logger
    metrics: Metrics


# Answers an authorized request. The text is the organization that the caller acts for.
Serve: TypeAlias = Callable[[Request, str, Service[T], RetryBudget], Answer]


def respond(event: Any, context: LambdaContext, service: Service[T], served: Mapping[Operation, Serve[T]]) -> Answer:
    """Answer one event of the HTTP API (payload format 2.0). `served` has the function for each operation.

    Every error becomes a problem. An unexpected error is also logged with its traceback.
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
        # Authorize before validating the input, so that errors leak nothing.
        organization = caller.authorize(asked, operation.scope, service.rules)
        return serve(asked, organization, service, budget)
    except Exception as error:  # noqa: BLE001 - an unexpected error must reach the caller as a problem
        _log_failure(error, budget, service)
        status, headers, body = problems.problem(error, operation, asked.id)
        return {"statusCode": status, "headers": headers, "body": strict_json.compact(body)}
    finally:
        service.metrics.flush_metrics()


def success(output: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a 200 answer with `output` as JSON."""
    all_headers = {"Content-Type": "application/json", **(headers or {})}
    return {"statusCode": 200, "headers": all_headers, "body": strict_json.compact(output)}


def size_in_answer(part: Any) -> int:
    """Return the most bytes that `part` takes in Lambda's answer, which contains the body as a JSON string.

    The runtime can write any character that is not ASCII as an escape.
    """
    return len(json.dumps(strict_json.compact(part)))


def count(metrics: Metrics, outcomes: Mapping[str, int], budget: RetryBudget) -> None:
    """Add the outcomes, the conflicts and the retries of a request to the metrics."""
    tries = {"TransactionConflicts": budget.conflicts, "Retries": budget.retries}
    for name, value in (*outcomes.items(), *tries.items()):
        metrics.add_metric(name, "Count", value)


def _serving(operation: Operation, served: Mapping[Operation, Serve[T]]) -> Serve[T]:
    if operation not in served:
        # The other function serves this route. During a deployment, API Gateway can still send the request here.
        raise Unavailable(1, "This route is being deployed. Send the same request again later.")
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
        service.logger.warning("service unavailable", extra=facts)
    else:
        count(service.metrics, {"RequestFailed": 1}, budget)
        service.logger.error("request failed", exc_info=error, extra=facts)
