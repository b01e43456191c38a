"""What a batch is answered, as an answer of its own; what it says of each record is checked as if that came alone."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.faults.evidence import STATUSES, BatchAttempt

# A request tries for 7.5 s, and gives up when the next wait, of a second at most, would end after that.
_PATIENT_S = 6.5
_REUSED, _INVALID, _BUSY = "IDEMPOTENCY_KEY_REUSED", "VALIDATION_FAILED", "SERVICE_UNAVAILABLE"
_REFUSED = {403: "FORBIDDEN", 404: "NOT_FOUND", 422: _INVALID}


def wrong_in(batch: BatchAttempt) -> Iterator[str]:
    """Every way in which the answer breaks the contract, in words."""
    if batch.status != 200:
        return
    results = batch.results
    if [result.get("index") for result in results] != list(range(len(batch.records))):
        yield f"{batch.name} of {len(batch.records)} records was answered on {[each.get('index') for each in results]}"
        return
    told = [result.get("status") for result in results]
    if not set(told) <= set(STATUSES):
        yield f"{batch.name} was answered with a status that there is not: {set(told) - set(STATUSES)}"
        return
    if batch.body.get("totals") != {status: told.count(status) for status in STATUSES}:
        yield f"{batch.name} was told the totals {batch.body.get('totals')} of {Counter(told)}"
    for result, sent in zip(results, batch.records, strict=True):
        name = f"{batch.name}[{result['index']}]"
        if sent.flawed and not (result["status"] == "invalid" and result.get("problem", {}).get("code") == _INVALID):
            yield f"{name} breaks the contract, and was answered {result}"
        elif sent.flawed and not result["problem"].get("issues"):
            yield f"{name} was not told what breaks the contract: {result}"
        yield from (f"{name} {wrong}" for wrong in _wrong_in_result(result, batch))
    refused = any(each.status in (403, 404) for each in batch.attempts)
    if refused and not {"replayed", "conflict", "unavailable"} & set(told):
        yield f"{batch.name} was answered 200, and nobody may record"


def _wrong_in_result(result: dict[str, Any], batch: BatchAttempt) -> Iterator[str]:
    status, problem = result["status"], result.get("problem")
    if status in ("recorded", "replayed", "refused"):
        if problem is not None:
            yield f"was {status}, and told of a problem: {problem}"
        if "currentUsage" not in result and batch.ended_at_s - batch.began_at_s < _PATIENT_S:
            yield f"was told no total, and there was time enough: {result}"
        return
    if "currentUsage" in result or "limitReached" in result:
        yield f"was not counted, and told a total: {result}"
    match status, problem:
        case "conflict", {"status": 422, "code": code} if code == _REUSED:
            return
        case "unavailable", {"status": 503, "code": code, "retryable": True, "retryAfter": int()} if code == _BUSY:
            return
        case "invalid", {"status": number, "code": code} if _REFUSED.get(number) == code:
            return
    yield f"is {status}, and its problem another one: {problem}"
