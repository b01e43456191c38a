"""The query function: answers the API's queries. The function has no permission to write.

Variables: see `api_environment`.
"""

from metering import cold_start  # before everything else

# isort: split

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import TypeAdapter

from metering import api_environment
from metering.http import endpoint, models, request
from metering.http.endpoint import Answer, Serve
from metering.http.models import (
    DayUsage,
    FeatureCheckInput,
    FeatureCheckOutput,
    FeatureUsage,
    SubscriptionGetInput,
    SubscriptionGetOutput,
    UsageGetInput,
    UsageGetOutput,
    UsageListInput,
    UsageListOutput,
    UsageSummaryInput,
    UsageSummaryOutput,
)
from metering.http.operations import (
    FEATURE_CHECK,
    SUBSCRIPTION_GET,
    USAGE_GET,
    USAGE_LIST,
    USAGE_SUMMARY,
    Operation,
)
from metering.http.records import record_output
from metering.http.request import Request
from metering.model.errors import BadRequest, InputInvalid, Issue, Unavailable
from metering.model.moments import to_timestamp
from metering.model.periods import billing_period_of, end_of, start_of
from metering.model.usage import RecordFilter
from metering.storage.retry import RetryBudget
from metering.usage import cursors, listing, queries
from metering.usage.organization_cache import OrganizationCache
from metering.usage.queries import QueryDeps

T = TypeVar("T")

_DEFAULT_PAGE_SIZE = 100

Service: TypeAlias = endpoint.Service[QueryDeps]


def respond(event: Any, context: LambdaContext, service: Service) -> Answer:
    """Answer one request of the HTTP API. Every error becomes a problem."""
    return endpoint.respond(event, context, service, _SERVED)


def _query(
    operation: Operation, model: TypeAdapter[T], answer: Callable[[T, str, Service, RetryBudget], Any]
) -> Serve[QueryDeps]:
    """Return the function that serves `operation`. `answer` gets the parameters after `model` validated them."""

    def serve(asked: Request, organization: str, service: Service, budget: RetryBudget) -> Answer:
        try:
            output = answer(models.valid(model, request.parameters(asked)), organization, service, budget)
        except Unavailable as late:
            message = "The query did not finish in time. Send the same request again."
            raise Unavailable(late.retry_after_s, message) from late
        endpoint.count(service.metrics, {"QueryAnswered": 1}, budget)
        facts = {"organization": organization, "operation": operation.key, "retries": budget.retries}
        service.logger.info("query answered", extra=facts)
        return endpoint.success(output)

    return serve


def _usage_summary(asked: UsageSummaryInput, name: str, service: Service, budget: RetryBudget) -> UsageSummaryOutput:
    period = _period(asked, service.now())
    found = queries.usage_summary(name, period, service.deps, budget, by_day="by" in asked)
    return {
        "billingPeriod": period,
        "periodStart": to_timestamp(start_of(period)),
        "periodEnd": to_timestamp(end_of(period)),
        "usage": [_feature_usage(each) for each in found],
    }


def _period(asked: UsageSummaryInput, now: datetime) -> str:
    """Return the billing period that the request asks for.

    Raises:
        BadRequest: the parameters billingPeriod and period differ.
        InputInvalid: the billing period is after the current billing period.
    """
    present = billing_period_of(now)
    path = "billingPeriod" if "billingPeriod" in asked else "period"
    period = asked.get("billingPeriod", asked.get("period", "current"))
    if asked.get("period", period) != period:
        message = "The parameters billingPeriod and period differ. Send only one of the two."
        raise BadRequest("periods_differ", message, "period")
    if period == "current":
        return present
    _check_begun(period, present, path)
    return period


def _check_begun(period: str, present: str, path: str) -> None:
    """Check that the billing period is not after the present one.

    Raises:
        InputInvalid: the parameter at `path` names a future period.
    """
    # Compared as text, because both have the form YYYY-MM.
    if period > present:
        message = (
            f"The billing period is in the future. Send the current billing period, {present}, or an earlier month."
        )
        raise InputInvalid([Issue(path, "period_in_future", message)])


