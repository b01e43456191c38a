"""Errors that a caller of the API is answered with.

    MeteringError
    ├── InvalidRequest                the caller must change something; the message says what
    │   ├── BadInput                  with the issues found
    │   │   ├── BadRequest            not a request that can be understood
    │   │   │   ├── BodyTooLarge
    │   │   │   └── MediaTypeUnsupported
    │   │   └── InputInvalid          understood, but it breaks the contract's model
    │   │       └── FeatureUnknown    well formed, but no plan has such a feature
    │   ├── KeyReused                 the idempotency key belongs to other content
    │   ├── Forbidden                 the identity may not do this
    │   │   └── OrganizationInactive
    │   ├── NotFound
    │   │   ├── OrganizationUnknown
    │   │   ├── SubscriptionUnknown
    │   │   └── UsageUnknown
    │   └── MethodNotAllowed
    ├── Unavailable                   the deadline came first: sending the same again is safe and may work
    └── …                             failures inside: see `storage.signals`, and modules of `outbox` and `inbound`

A message of InvalidRequest and Unavailable reaches the caller: it names no table, no class and nobody else's data.
"""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass


class MeteringError(Exception):
    """Whatever this service raises on purpose."""


class InvalidRequest(MeteringError):
    """The caller must change something. Nothing was written for the request."""


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong with an input: where (members joined by dots), a stable code, and what to do.

    An empty path is the input as a whole.
    """

    path: str
    code: str
    message: str


class BadInput(InvalidRequest):
    """The input is wrong in the ways that `issues` lists."""

    def __init__(self, message: str, issues: Sequence[Issue]) -> None:
        super().__init__(message)
        self.issues = tuple(issues)


class BadRequest(BadInput):
    """The request cannot be understood."""

    def __init__(self, code: str, message: str, path: str = "") -> None:
        super().__init__(message, [Issue(path, code, message)])


class BodyTooLarge(BadRequest):
    """The body has more bytes than the operation takes."""


class MediaTypeUnsupported(BadRequest):
    """The body is not declared as `application/json`."""


class InputInvalid(BadInput):
    """Well-formed JSON that breaks the operation's model."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__("The input breaks the contract: see issues.", issues)


class FeatureUnknown(InputInvalid):
    """Neither the organization nor any plan has this feature, and the environment accepts no such usage."""

    def __init__(self, feature: str, known: Collection[str]) -> None:
        nearest = difflib.get_close_matches(feature, sorted(known), n=1, cutoff=0.0)
        message = f"There is no feature {feature} in any plan" + (f": did you mean {nearest[0]}?" if nearest else ".")
        super().__init__([Issue("feature", "feature_unknown", message)])


class KeyReused(InvalidRequest):
    """The idempotency key was used before, for other content."""

    def __init__(self) -> None:
        super().__init__(
            "This idempotency key was used before with other content. Nothing was recorded: send the original content "
            "to read its result, or a new key to record something else."
        )


class Forbidden(InvalidRequest):
    """The caller's identity does not allow this."""


class OrganizationInactive(Forbidden):
    """The organization exists and may not record new usage."""

    def __init__(self) -> None:
        super().__init__("This organization is inactive: new usage is not recorded for it.")


class NotFound(InvalidRequest):
    """What the request names does not exist."""


class OrganizationUnknown(NotFound):
    """The identity's organization is not known here."""

    def __init__(self) -> None:
        super().__init__("This organization is not known here: create it before recording its usage.")


class SubscriptionUnknown(NotFound):
    """Of the organization's subscription, the members `missing` are not known."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"This organization's subscription is not known yet: it lacks {', '.join(missing)}. "
            "The service that owns subscriptions must publish that, or an operator set it."
        )


class UsageUnknown(NotFound):
    """Nothing is recorded under the idempotency key."""

    def __init__(self) -> None:
        super().__init__("Nothing is recorded under this idempotency key, or no longer.")


class MethodNotAllowed(InvalidRequest):
    """The route exists, with another method."""

    def __init__(self, allow: str) -> None:
        super().__init__(f"This route answers {allow} only.")
        self.allow = allow


class Unavailable(MeteringError):
    """The request's deadline came before an answer. It may have been recorded: the same request again finds out."""

    def __init__(
        self,
        retry_after_s: int,
        message: str = "Recording took too long. Send the same request again: it is counted once.",
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
