"""The bus, the failure store and the queue as far as the functions see them: what they took, by AWS's rules.

No emulator refuses what EventBridge refuses, so there is nothing real to be had here.
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
# What heals by itself. Source: EventBridge API reference, PutEventsResultEntry, ErrorCode.
_PASSING = ("InternalFailure", "ThrottlingException", "InternalException")


@dataclass
class Bus:
    """An event bus. Some events, chosen by `seed`, it refuses for ever: alone, or with the whole call they are in."""

    seed: int
    spoilt_in: int
    """One event in so many is refused for ever; 0: none."""
    delivered: list[dict[str, Any]] = field(default_factory=list)
    """Every event that a rule would have got, in EventBridge's envelope."""
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    """Makes the bus's own id of each delivery."""
    refused_for_ever: set[str] = field(default_factory=set)
    """Ids that were sent and will never be taken."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put_events(self, body: bytes, failing: float, random: Random) -> tuple[int, dict[str, Any]]:
        """Status and answer of PutEvents; each entry fails with the chance `failing`."""
        entries = json.loads(body)["Entries"]
        verdicts = [self._verdict(json.loads(entry["Detail"])) for entry in entries]
        if any(entry.get("EventBusName") != BUS for entry in entries):
            return 400, {"__type": "ResourceNotFoundException", "message": "there is no such bus"}
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
        if not self.spoilt_in or random.randrange(self.spoilt_in):
            return "taken"
        with self._lock:
            self.refused_for_ever.add(detail["id"])
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
    """What is the same in every run, as ids are not: the request that it came of, or what was reached."""
    payload = detail["payload"]
    reached = [payload.get(member) for member in ("organizationId", "feature", "limit", "percentage")]
    return str(detail.get("traceId", reached))


@dataclass
class Queue:
    """A queue, for messages that nobody takes away."""

    messages: list[str] = field(default_factory=list)

    def send(self, body: bytes) -> dict[str, Any]:
        """The answer to SendMessage."""
        message = json.loads(body)["MessageBody"]
        self.messages.append(message)
        digest = hashlib.md5(message.encode(), usedforsecurity=False).hexdigest()
        return {"MessageId": str(uuid.uuid4()), "MD5OfMessageBody": digest}


@dataclass
class FailureStore:
    """A bucket."""

    objects: dict[str, bytes] = field(default_factory=dict)

    def put(self, key: str, body: bytes) -> None:
        self.objects[key] = body
