"""The bill for a million records, computed from counted calls at given prices and durations."""

import json
import math
from dataclasses import dataclass, field, fields
from typing import Any

from benchmarks.counting import Call
from benchmarks.workloads import Counted, Work
from infra.environments import PROD

_MILLION = 1_000_000

# Log lines beside the functions' own: Lambda writes three for each invocation. API Gateway writes one for each request,
# with the members that infra/http_api.py asks for.
_REQUEST_ID = "8a6ab6c4-2d8e-4d54-9f60-6b5b0f6c1c11"
INVOCATION_LINES = (
    f"START RequestId: {_REQUEST_ID} Version: $LATEST\n"
    f"END RequestId: {_REQUEST_ID}\n"
    f"REPORT RequestId: {_REQUEST_ID}\tDuration: 17.85 ms\tBilled Duration: 18 ms\tMemory Size: 1024 MB\t"
    "Max Memory Used: 112 MB\n"
)
ACCESS_LINE = {
    "requestId": "AbC1dEfGoAMEJrg=",
    "time": "23/Nov/2026:00:20:04 +0000",
    "ip": "203.0.113.7",
    "method": "POST",
    "path": "/saas/billing/usage/record/v1.0.0",
    "route": "POST /saas/billing/usage/record/v1.0.0",
    "protocol": "HTTP/1.1",
    "status": "200",
    "responseBytes": "57",
    "responseLatencyMs": "24",
    "integrationLatencyMs": "22",
    "integrationStatus": "200",
    "integrationError": "-",
    "authorizerError": "-",
    "error": "-",
}


def _for(what: str) -> Any:
    return field(metadata={"for": what})


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices in US dollars."""

    write_units: float = _for("DynamoDB, a million write request units")
    read_units: float = _for("DynamoDB, a million read request units")
    table_gb_month: float = _for("DynamoDB, a GB stored for a month")
    backup_gb_month: float = _for("DynamoDB, point-in-time recovery of a GB for a month")
    lambda_requests: float = _for("Lambda, a million invocations")
    lambda_gb_s: float = _for("Lambda, a GB-second on arm64")
    http_requests: float = _for("API Gateway, a million requests of an HTTP API")
    events: float = _for("EventBridge, a million custom events")
    log_gb: float = _for("CloudWatch Logs, a GB ingested")


@dataclass(frozen=True, kw_only=True)
class Durations:
    """The durations of calls and of the functions' own work in the cloud. No emulator can measure them."""

    get_item_ms: float = _for("GetItem")
    query_ms: float = _for("Query")
    put_item_ms: float = _for("PutItem")
    update_item_ms: float = _for("UpdateItem")
    transaction_ms: float = _for("TransactWriteItems of two items")
    transactional_read_ms: float = _for("TransactGetItems")
    further_item_ms: float = _for("each further item of a transaction")
    put_events_ms: float = _for("PutEvents")
    record_cpu_ms: float = _for("CPU time on a whole core, for a request with one record, measured")
    reader_cpu_ms: float = _for("CPU time on a whole core, for a delivery of the stream with one record")
    further_record_cpu_ms: float = _for("CPU time on a whole core, for each further record of a request or a delivery")
    published_at_once: float = _for("concurrent calls of the publisher")
    full_core_mib: float = _for("MiB of memory at which a function gets a whole core")


@dataclass(frozen=True, kw_only=True)
class Bill:
    """The billed quantities of a million records: in millions, except GB-seconds and GB."""

    http_requests: float = 0
    invocations: float = 0
    gb_s: float = 0
    dynamodb_requests: float = 0
    write_units: float = 0
    read_units: float = 0
    put_events: float = 0
    events: float = 0
    log_gb: float = 0

    def dollars(self, prices: Prices) -> dict[str, float]:
        """The dollars by component."""
        return {
            "API Gateway": self.http_requests * prices.http_requests,
            "Lambda": self.invocations * prices.lambda_requests + self.gb_s * prices.lambda_gb_s,
            "DynamoDB writes": self.write_units * prices.write_units,
            "DynamoDB reads": self.read_units * prices.read_units,
            "EventBridge": self.events * prices.events,
            "logs": self.log_gb * prices.log_gb,
        }


def bill(counted: Counted, durations: Durations) -> Bill:
    """Compute the bill for a million records that are like the counted ones."""
    requests = counted.http_requests / counted.recording.records
    access_log_bytes = requests * (len(json.dumps(ACCESS_LINE)) + 1)
    record_mib, reader_mib = PROD.record_memory_mib, PROD.publisher_memory_mib
    reader_cpu_ms, at_once = durations.reader_cpu_ms, durations.published_at_once
    parts = (
        Bill(http_requests=requests, log_gb=access_log_bytes * _MILLION / 1e9),
        _function(counted.recording, record_mib, durations.record_cpu_ms, durations),
        _function(counted.publishing, reader_mib, reader_cpu_ms, durations, at_once),
        _function(counted.watching, reader_mib, reader_cpu_ms, durations),
    )
    return Bill(**{each.name: sum(getattr(part, each.name) for part in parts) for each in fields(Bill)})


def _function(work: Work, memory_mib: int, cpu_ms: float, durations: Durations, at_once: float = 1) -> Bill:
    """The share of one function in the bill."""
    if not work.invocations:
        return Bill()
    invocations, put_events = work.invocations / work.records, work.made("PutEvents")
    gb_s = memory_mib / 1024 * _invocation_ms(work, memory_mib, cpu_ms, durations, at_once) / 1000
    log_bytes = work.log_bytes / work.records + invocations * len(INVOCATION_LINES)
    return Bill(
        invocations=invocations,
        gb_s=gb_s * invocations * _MILLION,
        dynamodb_requests=(len(work.calls) - put_events) / work.records,
        write_units=work.write_units / work.records,
        read_units=work.read_units / work.records,
        put_events=put_events / work.records,
        events=work.events / work.records,
        log_gb=log_bytes * _MILLION / 1e9,
    )


def _invocation_ms(work: Work, memory_mib: int, cpu_ms: float, durations: Durations, at_once: float) -> int:
    """The billed time of an invocation: its calls and its CPU time.

    `at_once` calls run in parallel. The CPU time depends on the share of a core.
    """
    share = min(1.0, memory_mib / durations.full_core_mib)
    own_ms = (cpu_ms + durations.further_record_cpu_ms * (work.records / work.invocations - 1)) / share
    if not work.calls:
        return math.ceil(own_ms)
    calls = len(work.calls) / work.invocations
    rounds = calls if at_once == 1 else math.ceil(calls / at_once)
    call_ms = sum(_call_ms(call, durations) for call in work.calls) / len(work.calls)
    return math.ceil(own_ms + rounds * call_ms)


def _call_ms(call: Call, durations: Durations) -> float:
    match call.operation:
        case "GetItem":
            return durations.get_item_ms
        case "Query":
            return durations.query_ms
        case "PutItem":
            return durations.put_item_ms
        case "UpdateItem":
            return durations.update_item_ms
        case "TransactWriteItems":
            return durations.transaction_ms + durations.further_item_ms * max(0, call.written_items - 2)
        case "TransactGetItems":
            return durations.transactional_read_ms
        case "PutEvents":
            return durations.put_events_ms
    raise NotImplementedError(f"no duration for {call.operation}: add one to Durations")
