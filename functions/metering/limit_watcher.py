"""The limit watcher: the table's stream in, notices of limits that are reached out, into the table.

Environment: TABLE_NAME; RETENTION_DAYS (400), for which a notice is kept.
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
    """Look at one batch of the stream; the answer is Lambda's partial batch response.

    Raises:
        NotAStreamBatch: the event is something else; nothing was looked at.
    """
    records = stream_batches.records_in(event, deps.logger)
    try:
        deps.metrics.add_metric("RecordsWatched", "Count", len(records))
        first_not_done = check_limits(records, deps, lambda: context.get_remaining_time_in_millis() / 1000)
    finally:
        deps.metrics.flush_metrics()
    return stream_batches.answer(first_not_done)


def deps_from_environment() -> WatcherDeps:
    """What the function's environment variables describe."""
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
