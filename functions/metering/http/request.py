"""The HTTP request: its operation and its input, read from an API Gateway event.

Claims arrive as strings. Header names arrive in lower case, but this module does not depend on their case.

Source: API Gateway developer guide, "Lambda proxy integration", payload format 2.0.
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
from metering.http.operations import MAX_ISSUES, OPERATIONS, RECORD_USAGE, Operation
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

# RFC 8941: a string is printable ASCII in double quotes, with \" and \\ as its only escapes.
_STRUCTURED_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')

# RFC 9110, 5.6.4: a parameter of a media type can be a quoted string, which can contain a comma.
_QUOTED_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')

# More lenient than RFC 3986, section 2: also accept unencoded ASCII characters that have only one meaning.
_PERCENT_ENCODED = re.compile(r"(?:[\x21-\x24\x26-\x7e]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True)
class Request:
    """The parts of an HTTP request that the service uses."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Values by lower-case name."""
    claims: Mapping[str, Any]
    """The claims of the verified token."""
    body: str | None
    is_base64: bool
    id: str
    """API Gateway's request ID. The access log and the response headers contain this ID, too."""
    query: str = ""
    """The query string as sent, percent-encoded."""


def read(event: Any, fallback_id: str) -> Request:
    """Return the request in an HTTP API event. Missing parts are empty. A missing or malformed id is `fallback_id`."""
    event = mapping_in(event)
    context = mapping_in(event, "requestContext")
    http = mapping_in(context, "http")
    body, query = event.get("body"), event.get("rawQueryString")
    # Prefer the route that API Gateway matched, because behind a custom domain the path has a prefix.
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
    """Return the operation with the request's path and method.

    Raises:
        NotFound: no operation has this path.
        MethodNotAllowed: an operation has this path, but another method.
    """
    found = OPERATIONS.get(request.path)
    if found is None:
        message = f"This route does not exist. Each route ends in the operation's version, as in {RECORD_USAGE.path}."
        raise NotFound(message)
    if request.method != found.method:
        raise MethodNotAllowed(found.method)
    return found


def members(request: Request, max_bytes: int) -> dict[str, Any]:
    """Return the JSON object in a command's body.

    Raises:
        BadRequest: the body is empty, is not UTF-8, or is not an object in strict JSON.
        MediaTypeUnsupported: `Content-Type` is not `application/json` or was sent twice, or the body is compressed.
        BodyTooLarge: the body has more than `max_bytes` bytes.
        InputInvalid: the request has a query parameter, the body nests too deeply, or a number has too many digits.
    """
    _require_no_parameters(request)
    if not request.body:
        raise BadRequest("empty", "The body is empty. Send a JSON object.")
    _require_plain(request.headers.get("content-encoding", ""))
    _require_json(request.headers.get("content-type", ""))
    body = _body_bytes(request.body, is_base64=request.is_base64)
    if len(body) > max_bytes:
        raise BodyTooLarge("too_large", f"The body has {len(body)} bytes. Send at most {max_bytes}.")
    if body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        message = "The body starts with a byte order mark, which is not JSON. Send UTF-8 without the mark."
        raise BadRequest("byte_order_mark", message)
    try:
        return strict_json.parse_object(body.decode())
    except UnicodeDecodeError:
        raise BadRequest("not_utf8", "The body is not UTF-8. Encode it as UTF-8.") from None


def parameters(request: Request) -> dict[str, str]:
    """Return the parameters of the request's query string, by name. A parameter without a value, as in `?a`, is empty.

    This function parses the query string itself. API Gateway's own parser joins a repeated parameter's values with a
    comma and replaces broken UTF-8 by U+FFFD.

    Raises:
        BadRequest: the request has a body, a parameter occurs twice or has no name, or the query string is not
            percent-encoded UTF-8.
    """
    if request.body:
        raise BadRequest("body_unexpected", "A query takes no body. Send its input as query parameters.")
    found: dict[str, str] = {}
    for part in request.query.split("&") if request.query else []:
        encoded_name, _, encoded_value = part.partition("=")
        name, value = _decoded(encoded_name), _decoded(encoded_value)
        if not name:
            raise BadRequest("malformed", "The query string has a parameter without a name. Remove the parameter.")
        if name in found:
            raise BadRequest(
                "duplicate_parameter", f"The parameter {json.dumps(name[:64])} occurs twice. Send it once.", name
            )
        found[name] = value
    return found


def with_idempotency_key(input_members: dict[str, Any], request: Request) -> dict[str, Any]:
    """Return the members with the idempotency key, which comes from the body, the `Idempotency-Key` header, or both.

    Raises:
        BadRequest: the key is missing, the body and the header differ, or the header is malformed or was sent twice.
    """
    header = request.headers.get("idempotency-key", "").strip()
    if not header:
        if "idempotencyKey" not in input_members:
            message = "The idempotency key is missing. Send idempotencyKey in the body, or the Idempotency-Key header."
            raise BadRequest("missing", message, "idempotencyKey")
        return input_members
    key = _unquoted(header)
    if input_members.get("idempotencyKey", key) != key:
        message = "The Idempotency-Key header and the body's idempotencyKey differ. Send only one of the two."
        raise BadRequest("keys_differ", message, "idempotencyKey")
    return {**input_members, "idempotencyKey": key}


