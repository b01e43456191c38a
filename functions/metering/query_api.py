"""The query function: a question over HTTPS in, its answer out. It may not write.

Environment: TABLE_NAME; and how the issuer writes its tokens, as `edge` says.
"""

import gc

# As the record function.
gc.disable()

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import TypeAdapter

from metering import contract, edge, queries, request
from metering.contract import (
    FEATURE_CHECK,
    SUBSCRIPTION_GET,
    USAGE_GET,
    USAGE_SUMMARY,
    FeatureCheckInput,
    Operation,
    SubscriptionGetInput,
    UsageGetInput,
    UsageSummaryInput,
)
from metering.directory import Directory
from metering.edge import Answer, Serve
from metering.errors import Unavailable
from metering.queries import View
from metering.request import Request
from metering.retry import Effort

T = TypeVar("T")

Service: TypeAlias = edge.Service[View]


def respond(event: Any, context: LambdaContext, service: Service) -> Answer:
    """Answer one request of the HTTP API. Never raises."""
    return edge.respond(event, context, service, _SERVED)


def _asking(
    operation: Operation, model: TypeAdapter[T], answer: Callable[[T, str, Service, Effort], Any]
) -> Serve[View]:
    """Serve `operation` by `answer`, which takes what `model` makes of the query string."""

    def serve(asked: Request, organization: str, service: Service, effort: Effort) -> Answer:
        try:
            output = answer(contract.valid(model, request.parameters(asked)), organization, service, effort)
        except Unavailable as late:
            message = "Answering took too long. Send the same request again."
            raise Unavailable(late.retry_after_s, message) from late
        edge.count(service.metrics, {"QueryAnswered": 1}, effort)
        facts = {"organization": organization, "operation": operation.key, "retries": effort.retries}
        service.logger.info("query answered", extra=facts)
        return edge.success(output)

    return serve


_SERVED = {
    USAGE_SUMMARY: _asking(
        USAGE_SUMMARY,
        TypeAdapter(UsageSummaryInput),
        lambda asked, name, service, effort: queries.usage_summary(asked, name, service.books, effort, service.now()),
    ),
    FEATURE_CHECK: _asking(
        FEATURE_CHECK,
        TypeAdapter(FeatureCheckInput),
        lambda asked, name, service, effort: queries.feature_check(asked, name, service.books, effort, service.now()),
    ),
    SUBSCRIPTION_GET: _asking(
        SUBSCRIPTION_GET,
        TypeAdapter(SubscriptionGetInput),
        lambda _, name, service, effort: queries.subscription(name, service.books, effort),
    ),
    USAGE_GET: _asking(
        USAGE_GET,
        TypeAdapter(UsageGetInput),
        lambda asked, name, service, effort: queries.usage_record(asked, name, service.books, effort, service.now()),
    ),
}


def service_from_environment() -> Service:
    """What the function's environment variables describe."""
    return edge.service_from_environment(
        lambda client, table, clocks: View(client, table, Directory(client, table, clocks))
    )


_SERVICE = service_from_environment()

# What is there now stays, and no later collection need look at it.
gc.freeze()
gc.enable()


def handler(event: Any, context: LambdaContext) -> Answer:
    """AWS Lambda's entry."""
    return respond(event, context, _SERVICE)