def _feature_usage(found: queries.FeatureUsage) -> FeatureUsage:
    usage = FeatureUsage(feature=found.feature, used=found.used)
    if found.limit is not None:
        usage["limit"] = found.limit
    if found.percentage is not None:
        usage["percentage"] = found.percentage
    if found.unit is not None:
        usage["unit"] = found.unit
    if found.days is not None:
        usage["days"] = [DayUsage(date=each.date.isoformat(), used=each.used) for each in found.days]
    return usage


def _feature_check(asked: FeatureCheckInput, name: str, service: Service, budget: RetryBudget) -> FeatureCheckOutput:
    quantity = asked.get("quantity", 1)
    access = queries.feature_check(name, asked["feature"], service.deps, budget, service.now(), quantity)
    answer = FeatureCheckOutput(hasAccess=access.is_granted, reason=access.reason)
    if not access.is_granted and access.upgrade_url is not None:
        answer["upgradeUrl"] = access.upgrade_url
    if access.limit_usage is not None:
        answer["used"] = access.limit_usage.used
        answer["limit"] = access.limit_usage.limit
        answer["remaining"] = access.limit_usage.remaining
        answer["resetsAt"] = to_timestamp(access.limit_usage.resets_at)
    return answer


def _subscription(_: SubscriptionGetInput, name: str, service: Service, budget: RetryBudget) -> SubscriptionGetOutput:
    found = queries.subscription(name, service.deps, budget)
    answer = SubscriptionGetOutput(
        id=found.id,
        organizationId=name,
        planId=found.plan,
        planName=found.plan_name,
        status=found.status,
        currentPeriodStart=to_timestamp(found.current_period_start),
        currentPeriodEnd=to_timestamp(found.current_period_end),
        cancelAtPeriodEnd=found.cancel_at_period_end,
    )
    if found.trial_ends_at is not None:
        answer["trialEndsAt"] = to_timestamp(found.trial_ends_at)
    return answer


def _usage_record(asked: UsageGetInput, name: str, service: Service, budget: RetryBudget) -> UsageGetOutput:
    usage = queries.usage_record(name, asked["idempotencyKey"], service.deps, budget, service.now())
    return record_output(usage)


def _usage_list(asked: UsageListInput, name: str, service: Service, budget: RetryBudget) -> UsageListOutput:
    now = service.now()
    wanted = RecordFilter(asked.get("billingPeriod"), asked.get("feature"))
    if wanted.billing_period is not None:
        _check_begun(wanted.billing_period, billing_period_of(now), "billingPeriod")
    start = cursors.position_in(asked["cursor"], name, wanted) if "cursor" in asked else cursors.START
    queries.check_known(name, service.deps, budget)
    most = asked.get("pageSize", _DEFAULT_PAGE_SIZE)
    page = listing.read_page(service.deps.client, service.deps.table, name, wanted, start, most, budget, now)
    answer, position, size = UsageListOutput(records=[]), page.next, 0
    for usage in page.usages:
        record = record_output(usage)
        size += endpoint.size_in_answer(record)
        if size > endpoint.MAX_ANSWER_BYTES:
            position = cursors.position_after(answer["records"][-1]["idempotencyKey"])
            break
        answer["records"].append(record)
    if position is not None:
        answer["nextCursor"] = cursors.to_text(position, name, wanted)
    return answer


_SERVED = {
    USAGE_SUMMARY: _query(USAGE_SUMMARY, TypeAdapter(UsageSummaryInput), _usage_summary),
    FEATURE_CHECK: _query(FEATURE_CHECK, TypeAdapter(FeatureCheckInput), _feature_check),
    SUBSCRIPTION_GET: _query(SUBSCRIPTION_GET, TypeAdapter(SubscriptionGetInput), _subscription),
    USAGE_GET: _query(USAGE_GET, TypeAdapter(UsageGetInput), _usage_record),
    USAGE_LIST: _query(USAGE_LIST, TypeAdapter(UsageListInput), _usage_list),
}


def service_from_environment() -> Service:
    """Return the function's service, from its environment variables."""
    return api_environment.service(
        lambda client, table, clocks: QueryDeps(client, table, OrganizationCache(client, table, clocks))
    )


_SERVICE = service_from_environment()
cold_start.ended()


def handler(event: Any, context: LambdaContext) -> Answer:
    """AWS Lambda's entry."""
    return respond(event, context, _SERVICE)
