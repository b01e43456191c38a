"""The record function: answers the API's commands, which record usage.

Variables: see `api_environment`; RETENTION_DAYS (default 400), how long a record reserves its idempotency key;
UNKNOWN_FEATURES (`accept`, the default, or `reject`).
"""

from metering import cold_start  # before everything else

# isort: split

import os
from typing import TYPE_CHECKING, Any, TypeAlias

from aws_lambda_powertools.utilities.typing import LambdaContext

from metering import api_environment, environment
from metering.http import endpoint, models, problems, request, strict_json
from metering.http.endpoint import Answer
from metering.http.models import RecordResult, RecordStatus, RecordTotals, RecordUsageOutput, RecordUsagesOutput
from metering.http.operations import RECORD_USAGE, RECORD_USAGES
from metering.http.request import Request
from metering.model.clocks import Clocks
from metering.model.errors import InputInvalid, KeyReused, Unavailable
from metering.model.plans import is_reached
from metering.storage.retry import RetryBudget
from metering.storage.signals import MalformedItem
from metering.usage.counters import Counters
from metering.usage.organization_cache import OrganizationCache
from metering.usage.recorder import Accepted, Outcome, RecordDeps, RecordUsage, RefusedByLimit, record_usages

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Service: TypeAlias = endpoint.Service[RecordDeps]


def respond(event: Any, context: LambdaContext, service: Service) -> Answer:
    """Answer one request of the HTTP API. Every error becomes a problem."""
    return endpoint.respond(event, context, service, {RECORD_USAGE: _record, RECORD_USAGES: _record_batch})


def _record(asked: Request, organization: str, service: Service, budget: RetryBudget) -> Answer:
    members = request.with_idempotency_key(request.members(asked, RECORD_USAGE.max_body_bytes), asked)
    command = _command(members, organization, asked.id)
    (outcome,) = record_usages([command], service.deps, budget, service.now())
    if not isinstance(outcome, Accepted | RefusedByLimit):
        raise outcome
    result = _result(0, outcome, asked.id)
    if "currentUsage" not in result:
        raise Unavailable(retry_after_s=1)
    _log(result["status"], outcome, budget, service)
    output = RecordUsageOutput(
        recorded=isinstance(outcome, Accepted),
        currentUsage=result["currentUsage"],
        limitReached=result["limitReached"],
    )
    if "limit" in result:
        output["limit"] = result["limit"]
    return endpoint.success(output, {"Idempotent-Replayed": "true"} if result["status"] == "replayed" else None)


def _record_batch(asked: Request, organization: str, service: Service, budget: RetryBudget) -> Answer:
    request.without_idempotency_key(asked)
    records = models.batch_records(request.members(asked, RECORD_USAGES.max_body_bytes))
    outcomes: dict[int, Outcome] = {}
    commands: dict[int, RecordUsage] = {}
    for index, record in enumerate(records):
        try:
            commands[index] = _command(record, organization, asked.id)
        except InputInvalid as invalid:
            outcomes[index] = invalid
    done = record_usages(list(commands.values()), service.deps, budget, service.now())
    outcomes |= zip(commands, done, strict=True)
    for malformed in {str(outcome) for outcome in done if isinstance(outcome, MalformedItem)}:
        service.logger.error("an item is malformed", extra={"organization": organization, "reason": malformed})
    results = [_result(index, outcomes[index], asked.id) for index in range(len(records))]
    totals = RecordTotals(recorded=0, replayed=0, refused=0, conflict=0, invalid=0, unavailable=0)
    for result in results:
        totals[result["status"]] += 1
    _log_batch(organization, totals, budget, service)
    return endpoint.success(RecordUsagesOutput(results=results, totals=totals))


def _command(members: Any, organization: str, trace_id: str) -> RecordUsage:
    usage = models.record_usage_input(members)
    metadata = usage.get("metadata")
    return RecordUsage(
        organization=organization,
        feature=usage["feature"],
        quantity=usage["quantity"],
        idempotency_key=usage["idempotencyKey"],
        fingerprint=strict_json.fingerprint(
            {name: value for name, value in members.items() if name != "idempotencyKey"}
        ),
        trace_id=trace_id,
        source_id=usage.get("sourceId"),
        source_type=usage.get("sourceType"),
        metadata=None if metadata is None else strict_json.compact(metadata),
    )


def _result(index: int, outcome: Outcome, trace_id: str) -> RecordResult:
    """Return a record's result in a batch. The answer to a single record has the same members."""
    if not isinstance(outcome, Accepted | RefusedByLimit):
        _, _, problem = problems.problem(outcome, RECORD_USAGES, trace_id)
        return RecordResult(index=index, status=_status(outcome), problem=problem)
    result = RecordResult(index=index, status=_status(outcome))
    if outcome.limit is not None:
        result["limit"] = outcome.limit
    if outcome.current_usage is not None:
        result["currentUsage"] = outcome.current_usage
        result["limitReached"] = is_reached(outcome.limit, outcome.current_usage)
    if isinstance(outcome, RefusedByLimit):
        # The total can be below the limit, but this quantity does not fit.
        result["limitReached"] = True
    return result


def _status(outcome: Outcome) -> RecordStatus:
    match outcome:
        case Accepted():
            return "replayed" if outcome.replayed else "recorded"
        case RefusedByLimit():
            return "refused"
        case KeyReused():
            return "conflict"
        case Unavailable() | MalformedItem():
            return "unavailable"
        case _:
            return "invalid"


# The metric of each status, for single records and for records in a batch.
_METRICS: dict[RecordStatus, str] = {
    "recorded": "UsageRecorded",
    "replayed": "UsageReplayed",
    "refused": "UsageRefused",
    "conflict": "KeyReused",
    "invalid": "RequestInvalid",
    "unavailable": "RequestUnavailable",
}


def _log(status: RecordStatus, outcome: Accepted | RefusedByLimit, budget: RetryBudget, service: Service) -> None:
    usage = outcome.usage
    facts = {
        "organization": usage.organization,
        "feature": usage.feature,
        "quantity": usage.quantity,
        "billing_period": usage.billing_period,
        "current_usage": outcome.current_usage,
        "limit": outcome.limit,
        "conflicts": budget.conflicts,
        "retries": budget.retries,
    }
    if isinstance(outcome, Accepted):
        facts["event_id"] = usage.event_id
    endpoint.count(service.metrics, {_METRICS[status]: 1}, budget)
    service.logger.info("usage refused at its limit" if status == "refused" else f"usage {status}", extra=facts)


def _log_batch(organization: str, totals: RecordTotals, budget: RetryBudget, service: Service) -> None:
    outcomes = {metric: totals[status] for status, metric in _METRICS.items() if totals[status]}
    endpoint.count(service.metrics, outcomes, budget)
    facts = {"organization": organization, **totals, "conflicts": budget.conflicts, "retries": budget.retries}
    service.logger.info("batch answered", extra=facts)


def service_from_environment() -> Service:
    """Return the function's service, from its environment variables."""

    def deps(client: "DynamoDBClient", table: str, clocks: Clocks) -> RecordDeps:
        return RecordDeps(
            client=client,
            table=table,
            organizations=OrganizationCache(client, table, clocks),
            counters=Counters(client, table, clocks),
            retention=environment.retention(),
            reject_unknown_features=os.environ.get("UNKNOWN_FEATURES", "accept") == "reject",
        )

    return api_environment.service(deps)


_SERVICE = service_from_environment()
cold_start.ended()


def handler(event: Any, context: LambdaContext) -> Answer:
    """AWS Lambda's entry."""
    return respond(event, context, _SERVICE)
