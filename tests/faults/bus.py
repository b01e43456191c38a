"""In-memory versions of the event bus, the failure bucket and the queue, which answer as AWS documents.

They are not emulated, because no emulator rejects the entries that EventBridge rejects.
"""

import hashlib
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

BUS = "metering"
# Source: EventBridge API reference, PutEvents.
MAX_ENTRIES = 10
# Transient errors. Source: EventBridge API reference, PutEventsResultEntry, ErrorCode.
_PASSING = ("InternalFailure", "ThrottlingException", "InternalException")


@dataclass
class Bus:
    """An event bus that never accepts some events, chosen by `seed`.

    It rejects either the entry of the event or the whole call that holds the entry.
    """

    seed: int
    unpublishable_one_in: int
    """The bus never accepts one event in this many; 0: it accepts all."""
    delivered: list[dict[str, Any]] = field(default_factory=list)
    """Every event that a rule would have received, in EventBridge's envelope."""
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    """Returns a new EventBridge id for each delivery."""
    unpublishable: set[str] = field(default_factory=set)
    """Ids of published events that the bus never accepts."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put_events(self, body: bytes, failing: float, random: Random) -> tuple[int, dict[str, Any]]:
        """Answer PutEvents. Each entry fails with the probability `failing`.

        Returns: the HTTP status and the body.
        """
        entries = json.loads(body)["Entries"]
        verdicts = [self._verdict(json.loads(entry["Detail"])) for entry in entries]
        if any(entry.get("EventBusName") != BUS for entry in entries):
            return 400, {"__type": "ResourceNotFoundException", "message": "the bus does not exist"}
        if not 1 <= len(entries) <= MAX_ENTRIES or "spoils the call" in verdicts:
            return 400, {"__type": "ValidationException", "message": "an entry is not valid"}
        answers = [
            self._refused("MalformedDetail")
            if verdict == "refused"
            else self._refused(random.choice(_PASSING))
            if random.random() < failing
            else self._take(entry)
            for entry, verdict in zip(entries, verdicts, strict=True)
        ]
        return 200, {"FailedEntryCount": sum("ErrorCode" in answer for answer in answers), "Entries": answers}

    def _verdict(self, detail: dict[str, Any]) -> str:
        random = Random(f"{self.seed} {_name(detail)}")
        if not self.unpublishable_one_in or random.randrange(self.unpublishable_one_in):
            return "taken"
        with self._lock:
            self.unpublishable.add(detail["id"])
        return random.choice(["refused", "spoils the call"])

    def _refused(self, code: str) -> dict[str, Any]:
        return {"ErrorCode": code, "ErrorMessage": "not now"}

    def _take(self, entry: dict[str, Any]) -> dict[str, Any]:
        event_id = self.new_id()
        event = {
            "version": "0",
            "id": event_id,
            "detail-type": entry["DetailType"],
            "source": entry["Source"],
            "account": "000000000000",
            "time": datetime.fromtimestamp(entry["Time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": "eu-central-1",
            "resources": [],
            "detail": json.loads(entry["Detail"]),
        }
        with self._lock:
            self.delivered.append(event)
        return {"EventId": event_id}


def _name(detail: dict[str, Any]) -> str:
    """The trace id or the reached threshold of the event. Unlike the event id, it is the same in every run."""
    payload = detail["payload"]
    reached = [payload.get(member) for member in ("organizationId", "feature", "limit", "percentage")]
    return str(detail.get("traceId", reached))


@dataclass
class Queue:
    """A queue without a consumer, so that it keeps all messages."""

    messages: list[str] = field(default_factory=list)

    def send(self, body: bytes) -> dict[str, Any]:
        """Store the message and return the answer to SendMessage."""
        message = json.loads(body)["MessageBody"]
        self.messages.append(message)
        digest = hashlib.md5(message.encode(), usedforsecurity=False).hexdigest()
        return {"MessageId": str(uuid.uuid4()), "MD5OfMessageBody": digest}


@dataclass
class FailureBucket:
    """The failure bucket, as objects by key."""

    objects: dict[str, bytes] = field(default_factory=dict)

    def put(self, key: str, body: bytes) -> None:
        self.objects[key] = body
