"""Events of other services about organizations, from the bus of the deployed stack."""

import json
import uuid
from typing import Any

from ops import organizations
from ops.errors import OrganizationUnknown
from tests.e2e.steps import ago, publish, put_event, until
from tests.testing.local_stack import LocalStack
from tests.testing.payloads import example


def _stored(stack: LocalStack, organization: str) -> dict[str, Any]:
    try:
        return organizations.get(stack.dynamodb, stack.table, organization)
    except OrganizationUnknown:
        return {}


def _rejected(stack: LocalStack, organization: str) -> Any:
    """Take the one message about this organization from the queue of rejected events."""
    outputs = stack.access.cloudformation().describe_stacks(StackName="usage-metering-local-service")["Stacks"][0]
    (url,) = (output["OutputValue"] for output in outputs["Outputs"] if output["OutputKey"] == "RejectedQueue")
    sqs = stack.access.sqs()
    found: list[Any] = []

    def look() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
            # Messages about other organizations stay in the queue and become visible again.
            if organization in message["Body"]:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                found.append(json.loads(message["Body"]))
        return bool(found)

    assert until(look, stack.patience_s)
    (kept,) = found
    return kept


def test_an_organization_that_was_created_elsewhere_may_record(stack: LocalStack) -> None:
    organization = f"created-{uuid.uuid4().hex[:8]}"
    assert stack.record(organization, example()).status_code == 404
    publish(stack, "org.created.json", organization)
    assert until(lambda: _stored(stack, organization).get("status") == "active", stack.patience_s)
    assert stack.record(organization, example()).status_code == 200
    publish(stack, "org.deleted.json", organization)
    assert until(lambda: _stored(stack, organization)["status"] == "inactive", stack.patience_s)


def test_a_subscription_change_is_stored_and_an_older_change_is_ignored(stack: LocalStack) -> None:
    organization = stack.new_organization()
    publish(stack, "billing.subscription.changed.json", organization, newPlan="team")
    assert until(lambda: _stored(stack, organization).get("planId") == "team", stack.patience_s)
    trial = {"changedAt": ago(hours=1), "newPlan": "pro", "trialEndsAt": "2026-12-01T00:00:00Z"}
    publish(stack, "billing.subscription.changed.json", organization, **trial)
    assert until(lambda: "trialEndsAt" in _stored(stack, organization), stack.patience_s)
    assert _stored(stack, organization)["planId"] == "team"
    assert stack.record(organization, example()).status_code == 200


def test_a_rejected_event_is_in_the_queue_with_its_reason(stack: LocalStack) -> None:
    organization = stack.new_organization()
    publish(stack, "billing.subscription.changed.json", organization, newStatus="GONE")
    kept = _rejected(stack, organization)
    assert kept["reason"].startswith("newStatus is 'GONE'")
    assert kept["event"]["detail"]["payload"]["organizationId"] == organization
    assert "planId" not in _stored(stack, organization)


def test_a_rejected_event_can_be_corrected_and_sent_again(stack: LocalStack) -> None:
    organization = stack.new_organization()
    publish(stack, "billing.subscription.changed.json", organization, changedAt="9999-12-31T00:00:00Z")
    event = _rejected(stack, organization)["event"]
    event["detail"]["payload"]["changedAt"] = ago()
    put_event(stack, event)
    assert until(lambda: _stored(stack, organization).get("planId") == "pro", stack.patience_s)
