"""An upgrade within a billing period on the deployed stack, by an event of another service and by hand."""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from metering.http.operations import FEATURE_CHECK, USAGE_SUMMARY
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.storage.plan_items import plan_item
from metering.usage.organization_cache import CACHED_S

from ops import organizations
from tests.e2e.steps import limit_events, metering, publish, until
from tests.testing import months
from tests.testing.local_stack import LocalStack, ids
from tests.testing.payloads import example
from tests.testing.table import put_on_plan

# The usual 300 s, and the 180 s that `within_one_month` may wait.
pytestmark = [pytest.mark.verify, pytest.mark.timeout(300 + 180)]


@pytest.fixture(autouse=True)
def within_one_month() -> None:
    # The test takes 70 s, most of them until the caches expire.
    months.wait_for_room(180)


def _by_event(stack: LocalStack, organization: str, plan: str) -> None:
    changed = {"newPlan": plan, "changedAt": datetime.now(UTC).isoformat()}
    publish(stack, "billing.subscription.changed.json", organization, **changed)


def _by_hand(stack: LocalStack, organization: str, plan: str) -> None:
    assert metering(stack.local_json, "organizations", "put", organization, "--plan", plan).returncode == 0


def test_an_upgrade_raises_the_limit_within_a_minute_keeps_the_usage_and_lets_the_new_limit_be_reached(
    stack: LocalStack,
) -> None:
    # One test covers both ways and both kinds of limits, because the caches take a minute to expire.
    upgraded = [_upgraded(stack, _by_event, hard=False), _upgraded(stack, _by_hand, hard=True)]
    known_by = time.monotonic() + CACHED_S
    while time.monotonic() < known_by:
        for organization in upgraded:
            body = _replayed(stack, organization)
            assert (body["limit"], body["currentUsage"], body["limitReached"]) in {(5, 5, True), (8, 5, False)}
        time.sleep(5)
    for organization in upgraded:
        _continues(stack, organization)


def _upgraded(stack: LocalStack, upgrade: Callable[[LocalStack, str, str], None], *, hard: bool) -> str:
    """An organization that reached its plan's limit of 5 and then moved to a plan with a limit of 8."""
    organization = stack.new_organization()
    small, large = (
        Plan(f"{name}-{organization}", name, {"api_calls": Entitlement(limit=limit, hard=hard, warn_at=())})
        for name, limit in (("small", 5), ("large", 8))
    )
    put_on_plan(stack.dynamodb, stack.table, Organization(organization), small)
    assert stack.record(organization, example(quantity=3)).json()["limitReached"] is False
    assert _recorded(stack, organization, 2) == {"recorded": True, "currentUsage": 5, "limitReached": True, "limit": 5}
    assert _seen(stack, organization) == ({"used": 5, "limit": 5, "percentage": 100.0}, "limit_reached")
    (reached,) = limit_events(stack, organization, at_least=1)
    assert (reached["detail-type"], _limit_and_usage(reached)) == ("billing.limit.reached", (5, 5))
    stack.dynamodb.put_item(TableName=stack.table, Item=plan_item(large))
    upgrade(stack, organization, large.id)
    assert until(
        lambda: organizations.get(stack.dynamodb, stack.table, organization)["planId"] == large.id, stack.patience_s
    )
    return organization


def _continues(stack: LocalStack, organization: str) -> None:
    """Check that usage continues from its total, and that reaching the new limit causes its own event."""
    assert _replayed(stack, organization) == {"recorded": True, "currentUsage": 5, "limitReached": False, "limit": 8}
    assert _seen(stack, organization) == ({"used": 5, "limit": 8, "percentage": 62.5}, "limit_available")
    assert _recorded(stack, organization, 1) == {"recorded": True, "currentUsage": 6, "limitReached": False, "limit": 8}
    assert [_limit_and_usage(event) for event in limit_events(stack, organization, at_least=1)] == [(5, 5)]
    assert _recorded(stack, organization, 2) == {"recorded": True, "currentUsage": 8, "limitReached": True, "limit": 8}
    assert _seen(stack, organization) == ({"used": 8, "limit": 8, "percentage": 100.0}, "limit_reached")
    events = limit_events(stack, organization, at_least=2)
    assert sorted(_limit_and_usage(event) for event in events) == [(5, 5), (8, 8)]
    assert set(ids(events).values()) == {1}


def _recorded(stack: LocalStack, organization: str, quantity: int) -> Any:
    return stack.record(organization, example(quantity=quantity, idempotencyKey=str(uuid.uuid4()))).json()


def _replayed(stack: LocalStack, organization: str) -> Any:
    """Replay the first usage, which records nothing."""
    answer = stack.record(organization, example(quantity=3))
    assert answer.headers["Idempotent-Replayed"] == "true"
    return answer.json()


def _seen(stack: LocalStack, organization: str) -> tuple[dict[str, Any], str]:
    """The usage in the summary, and the reason in the feature check."""
    (usage,) = stack.ask(organization, USAGE_SUMMARY).json()["usage"]
    assert usage.pop("feature") == "api_calls"
    return usage, stack.ask(organization, FEATURE_CHECK, feature="api_calls").json()["reason"]


def _limit_and_usage(event: Any) -> tuple[int, int]:
    body = event["detail"]["payload"]
    return body["limit"], body["currentUsage"]
