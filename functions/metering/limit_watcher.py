"""The limit watcher function: reads the table's stream, and stores a notice when usage reaches a threshold.

Variables: TABLE_NAME; RETENTION_DAYS (default 400), the time for which a notice is kept.
"""

from metering import cold_start  # before everything else

# isort: split

from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from metering import environment
from metering.outbox import stream_batches
from metering.outbox.thresholds import TIMEOUTS, WatcherDeps, check_limits


def respond(event: Any, context: LambdaContext, deps: WatcherDeps) -> dict[str, Any]:
    """Check the counters in one batch of the stream against their limits.

    Returns: Lambda's partial batch response.
    Raises:
        NotAStreamBatch: the event is not a batch of the stream. Nothing was checked.
    """
    records = stream_batches.records_in(event, deps.logger)
    try:
        deps.metrics.add_metric("RecordsWatched", "Count", len(records))
        first_not_done = check_limits(records, deps, lambda: context.get_remaining_time_in_millis() / 1000)
    finally:
        deps.metrics.flush_metrics()
    return stream_batches.answer(first_not_done)


def deps_from_environment() -> WatcherDeps:
    """Return the function's dependencies, from its environment variables."""
    return WatcherDeps(
        client=environment.session().create_client("dynamodb", config=environment.config(TIMEOUTS)),
        table=environment.table(),
        retention=environment.retention(),
        now=environment.now,
        logger=Logger(),
        metrics=Metrics(),
    )


_DEPS = deps_from_environment()
cold_start.ended()


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """AWS Lambda's entry."""
    return respond(event, context, _DEPS)
