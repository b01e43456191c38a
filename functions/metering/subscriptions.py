"""The subscriptions function: stores the changes of organizations and subscriptions that other services publish.

The function consumes `billing.subscription.changed`, `org.created` and `org.deleted` from the bus. The bus delivers
these events at least once and in any order.

Variables: TABLE_NAME; REJECTED_QUEUE_URL.
"""

from metering import cold_start  # before everything else

# isort: split

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from metering import environment
from metering.inbound.organization_changes import TIMEOUTS, SubscriptionDeps, consume


def respond(event: Any, deps: SubscriptionDeps) -> None:
    """Consume one event, and count the event in the metrics."""
    try:
        deps.metrics.add_metric("EventsReceived", "Count", 1)
        consume(event, deps)
    finally:
        deps.metrics.flush_metrics()


def deps_from_environment() -> SubscriptionDeps:
    """Return the function's dependencies, from its environment variables."""
    session, config = environment.session(), environment.config(TIMEOUTS)
    return SubscriptionDeps(
        client=session.create_client("dynamodb", config=config),
        table=environment.table(),
        queue=session.create_client("sqs", config=config),
        queue_url=os.environ["REJECTED_QUEUE_URL"],
        now=environment.now,
        logger=Logger(),
        metrics=Metrics(),
    )


_DEPS = deps_from_environment()
cold_start.ended()


def handler(event: Any, context: LambdaContext) -> None:  # noqa: ARG001 - Lambda's
    """AWS Lambda's entry."""
    respond(event, _DEPS)
