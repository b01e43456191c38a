"""The publisher function: reads the table's stream, and publishes an event for each usage record and notice.

Variables: BUS_NAME; EVENT_SOURCE (default `saas.billing`); FAILURE_BUCKET.
"""

from metering import cold_start  # before everything else

# isort: split

import os
import time
from collections import Counter
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from metering import environment
from metering.outbox import stream_batches
from metering.outbox.publishing import AT_ONCE, CLIENT_SETTINGS, TIMEOUTS, PublisherDeps, publish


def respond(event: Any, context: LambdaContext, deps: PublisherDeps) -> dict[str, Any]:
    """Publish the events of one batch of the stream.

    Returns: Lambda's partial batch response.
    Raises:
        NotAStreamBatch: the event is not a batch of the stream. Nothing was published.
    """
    records = stream_batches.records_in(event, deps.logger)
    counts = Counter({"StreamRecords": len(records)})
    try:
        first_not_done = publish(records, deps, lambda: context.get_remaining_time_in_millis() / 1000, counts)
        facts = {"records": len(records), "first_not_done": first_not_done}
        if first_not_done is None:
            deps.logger.info("batch published", extra=facts)
        else:
            deps.logger.warning("batch returned to the stream", extra=facts)
    finally:
        for name, value in counts.items():
            deps.metrics.add_metric(name, "Count", value)
        deps.metrics.flush_metrics()
    return stream_batches.answer(first_not_done)


def deps_from_environment() -> PublisherDeps:
    """Return the function's dependencies, from its environment variables."""
    session = environment.session()
    config = environment.config(TIMEOUTS, **CLIENT_SETTINGS)
    return PublisherDeps(
        events=session.create_client("events", config=config),
        bus=os.environ["BUS_NAME"],
        source=os.environ.get("EVENT_SOURCE", "saas.billing"),
        failures=session.create_client("s3", config=config),
        failure_bucket=os.environ["FAILURE_BUCKET"],
        at_once=AT_ONCE,
        sleep=time.sleep,
        random=environment.RANDOM,
        logger=Logger(),
        metrics=Metrics(),
    )


_DEPS = deps_from_environment()
cold_start.ended()


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """AWS Lambda's entry."""
    return respond(event, context, _DEPS)