def without_idempotency_key(request: Request) -> None:
    """Check that a batch has no `Idempotency-Key` header, because one key cannot belong to several records.

    Raises:
        BadRequest: the request has the header.
    """
    if "idempotency-key" in request.headers:
        message = "A batch takes no Idempotency-Key header. Remove the header, and send idempotencyKey in each record."
        raise BadRequest("header_unexpected", message)


def _decoded(encoded: str) -> str:
    # In a query string, `+` means a plus sign to some callers and a space to others. Do not guess.
    if "+" in encoded:
        raise BadRequest(
            "malformed", "The query string contains a plus sign. Write %2B for a plus sign or %20 for a space."
        )
    if _PERCENT_ENCODED.fullmatch(encoded) is None:
        message = (
            "The query string contains a space, a non-ASCII character, or a % without two hexadecimal digits. "
            "Percent-encode these characters."
        )
        raise BadRequest("malformed", message)
    try:
        return unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise BadRequest(
            "not_utf8", "The query string does not decode to UTF-8. Percent-encode the bytes of UTF-8 text."
        ) from None


def _require_no_parameters(request: Request) -> None:
    # The names only appear in the issues, and the values nowhere, so accept any encoding.
    parts = request.query.split("&") if request.query else []
    names = list(dict.fromkeys(unquote(part.partition("=")[0], errors="replace") for part in parts))[:MAX_ISSUES]
    if names:
        message = "A command takes no query parameters. Send its input in the body."
        raise InputInvalid([Issue(name, "parameter_unexpected", message) for name in names])


def _require_plain(content_encoding: str) -> None:
    encodings = [name.strip().lower() for name in content_encoding.split(",")]
    if any(name not in ("", "identity") for name in encodings):
        message = (
            "The Content-Encoding header declares an encoded body. Send the body uncompressed, without this header."
        )
        raise MediaTypeUnsupported("content_encoding_unsupported", message)


def _require_json(content_type: str) -> None:
    # API Gateway joins a header that was sent twice with a comma. The two values can differ, so use neither.
    if "," in _QUOTED_STRING.sub("", content_type):
        message = "The Content-Type header contains a comma, so it was probably sent twice. Send application/json once."
        raise MediaTypeUnsupported("header_repeated", message)
    if content_type.split(";")[0].strip().lower() != "application/json":
        message = "The Content-Type header is missing or wrong. Send JSON with `Content-Type: application/json`."
        raise MediaTypeUnsupported("media_type_unsupported", message)


def _unquoted(header: str) -> str:
    # The IETF's draft of this header requires a quoted string, but most callers send no quotes. Accept both.
    if not header.startswith('"'):
        # API Gateway joins the values of a header that was sent twice, for example by a proxy's retry. The joined key
        # `k1,k1` would count the usage a second time.
        if "," in header:
            message = (
                "The Idempotency-Key header contains a comma. Either the header was sent twice, or the key contains a "
                "comma. Send the header once, and put a key that contains a comma in double quotes or in the body."
            )
            raise BadRequest("header_repeated", message, "idempotencyKey")
        return header
    quoted = _STRUCTURED_STRING.fullmatch(header)
    if quoted is None:
        message = (
            "The Idempotency-Key header starts with a quote but is not one quoted string (RFC 8941). "
            "Send the header once, and put a backslash before each quote or backslash inside the key."
        )
        raise BadRequest("header_malformed", message, "idempotencyKey")
    return re.sub(r"\\(.)", r"\1", quoted[1])


def _body_bytes(text: str, *, is_base64: bool) -> bytes:
    if is_base64:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest(
                "not_base64", "API Gateway marked the body as base64, but the body is not base64. Send it as UTF-8."
            ) from None
    # API Gateway passes the body as text and replaces bytes that are not UTF-8 by U+FFFD. Two different bodies could
    # then look the same, so a body with U+FFFD is invalid. A caller can write this character as \ufffd.
    if "\ufffd" in text:
        raise BadRequest(
            "not_utf8", "The body is not UTF-8. Encode it as UTF-8, and write the character U+FFFD as \\ufffd."
        )
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadRequest("not_utf8", "The body is not UTF-8. Encode it as UTF-8.") from None


def _request_id(value: Any) -> str | None:
    # The id is stored and published, so accept only the form of API Gateway's own ids.
    return value if isinstance(value, str) and re.fullmatch(TRACE_ID_PATTERN, value) else None
