"""What other services say of organizations on the bus, on the deployed stack."""

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ops import organizations
from ops.errors import OrganizationUnknown
from tests.local_stack import LocalStack
from tests.payloads import example, payload


def publish(stack: LocalStack, name: str, organization: str, **members: Any) -> None:
    """Put the payload's event on the bus, about this organization, as another service would."""
    event = payload(name)
    detail = event["detail"]
    detail["id"] = str(uuid.uuid4())
    detail["payload"] |= {"organizationId": organization, **members}
    answer = stack.access.events().put_events(
        Entries=[
            {
                "EventBusName": stack.stack.bus,
                "Source": event["source"],
                "DetailType": event["detail-type"],
                "Time": datetime.now(UTC),
                "Detail": json.dumps(detail),
            }
        ]
    )
    assert answer["FailedEntryCount"] == 0


def until(stack: LocalStack, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + stack.patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def _stored(stack: LocalStack, organization: str) -> dict[str, Any]:
    try:
        return organizations.get(stack.dynamodb, stack.table, organization)
    except OrganizationUnknown:
        return {}


def test_an_organization_that_was_created_elsewhere_may_record(stack: LocalStack) -> None:
    organization = f"created-{uuid.uuid4().hex[:8]}"
    assert stack.record(organization, example()).status_code == 404
    publish(stack, "org.created.json", organization)
    until(stack, lambda: _stored(stack, organization).get("status") == "active")
    assert stack.record(organization, example()).status_code == 200


def test_a_subscription_that_changed_elsewhere_is_known_here_and_an_older_change_is_not(stack: LocalStack) -> None:
    organization = stack.new_organization()
    later = {"changedAt": "2026-11-23T12:00:00Z", "newPlan": "team"}
    publish(stack, "billing.subscription.changed.json", organization, **later)
    until(stack, lambda: _stored(stack, organization).get("planId") == "team")
    trial = {"changedAt": "2026-11-23T11:00:00Z", "newPlan": "pro", "trialEndsAt": "2026-12-01T00:00:00Z"}
    publish(stack, "billing.subscription.changed.json", organization, **trial)
    until(stack, lambda: "trialEndsAt" in _stored(stack, organization))
    assert _stored(stack, organization)["planId"] == "team"
    assert stack.record(organization, example()).status_code == 200


def test_an_event_that_breaks_the_contract_is_in_the_queue_with_its_reason(stack: LocalStack) -> None:
    organization = stack.new_organization()
    outputs = stack.access.cloudformation().describe_stacks(StackName="usage-metering-local-service")["Stacks"][0]
    (url,) = (output["OutputValue"] for output in outputs["Outputs"] if output["OutputKey"] == "RejectedQueue")
    publish(stack, "billing.subscription.changed.json", organization, newStatus="GONE")
    rejected: list[Any] = []

    def drain() -> bool:
        received = stack.access.sqs().receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        kept = [json.loads(message["Body"]) for message in received.get("Messages", [])]
        # Of what others left there.
        rejected.extend(one for one in kept if organization in json.dumps(one))
        return bool(rejected)

    until(stack, drain)
    (kept,) = rejected
    assert kept["reason"].startswith("newStatus is 'GONE'")
    assert kept["event"]["detail"]["payload"]["organizationId"] == organization
    assert "planId" not in _stored(stack, organization)
