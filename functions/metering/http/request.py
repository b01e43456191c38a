"""What an API Gateway request says: which operation, with what input.

Source: API Gateway developer guide, "Lambda proxy integration", payload format 2.0. Claims arrive as strings; header
names arrive in lower case, but nothing here depends on that.
"""

import base64
import binascii
import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from metering.http import strict_json
from metering.http.operations import MAX_ISSUES, OPERATIONS, Operation
from metering.model.errors import (
    BadRequest,
    BodyTooLarge,
    InputInvalid,
    Issue,
    MediaTypeUnsupported,
    MethodNotAllowed,
    NotFound,
)
from metering.model.mappings import mapping_in
from metering.model.names import TRACE_ID_PATTERN

# RFC 8941: a string is printable ASCII in double quotes, with \" and \\ inside.
_STRUCTURED_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')

# RFC 9110, 5.6.4: a parameter of a media type may be a quoted string, and hold a comma there.
_QUOTED_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')

# Of what should be encoded (RFC 3986, 2), only what could be read in two ways must be.
_PERCENT_ENCODED = re.compile(r"(?:[\x21-\x24\x26-\x7e]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True)
class Request:
    """One HTTP request, as far as it is read."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name."""
    claims: Mapping[str, Any]
    """Of the verified token."""
    body: str | None
    is_base64: bool
    id: str
    """API Gateway's id of the request, which its access log and the caller's response headers hold too."""
    query: str = ""
    """The query string as it was sent, percent-encoded."""


def read(event: Any, fallback_id: str) -> Request:
    """The request that an HTTP API event carries; what it lacks is empty, and its id is then `fallback_id`."""
    event = mapping_in(event)
    context = mapping_in(event, "requestContext")
    http = mapping_in(context, "http")
    body, query = event.get("body"), event.get("rawQueryString")
    # The route that API Gateway matched says more than the path: behind a custom domain the path has a prefix.
    matched_method, _, matched_path = str(event.get("routeKey", "")).partition(" ")
    return Request(
        method=matched_method if matched_path else str(http.get("method", "")),
        path=matched_path or str(event.get("rawPath", "")),
        headers={str(name).lower(): str(value) for name, value in mapping_in(event, "headers").items()},
        claims=mapping_in(context, "authorizer", "jwt", "claims"),
        body=body if isinstance(body, str) else None,
        is_base64=event.get("isBase64Encoded") is True,
        id=_request_id(context.get("requestId")) or fallback_id,
        query=query if isinstance(query, str) else "",
    )


def operation(request: Request) -> Operation:
    """The operation that the request's route and method name.

    Raises:
        NotFound: no operation has this path.
        MethodNotAllowed: one has it, with another method.
    """
    found = OPERATIONS.get(request.path)
    if found is None:
        raise NotFound("There is no such route: see the API's documentation for the routes it serves.")
    if request.method != found.method:
        raise MethodNotAllowed(found.method)
    return found


def members(request: Request, max_bytes: int) -> dict[str, Any]:
    """The JSON object in a command's body.

    Raises:
        BadRequest: the body is empty, not UTF-8, or not an object in strict JSON.
        MediaTypeUnsupported: it is declared as something else than `application/json`, or twice, or as compressed.
        BodyTooLarge: it has more than `max_bytes` bytes.
        InputInvalid: well-formed, but nested or with a number so long that it cannot fit any model; or there is a query
            parameter.
    """
    _require_no_parameters(request)
    if not request.body:
        raise BadRequest("empty", "The body is empty: send a JSON object.")
    _require_plain(request.headers.get("content-encoding", ""))
    _require_json(request.headers.get("content-type", ""))
    body = _body_bytes(request.body, is_base64=request.is_base64)
    if len(body) > max_bytes:
        raise BodyTooLarge("too_large", f"The body has {len(body)} bytes, this operation takes at most {max_bytes}.")
    if body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        message = "The body starts with a byte order mark, which is not JSON: send it as UTF-8 without the mark."
        raise BadRequest("byte_order_mark", message)
    try:
        return strict_json.parse_object(body.decode())
    except UnicodeDecodeError:
        raise BadRequest("not_utf8", "The body is not UTF-8.") from None


def parameters(request: Request) -> dict[str, str]:
    """The parameters in the request's query string, by name. One without a value, as in `?a`, has an empty one.

    Read from the string itself: in API Gateway's own reading, a parameter that is sent twice looks like one with a
    comma in its value, and broken UTF-8 like U+FFFD.

    Raises:
        BadRequest: there is a body; a parameter is there twice or has no name; or the string is not percent-encoded
            UTF-8 throughout.
    """
    if request.body:
        raise BadRequest("body_unexpected", "A query has no body: send its input as query parameters.")
    found: dict[str, str] = {}
    for part in request.query.split("&") if request.query else []:
        encoded_name, _, encoded_value = part.partition("=")
        name, value = _decoded(encoded_name), _decoded(encoded_value)
        if not name:
            raise BadRequest("malformed", "The query string has a parameter without a name.")
        if name in found:
            raise BadRequest("duplicate_parameter", f"The parameter {json.dumps(name[:64])} is there twice.", name)
        found[name] = value
    return found


def with_idempotency_key(input_members: dict[str, Any], request: Request) -> dict[str, Any]:
    """The input with its idempotency key, which may come in the body, in the `Idempotency-Key` header, or in both.

    Raises:
        BadRequest: in neither, in both with different values, or the header is malformed or was sent twice.
    """
    header = request.headers.get("idempotency-key", "").strip()
    if not header:
        if "idempotencyKey" not in input_members:
            message = "The idempotency key is missing: send idempotencyKey in the body, or the Idempotency-Key header."
            raise BadRequest("missing", message, "idempotencyKey")
        return input_members
    key = _unquoted(header)
    if input_members.get("idempotencyKey", key) != key:
        message = "The Idempotency-Key header and the body's idempotencyKey differ: send one of them."
        raise BadRequest("keys_differ", message, "idempotencyKey")
    return {**input_members, "idempotencyKey": key}


def without_idempotency_key(request: Request) -> None:
    """Let the request pass if it has no `Idempotency-Key` header.

    Raises:
        BadRequest: it has one, which could mean all of its records or none.
    """
    if "idempotency-key" in request.headers:
        message = "A batch takes no Idempotency-Key header: send an idempotencyKey in each record."
        raise BadRequest("header_unexpected", message)


def _decoded(encoded: str) -> str:
    # A plus is itself to some callers and a space to others, so it is no guess of ours.
    if "+" in encoded:
        raise BadRequest("malformed", "The query string holds a plus sign: write it as %2B, and a space as %20.")
    if _PERCENT_ENCODED.fullmatch(encoded) is None:
        message = "The query string is not percent-encoded: a % without two hexadecimal digits, a space or no ASCII."
        raise BadRequest("malformed", message)
    try:
        return unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise BadRequest("not_utf8", "The query string is not UTF-8 when its percent-encoding is read.") from None


def _require_no_parameters(request: Request) -> None:
    # By name, however they are encoded: nothing of them is used.
    parts = request.query.split("&") if request.query else []
    names = list(dict.fromkeys(unquote(part.partition("=")[0], errors="replace") for part in parts))[:MAX_ISSUES]
    if names:
        message = "A command takes no query parameters: send its input in the body."
        raise InputInvalid([Issue(name, "parameter_unexpected", message) for name in names])


def _require_plain(content_encoding: str) -> None:
    encodings = [name.strip().lower() for name in content_encoding.split(",")]
    if any(name not in ("", "identity") for name in encodings):
        message = "The body is declared as encoded (Content-Encoding): send it uncompressed, without this header."
        raise MediaTypeUnsupported("content_encoding_unsupported", message)


def _require_json(content_type: str) -> None:
    # API Gateway joins a header that was sent twice with a comma, and then no reader knows which one counts.
    if "," in _QUOTED_STRING.sub("", content_type):
        message = "The Content-Type header holds a comma, as if it was sent twice: send application/json once."
        raise MediaTypeUnsupported("header_repeated", message)
    if content_type.split(";")[0].strip().lower() != "application/json":
        message = "The body must be declared as Content-Type: application/json."
        raise MediaTypeUnsupported("media_type_unsupported", message)


def _unquoted(header: str) -> str:
    # The IETF's draft of the header wants a quoted string; most callers send the bare key.
    if not header.startswith('"'):
        # API Gateway joins a header that was sent twice, as a proxy's retry does: `k1,k1` would count a second usage.
        if "," in header:
            message = (
                "The Idempotency-Key header holds a comma: it was sent twice, or its key must be quoted. "
                "Send it once, with a key that has a comma in double quotes or in the body."
            )
            raise BadRequest("header_repeated", message, "idempotencyKey")
        return header
    quoted = _STRUCTURED_STRING.fullmatch(header)
    if quoted is None:
        message = (
            "The Idempotency-Key header starts with a quote but is not one quoted string (RFC 8941). "
            "Send the header once, and put a backslash before each quote inside the key."
        )
        raise BadRequest("header_malformed", message, "idempotencyKey")
    return re.sub(r"\\(.)", r"\1", quoted[1])


def _body_bytes(text: str, *, is_base64: bool) -> bytes:
    if is_base64:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("not_base64", "The body is declared as base64 but is not.") from None
    # API Gateway hands us text and has put U+FFFD where the bytes were no UTF-8. Two different bodies would then look
    # the same, so what looks damaged is invalid; a caller who means this character can write it as \ufffd.
    if "\ufffd" in text:
        raise BadRequest("not_utf8", "The body is not UTF-8 (or holds U+FFFD itself: write it as \\ufffd).")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadRequest("not_utf8", "The body is not UTF-8.") from None


def _request_id(value: Any) -> str | None:
    # It is stored and published: whatever is not what API Gateway makes is not.
    return value if isinstance(value, str) and re.fullmatch(TRACE_ID_PATTERN, value) else None
