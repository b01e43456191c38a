"""What other services say of organizations on the bus, on the deployed stack."""

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from ops import organizations
from ops.errors import OrganizationUnknown
from tests.local_stack import LocalStack
from tests.payloads import example, payload


def publish(stack: LocalStack, name: str, organization: str, **members: Any) -> None:
    """Put the payload's event on the bus, about this organization and from now, as another service would."""
    event = payload(name)
    detail = event["detail"]
    detail["id"] = str(uuid.uuid4())
    (moment,) = detail["payload"].keys() & {"changedAt", "createdAt", "deletedAt"}
    (named,) = detail["payload"].keys() & {"organizationId", "orgId"}
    detail["payload"] |= {named: organization, moment: _ago(), **members}
    _send(stack, event)


def _send(stack: LocalStack, event: Any) -> None:
    """Put an event on the bus, as one got it from there."""
    answer = stack.access.events().put_events(
        Entries=[
            {
                "EventBusName": stack.stack.bus,
                "Source": event["source"],
                "DetailType": event["detail-type"],
                "Detail": json.dumps(event["detail"]),
            }
        ]
    )
    assert answer["FailedEntryCount"] == 0


def _ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat()


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


def _rejected(stack: LocalStack, organization: str) -> Any:
    """The one message in the queue that is about this organization, and no longer is there."""
    outputs = stack.access.cloudformation().describe_stacks(StackName="usage-metering-local-service")["Stacks"][0]
    (url,) = (output["OutputValue"] for output in outputs["Outputs"] if output["OutputKey"] == "RejectedQueue")
    sqs = stack.access.sqs()
    found: list[Any] = []

    def look() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
            # Others' stay there, to be seen again.
            if organization in message["Body"]:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                found.append(json.loads(message["Body"]))
        return bool(found)

    until(stack, look)
    (kept,) = found
    return kept


def test_an_organization_that_was_created_elsewhere_may_record(stack: LocalStack) -> None:
    organization = f"created-{uuid.uuid4().hex[:8]}"
    assert stack.record(organization, example()).status_code == 404
    publish(stack, "org.created.json", organization)
    until(stack, lambda: _stored(stack, organization).get("status") == "active")
    assert stack.record(organization, example()).status_code == 200
    publish(stack, "org.deleted.json", organization)
    until(stack, lambda: _stored(stack, organization)["status"] == "inactive")


def test_a_subscription_that_changed_elsewhere_is_known_here_and_an_older_change_is_not(stack: LocalStack) -> None:
    organization = stack.new_organization()
    publish(stack, "billing.subscription.changed.json", organization, newPlan="team")
    until(stack, lambda: _stored(stack, organization).get("planId") == "team")
    trial = {"changedAt": _ago(hours=1), "newPlan": "pro", "trialEndsAt": "2026-12-01T00:00:00Z"}
    publish(stack, "billing.subscription.changed.json", organization, **trial)
    until(stack, lambda: "trialEndsAt" in _stored(stack, organization))
    assert _stored(stack, organization)["planId"] == "team"
    assert stack.record(organization, example()).status_code == 200


def test_an_event_that_breaks_the_contract_is_in_the_queue_with_its_reason(stack: LocalStack) -> None:
    organization = stack.new_organization()
    publish(stack, "billing.subscription.changed.json", organization, newStatus="GONE")
    kept = _rejected(stack, organization)
    assert kept["reason"].startswith("newStatus is 'GONE'")
    assert kept["event"]["detail"]["payload"]["organizationId"] == organization
    assert "planId" not in _stored(stack, organization)


def test_a_rejected_event_that_is_mended_may_be_sent_again(stack: LocalStack) -> None:
    organization = stack.new_organization()
    publish(stack, "billing.subscription.changed.json", organization, changedAt="9999-12-31T00:00:00Z")
    event = _rejected(stack, organization)["event"]
    event["detail"]["payload"]["changedAt"] = _ago()
    _send(stack, event)
    until(stack, lambda: _stored(stack, organization).get("planId") == "pro")
