"""The payloads in `events/`, and requests based on them."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from metering.http.operations import Operation

_EVENTS = Path(__file__).parents[2] / "events"


def payload(name: str) -> Any:
    """A new copy of the payload in this file."""
    return json.loads((_EVENTS / name).read_text())


def record_request(
    body: Any = None,
    *,
    raw: str | None = None,
    headers: Mapping[str, str | None] | None = None,
    claims: dict[str, Any] | None = None,
    request_id: str | None = None,
) -> Any:
    """The contract's example request with another `body` (or `raw` text), more headers and other claims.

    A header or claim with the value None is removed.
    """
    text = json.dumps(body) if raw is None and body is not None else raw
    return _command_request("http-record.json", text, headers, claims, request_id)


def batch_request(
    records: Any = None,
    *,
    raw: str | None = None,
    headers: Mapping[str, str | None] | None = None,
    claims: dict[str, Any] | None = None,
    request_id: str | None = None,
) -> Any:
    """The batch request of `events/`, with other `records` or with `raw` as its body."""
    text = json.dumps({"records": records}) if raw is None and records is not None else raw
    return _command_request("http-record-batch.json", text, headers, claims, request_id)


def _command_request(
    file: str,
    text: str | None,
    headers: Mapping[str, str | None] | None,
    claims: dict[str, Any] | None,
    request_id: str | None,
) -> Any:
    event = payload(file)
    if text is not None:
        event["body"] = text
    event["headers"] = _changed(event["headers"], headers)
    jwt = event["requestContext"]["authorizer"]["jwt"]
    jwt["claims"] = _changed(jwt["claims"], claims)
    if request_id is not None:
        event["requestContext"]["requestId"] = request_id
    return event


def query_request(
    operation: Operation,
    parameters: Mapping[str, str] | None = None,
    *,
    raw: str | None = None,
    headers: Mapping[str, str | None] | None = None,
    claims: dict[str, Any] | None = None,
    body: str | None = None,
    **more: str,
) -> Any:
    """A request for a query, with these parameters (or the `raw` query string), more headers and other claims."""
    event = payload("http-feature-check.json")
    event["headers"] = _changed(event["headers"], headers)
    parameters = {**(parameters or {}), **more}
    event["routeKey"] = event["requestContext"]["routeKey"] = f"GET {operation.path}"
    event["rawPath"] = event["requestContext"]["http"]["path"] = operation.path
    event["rawQueryString"] = urlencode(parameters, quote_via=quote) if raw is None else raw
    # API Gateway adds the parsed parameters, but the functions read the raw query string.
    event["queryStringParameters"] = parameters
    jwt = event["requestContext"]["authorizer"]["jwt"]
    jwt["claims"] = _changed(jwt["claims"], claims)
    return event if body is None else event | {"body": body}


# Events that a stream function gets from a wrong event source, each with its keys.
NO_STREAM_BATCHES: Mapping[str, tuple[Any, list[str]]] = {
    "an empty object": ({}, []),
    "nothing": (None, []),
    "a list": ([{"body": "s3cret"}], []),
    "a text": ("s3cret", []),
    "another event": ({"detail-type": "s3cret", "detail": {"card": "s3cret"}}, ["detail-type", "detail"]),
    "records that are null": ({"Records": None}, ["Records"]),
    "records that are an object": ({"Records": {"0": "s3cret"}}, ["Records"]),
    "records that are a text": ({"Records": "s3cret"}, ["Records"]),
    "SQS": (
        {"Records": [{"messageId": "m-1", "body": "s3cret", "eventSource": "aws:sqs"}]},
        ["Records", "Records.0.messageId", "Records.0.body", "Records.0.eventSource"],
    ),
    "S3": (
        {"Records": [{"eventName": "ObjectCreated:Put", "eventSource": "aws:s3", "s3": {"object": {"key": "s3cret"}}}]},
        ["Records", "Records.0.eventName", "Records.0.eventSource", "Records.0.s3"],
    ),
    "SNS": (
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "s3cret"}}]},
        ["Records", "Records.0.EventSource", "Records.0.Sns"],
    ),
    "Kinesis": (
        {"Records": [{"kinesis": {"data": "czNjcmV0"}, "eventSource": "aws:kinesis"}]},
        ["Records", "Records.0.kinesis", "Records.0.eventSource"],
    ),
    "SQS behind the stream's own": (
        {"Records": [{"eventSource": "aws:dynamodb"}, {"body": "s3cret", "eventSource": "aws:sqs"}]},
        ["Records", "Records.0.eventSource"],
    ),
    "too many keys": ({"k" * 100 + str(at): 1 for at in range(100)}, ["k" * 64] * 20),
}


def example(**changes: Any) -> dict[str, Any]:
    """The contract's example input with changed or added members. A member with the value `...` is removed."""
    body = {"feature": "api_calls", "quantity": 1, "idempotencyKey": "abc-123"} | copy.deepcopy(changes)
    return {name: value for name, value in body.items() if value is not ...}


def _changed(before: dict[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in {**before, **(changes or {})}.items() if value is not None}
