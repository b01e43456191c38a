"""Every way in which recording usage, or asking for it, can fail.

    MeteringError
    ├── Refused                       the caller must change something; the message says what
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
    ├── StoreBusy                     DynamoDB throttled or did not answer; whether a write landed is not known
    │   └── ItemsHeld                 a read of several items met a transaction, or a throttle, at some of them
    ├── MalformedItem                 an item in the table is not what its key says
    ├── EventMalformed                an event of others is not what the contract says
    ├── NotAStreamBatch               an event is no batch of the table's stream: the function is wired wrongly
    └── OutOfTime                     an invocation ends before its work: the rest is delivered again

A message of Refused and Unavailable reaches the caller: it names no table, no class and nobody else's data.
"""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass


class MeteringError(Exception):
    """Whatever this service raises on purpose."""


class Refused(MeteringError):
    """The request is answered with a refusal; nothing was written for it."""


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong with an input: where (members joined by dots), a stable code, and what to do.

    An empty path is the input as a whole.
    """

    path: str
    code: str
    message: str


class BadInput(Refused):
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
    """Neither the organization nor any plan knows this feature, and the environment refuses such."""

    def __init__(self, feature: str, known: Collection[str]) -> None:
        nearest = difflib.get_close_matches(feature, sorted(known), n=1, cutoff=0.0)
        message = f"There is no feature {feature} in any plan" + (f": did you mean {nearest[0]}?" if nearest else ".")
        super().__init__([Issue("feature", "feature_unknown", message)])


class KeyReused(Refused):
    """The idempotency key was used before, for other content."""

    def __init__(self) -> None:
        super().__init__(
            "This idempotency key was used before with other content. Nothing was recorded: send the original content "
            "to read its result, or a new key to record something else."
        )


class Forbidden(Refused):
    """The caller's identity does not allow this."""


class OrganizationInactive(Forbidden):
    """The organization exists and may not record new usage."""

    def __init__(self) -> None:
        super().__init__("This organization is inactive: new usage is not recorded for it.")


class NotFound(Refused):
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


class MethodNotAllowed(Refused):
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


class StoreBusy(MeteringError):
    """DynamoDB throttled the call, failed, or did not answer; whether a write landed is not known.

    `on_counter` says that it throttled the counter's shard, and that alone: nothing was written, and another shard may
    be free.
    """

    def __init__(self, message: str = "DynamoDB is busy", *, on_counter: bool = False) -> None:
        super().__init__(message)
        self.on_counter = on_counter


class ItemsHeld(StoreBusy):
    """Another transaction held some of the items that were to be read together, or DynamoDB throttled them.

    `positions` says which. Nothing was read of any.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__("another transaction holds some of the items")
        self.positions = tuple(positions)


class MalformedItem(MeteringError):
    """An item, or an image of one in the stream, lacks or breaks what its kind promises; the message says what."""


class EventMalformed(MeteringError):
    """An event that another service has published breaks the contract; the message says where."""


class NotAStreamBatch(MeteringError):
    """A stream function got another event than a batch of the table's stream.

    The message names the event's `keys` and no value of it.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"the event is no batch of the table's stream, it has the keys: {', '.join(keys) or 'none'}")
        self.keys = tuple(keys)


class OutOfTime(MeteringError):
    """What is left of the invocation may not suffice for what comes next. Nothing of that was begun."""

    def __init__(self) -> None:
        super().__init__("too little of the invocation is left")
