"""Gives tests the deployed local stack, over HTTP as a caller and through AWS's APIs as an operator."""

import itertools
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
from metering.http.operations import RECORD_USAGE, RECORD_USAGES, Operation
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan

from ops import access, local_stack, organizations, tokens
from ops.local_stack import Stack
from tests.testing import table

T = TypeVar("T")

# On a small machine, cold workers start one after the other.
_HTTP_TIMEOUT_S = 120.0
_NAMES = itertools.count(1)

# An example of a stack's description. No stack runs at its addresses.
STACK = Stack(
    url="http://127.0.0.1:4566",
    endpoint="http://127.0.0.1:4566",
    region="us-east-1",
    access_key_id="key",
    secret_access_key="secret",
    table="table",
    bus="bus",
    queue_url="http://localhost:4566/000000000000/audit",
    issuer="http://127.0.0.1:4567",
    token_endpoint="http://127.0.0.1:4567/token",
    pid=os.getpid(),
)


@dataclass
class LocalStack:
    """One running stack."""

    stack: Stack
    local_json: Path
    patience_s: float = 60.0
    """The maximum time to wait for events."""
    _audited: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        aws = access.to_local(self.stack)
        self.access = aws
        self.dynamodb = aws.dynamodb()
        self.table = self.stack.table
        self._sqs = aws.sqs()
        self._key = tokens.load_key(local_stack.key_file(self.local_json).read_bytes())
        self.http = httpx.Client(base_url=self.stack.url, timeout=_HTTP_TIMEOUT_S, trust_env=False)

    def new_organization(self, status: organizations.Status = "active") -> str:
        """Create an organization with a name that no other test uses."""
        name = f"test-{next(_NAMES)}-{uuid.uuid4().hex[:8]}"
        organizations.put(self.dynamodb, self.table, name, status)
        return name

    def token(
        self,
        organization: str | None,
        *,
        scopes: Sequence[str] = ("usage:write",),
        issuer: str | None = None,
        audience: str = local_stack.AUDIENCE,
        expires_in_s: int = 3600,
        key: Any = None,
    ) -> str:
        """A token of the stack's issuer. Other arguments make a token that is invalid in one way."""
        return tokens.sign(key or self._key, issuer or self.stack.issuer, audience, organization, scopes, expires_in_s)

    def token_with(self, **claims: Any) -> str:
        """A valid token with these claims in addition to the usual ones."""
        now_s = int(time.time())
        times = {"iat": now_s, "exp": now_s + 3600}
        return tokens.encode(self._key, {"iss": self.stack.issuer, "aud": local_stack.AUDIENCE, **times, **claims})

    def record(self, organization: str, body: Any, *, headers: dict[str, str] | None = None) -> httpx.Response:
        """Record usage as `organization`; `body` is an object, or the bytes to send."""
        return self.post(body, {"Authorization": f"Bearer {self.token(organization)}"} | (headers or {}))

    def record_batch(self, organization: str, body: Any, *, headers: dict[str, str] | None = None) -> httpx.Response:
        """Record a batch as `organization`; `body` is a list of records, or the bytes to send."""
        body = body if isinstance(body, bytes) else {"records": body}
        headers = {"Authorization": f"Bearer {self.token(organization)}"} | (headers or {})
        return self.post(body, headers, RECORD_USAGES)

    def post(self, body: Any, headers: dict[str, str], operation: Operation = RECORD_USAGE) -> httpx.Response:
        """POST to a command's route with these headers. The default content type is JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | headers
        return self.http.post(operation.path, content=content, headers=headers)

    def subscribe(self, organization: str, **features: Entitlement) -> None:
        """Subscribe the organization to its own plan with these features. The subscription is active."""
        plan = Plan(f"plan-of-{organization}", "Professional", features)
        start = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        subscribed = Organization(
            organization,
            subscription_id=f"sub-of-{organization}",
            subscription_status="ACTIVE",
            current_period_start=start,
            current_period_end=start + timedelta(days=31),
            cancel_at_period_end=False,
        )
        table.put_on_plan(self.dynamodb, self.table, subscribed, plan)

    def ask(
        self, organization: str, operation: Operation, headers: dict[str, str] | None = None, /, **parameters: str
    ) -> httpx.Response:
        """Send a query as `organization`."""
        token = self.token(organization, scopes=["usage:read"])
        headers = {"Authorization": f"Bearer {token}"} | (headers or {})
        return self.http.get(operation.path, params=parameters, headers=headers)

    def events(self, organization: str, *, at_least: int, settle_s: float = 1.0) -> list[dict[str, Any]]:
        """Collect the organization's events from the audit queue.

        Waits up to `patience_s` for `at_least` events, and then `settle_s` for more.

        Returns: all events of the organization so far.
        """
        deadline = time.monotonic() + self.patience_s
        while time.monotonic() < deadline and len(self._audited_of(organization)) < at_least:
            self._drain(wait_s=1)
        settled = time.monotonic() + settle_s
        while time.monotonic() < settled:
            self._drain(wait_s=1)
        return self._audited_of(organization)

    def _audited_of(self, organization: str) -> list[dict[str, Any]]:
        # The queue also holds events of other organizations and services, and some of these lack the member.
        return [event for event in self._audited if event["detail"]["payload"].get("organizationId") == organization]

    def _drain(self, wait_s: int) -> None:
        answer = self._sqs.receive_message(
            QueueUrl=self.stack.queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s
        )
        for message in answer.get("Messages", []):
            self._audited.append(json.loads(message["Body"]))
            self._sqs.delete_message(QueueUrl=self.stack.queue_url, ReceiptHandle=message["ReceiptHandle"])


def at_once(call: Callable[[T], Any], inputs: Iterable[T], threads: int = 16) -> list[Any]:
    """Call `call` for each input on `threads` threads.

    Returns: the results in the order of `inputs`.
    """
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, inputs))


def ids(events: Iterable[dict[str, Any]]) -> Counter[str]:
    """The number of deliveries of each event, by its id."""
    return Counter(event["detail"]["id"] for event in events)
