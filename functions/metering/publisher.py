"""The publisher function: the table's stream in, events on the bus out.

Environment: BUS_NAME; EVENT_SOURCE (`saas.billing`); FAILURE_BUCKET.
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
from metering.outbox.publishing import AT_ONCE, CLIENT_SETTINGS, TIMEOUTS, Outlets, publish


def respond(event: Any, context: LambdaContext, outlets: Outlets) -> dict[str, Any]:
    """Publish one batch of the stream; the answer is Lambda's partial batch response.

    Raises:
        NotAStreamBatch: the event is something else; nothing was published.
    """
    records = stream_batches.records_in(event, outlets.logger)
    counts = Counter({"StreamRecords": len(records)})
    try:
        first_not_done = publish(records, outlets, lambda: context.get_remaining_time_in_millis() / 1000, counts)
        facts = {"records": len(records), "first_not_done": first_not_done}
        if first_not_done is None:
            outlets.logger.info("batch published", extra=facts)
        else:
            outlets.logger.warning("batch returned to the stream", extra=facts)
    finally:
        for name, value in counts.items():
            outlets.metrics.add_metric(name, "Count", value)
        outlets.metrics.flush_metrics()
    return stream_batches.answer(first_not_done)


def outlets_from_environment() -> Outlets:
    """What the function's environment variables describe."""
    session = environment.session()
    config = environment.config(TIMEOUTS, **CLIENT_SETTINGS)
    return Outlets(
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


_OUTLETS = outlets_from_environment()
cold_start.ended()


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """AWS Lambda's entry."""
    return respond(event, context, _OUTLETS)
