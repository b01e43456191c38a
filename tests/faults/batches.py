"""Checks the answer to a batch as a whole. The checker itself checks each record like a single request."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.faults.evidence import STATUSES, BatchAttempt

# The retry budget is 7.5 s. A request gives up when its next wait, of at most a second, would end after that.
_PATIENT_S = 6.5
_REUSED, _INVALID, _BUSY = "IDEMPOTENCY_KEY_REUSED", "VALIDATION_FAILED", "SERVICE_UNAVAILABLE"
_REFUSED = {403: "FORBIDDEN", 404: "NOT_FOUND", 422: _INVALID}


def wrong_in(batch: BatchAttempt) -> Iterator[str]:
    """Describe every way in which the answer breaks the contract."""
    if batch.status != 200:
        return
    results = batch.results
    indexes = [result.get("index") for result in results]
    if indexes != list(range(len(batch.records))):
        yield f"{batch.name} of {len(batch.records)} records got results for the indexes {indexes}"
        return
    statuses = [result.get("status") for result in results]
    if not set(statuses) <= set(STATUSES):
        yield f"{batch.name} got an unknown status: {set(statuses) - set(STATUSES)}"
        return
    if batch.body.get("totals") != {status: statuses.count(status) for status in STATUSES}:
        yield f"{batch.name} got the totals {batch.body.get('totals')}, but its results have {Counter(statuses)}"
    for result, sent in zip(results, batch.records, strict=True):
        name = f"{batch.name}[{result['index']}]"
        if sent.flawed and not (result["status"] == "invalid" and result.get("problem", {}).get("code") == _INVALID):
            yield f"{name} breaks the contract, but was answered {result}"
        elif sent.flawed and not result["problem"].get("issues"):
            yield f"{name} breaks the contract, but got no issues: {result}"
        yield from (f"{name} {wrong}" for wrong in _wrong_in_result(result, batch))
    refused = any(each.status in (403, 404) for each in batch.attempts)
    if refused and not {"replayed", "conflict", "unavailable"} & set(statuses):
        yield f"{batch.name} was answered 200, but its organization may not record"


def _wrong_in_result(result: dict[str, Any], batch: BatchAttempt) -> Iterator[str]:
    status, problem = result["status"], result.get("problem")
    if status in ("recorded", "replayed", "refused"):
        if problem is not None:
            yield f"was {status}, but got a problem: {problem}"
        if "currentUsage" not in result and batch.ended_at_s - batch.began_at_s < _PATIENT_S:
            yield f"got no total, although there was enough time: {result}"
        return
    if "currentUsage" in result or "limitReached" in result:
        yield f"was not counted, but got a total: {result}"
    match status, problem:
        case "conflict", {"status": 422, "code": code} if code == _REUSED:
            return
        case "unavailable", {"status": 503, "code": code, "retryable": True, "retryAfter": int()} if code == _BUSY:
            return
        case "invalid", {"status": number, "code": code} if _REFUSED.get(number) == code:
            return
    yield f"is {status}, but has another problem: {problem}"
