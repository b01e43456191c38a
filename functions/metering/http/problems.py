"""Problem details (RFC 9457) with the contract's members: the form in which the caller receives an error.

No other module maps an error to a status code.
"""

from dataclasses import dataclass

from metering.http.models import Problem
from metering.http.operations import Operation
from metering.model import errors


@dataclass(frozen=True)
class Kind:
    """One kind of problem: its status, and the members with fixed values."""

    status: int
    code: str
    title: str
    category: str
    retryable: bool = False


_INTERNAL_DETAIL = "An internal error occurred. Report the traceId. You can safely send the same request again."

INTERNAL = Kind(500, "INTERNAL_ERROR", "Internal error", "internal")

# A class without an entry has the kind of its nearest base class.
KINDS: dict[type[errors.MeteringError], Kind] = {
    errors.BadRequest: Kind(400, "BAD_REQUEST", "Malformed request", "validation"),
    errors.BodyTooLarge: Kind(413, "BAD_REQUEST", "Body too large", "validation"),
    errors.MediaTypeUnsupported: Kind(415, "BAD_REQUEST", "Unsupported media type", "validation"),
    errors.InputInvalid: Kind(422, "VALIDATION_FAILED", "Invalid input", "validation"),
    errors.KeyReused: Kind(422, "IDEMPOTENCY_KEY_REUSED", "Idempotency key reused", "conflict"),
    errors.Forbidden: Kind(403, "FORBIDDEN", "Forbidden", "auth"),
    errors.NotFound: Kind(404, "NOT_FOUND", "Not found", "not_found"),
    errors.MethodNotAllowed: Kind(405, "METHOD_NOT_ALLOWED", "Method not allowed", "validation"),
    errors.Unavailable: Kind(503, "SERVICE_UNAVAILABLE", "Service unavailable", "dependency", retryable=True),
}


def kind_of(error: Exception) -> Kind:
    """Return the kind of problem for `error`. Every unexpected error is INTERNAL."""
    return next((KINDS[each] for each in type(error).__mro__ if each in KINDS), INTERNAL)


def type_of(kind: Kind) -> str:
    """Return the URI of this kind of problem, for the member `type`."""
    return f"urn:problem:usage-metering:{kind.code.lower().replace('_', '-')}"


def severity_of(kind: Kind) -> str:
    """Return `warning` for an error that the caller can correct (below 500), else `error`."""
    return "warning" if kind.status < 500 else "error"


def problem(error: Exception, operation: Operation | None, trace_id: str) -> tuple[int, dict[str, str], Problem]:
    """Return the status, headers and body of the answer to a request that ended in `error`.

    The body contains only texts that are written for callers. The text of an internal error is fixed.
    """
    kind = kind_of(error)
    headers = {"Content-Type": "application/problem+json"}
    body: Problem = {
        "type": type_of(kind),
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": _INTERNAL_DETAIL if kind is INTERNAL else str(error),
        "category": kind.category,
        "severity": severity_of(kind),
        "retryable": kind.retryable,
        "traceId": trace_id,
    }
    if operation is not None:
        body["operation"] = {"key": operation.key, "version": operation.version, "kind": operation.kind}
    if isinstance(error, errors.BadInput):
        body["issues"] = [{"path": issue.path, "code": issue.code, "message": issue.message} for issue in error.issues]
    if isinstance(error, errors.MethodNotAllowed):
        headers["Allow"] = error.allow
    if isinstance(error, errors.Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
        body["retryAfter"] = error.retry_after_s
    return kind.status, headers, body
