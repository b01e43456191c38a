"""Errors that the API returns to its callers.

    MeteringError
    ├── InvalidRequest                the caller must change something; the message says what
    │   ├── BadInput                  carries the issues found
    │   │   ├── BadRequest            the request cannot be understood
    │   │   │   ├── BodyTooLarge
    │   │   │   └── MediaTypeUnsupported
    │   │   └── InputInvalid          understood, but the input breaks the contract
    │   │       └── FeatureUnknown    well formed, but no plan has this feature
    │   ├── KeyReused                 the idempotency key belongs to other content
    │   ├── Forbidden                 the caller's identity does not allow this
    │   │   └── OrganizationInactive
    │   ├── NotFound
    │   │   ├── OrganizationUnknown
    │   │   ├── SubscriptionUnknown
    │   │   └── UsageUnknown
    │   └── MethodNotAllowed
    ├── Unavailable                   the deadline passed; sending the same request again is safe
    └── …                             internal failures: see `storage.signals`, and modules of `outbox` and `inbound`

Messages of InvalidRequest and Unavailable reach the caller. They name no table, no class and no other caller's data.
"""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass


class MeteringError(Exception):
    """The base of every error that this service raises on purpose."""


class InvalidRequest(MeteringError):
    """The caller must change something. The request wrote nothing."""


@dataclass(frozen=True)
class Issue:
    """One problem of an input: where it is, a stable code, and what to do.

    `path` joins member names with dots. An empty path means the whole input.
    """

    path: str
    code: str
    message: str


class BadInput(InvalidRequest):
    """The input has the problems that `issues` lists."""

    def __init__(self, message: str, issues: Sequence[Issue]) -> None:
        super().__init__(message)
        self.issues = tuple(issues)


class BadRequest(BadInput):
    """The request cannot be understood."""

    def __init__(self, code: str, message: str, path: str = "") -> None:
        super().__init__(message, [Issue(path, code, message)])


class BodyTooLarge(BadRequest):
    """The body has more bytes than the operation accepts."""


class MediaTypeUnsupported(BadRequest):
    """The request does not declare its body as `application/json`."""


class InputInvalid(BadInput):
    """Well-formed JSON that breaks the operation's model."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__("The input is invalid. The member issues lists each error.", issues)


class FeatureUnknown(InputInvalid):
    """Neither the organization nor any plan has this feature, and the deployment environment accepts no other."""

    def __init__(self, feature: str, known: Collection[str]) -> None:
        nearest = difflib.get_close_matches(feature, sorted(known), n=1, cutoff=0.0)
        message = f"No plan has the feature {feature}" + (f": did you mean {nearest[0]}?" if nearest else ".")
        super().__init__([Issue("feature", "feature_unknown", message)])


class KeyReused(InvalidRequest):
    """The idempotency key was used before with other content."""

    def __init__(self) -> None:
        super().__init__(
            "This idempotency key was used before with other content. Nothing was recorded: send the original content "
            "to read its result, or a new key to record something else."
        )


class Forbidden(InvalidRequest):
    """The caller's identity does not allow this."""


class OrganizationInactive(Forbidden):
    """The organization exists, but is not allowed to record new usage."""

    def __init__(self) -> None:
        super().__init__("This organization is inactive: new usage is not recorded for it.")


class NotFound(InvalidRequest):
    """The request names something that does not exist."""


class OrganizationUnknown(NotFound):
    """The service does not know the caller's organization."""

    def __init__(self, organization: str) -> None:
        super().__init__(
            f"The organization {organization} is not known. Create it with "
            f"`metering organizations put {organization}`, or publish the event `org.created`."
        )


class SubscriptionUnknown(NotFound):
    """The service does not know the members `missing` of the organization's subscription."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"This organization's subscription is not known yet: it lacks {', '.join(missing)}. "
            "The service that owns subscriptions must publish them, or an operator must set them with "
            "`metering organizations put`."
        )


class UsageUnknown(NotFound):
    """No usage is recorded under the idempotency key."""

    def __init__(self) -> None:
        super().__init__("No usage is recorded under this idempotency key, or its record has expired.")


class MethodNotAllowed(InvalidRequest):
    """The route exists, but not with this method."""

    def __init__(self, allow: str) -> None:
        super().__init__(f"This route answers {allow} only.")
        self.allow = allow


class Unavailable(MeteringError):
    """The deadline passed. It is unknown whether the usage is recorded, and the same request can be sent again."""

    def __init__(
        self,
        retry_after_s: int,
        message: str = "Recording took too long. Send the same request again: it is counted once.",
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
