"""Steps, waits and checks that several end-to-end tests share."""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.testing.local_stack import LocalStack
from tests.testing.payloads import payload
from tests.testing.problems import PROBLEM_MEMBERS
from tools import setup


def metering(local_json: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [setup.METERING, *arguments],
        env={**os.environ, "METERING_LOCAL": str(local_json)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until(condition: Callable[[], Any], timeout_s: float = 30) -> bool:
    """Wait until `condition` holds.

    Returns: whether it did in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def limit_events(stack: LocalStack, organization: str, at_least: int) -> list[dict[str, Any]]:
    """Wait for at least this many limit events of the organization, and collect more for another second."""
    deadline = time.monotonic() + stack.patience_s
    while True:
        found = [event for event in stack.events(organization, at_least=1) if "limit" in event["detail-type"]]
        if len(found) >= at_least or time.monotonic() > deadline:
            return found


def publish(stack: LocalStack, name: str, organization: str, **members: Any) -> None:
    """Publish the example event about this organization and from now, as another service would."""
    event = payload(name)
    detail = event["detail"]
    detail["id"] = str(uuid.uuid4())
    (moment,) = detail["payload"].keys() & {"changedAt", "createdAt", "deletedAt"}
    (named,) = detail["payload"].keys() & {"organizationId", "orgId"}
    detail["payload"] |= {named: organization, moment: ago(), **members}
    put_event(stack, event)


def put_event(stack: LocalStack, event: Any) -> None:
    """Publish an event that has the form in which EventBridge delivers it."""
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


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat()


def assert_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem.keys() >= PROBLEM_MEMBERS
    assert (problem["status"], problem["code"]) == (status, code)
    return problem
