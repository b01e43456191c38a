"""Cursors: positions in the list of an organization's usage records, as opaque text.

    {"v":1,"k":"<key>","d":"<digest>"}    after the record under this key
    {"v":1,"b":<bucket>,"d":"<digest>"}   at the start of this bucket

A cursor is the base64url of one of these JSON texts. The digest binds the cursor to the organization and
the filter. So a list never continues with the records of another list.

A cursor has no signature, because a forged cursor gives no access. The organization comes from the caller's token. The
position only decides which of the organization's own records the page starts with. `position_in` accepts a text only if
this module would write exactly this text, so every field is checked.
"""

import base64
import hashlib
import json
import re
from typing import Any, NamedTuple

from metering.model.errors import BadRequest
from metering.model.names import KEY_PATTERN
from metering.model.usage import RecordFilter
from metering.storage.usage_records import BUCKETS, bucket_of

# A key of 255 quotes takes 510 characters of JSON. The base64url of the whole text has 752 characters.
_MAX_LENGTH = 1024


class Position(NamedTuple):
    """A position in the list: behind the key `after` of this bucket, or at its start."""

    bucket: int
    after: str | None = None


START = Position(0)


def position_after(idempotency_key: str) -> Position:
    """Return the position behind the record under this key."""
    return Position(bucket_of(idempotency_key), idempotency_key)


def to_text(position: Position, organization: str, wanted: RecordFilter) -> str:
    """Return the cursor for this position in this list."""
    list_of = json.dumps([organization, *wanted], separators=(",", ":"))
    digest = hashlib.sha256(list_of.encode()).hexdigest()[:16]
    place: dict[str, Any] = {"b": position.bucket} if position.after is None else {"k": position.after}
    content = json.dumps({"v": 1, **place, "d": digest}, separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def position_in(cursor: str, organization: str, wanted: RecordFilter) -> Position:
    """Return the position that `to_text` wrote for this list.

    Raises:
        BadRequest: the cursor is malformed, or belongs to another organization or filter.
    """
    position = _position(cursor)
    if position is None:
        message = "The cursor is malformed. Send the value of nextCursor unchanged."
        raise BadRequest("cursor_malformed", message, "cursor")
    if to_text(position, organization, wanted) != cursor:
        message = "The cursor belongs to another list. Send it with the parameters of the request that returned it."
        raise BadRequest("cursor_of_another_list", message, "cursor")
    return position


def _position(cursor: str) -> Position | None:
    if len(cursor) > _MAX_LENGTH or re.fullmatch(r"[A-Za-z0-9_-]+", cursor) is None:
        return None
    try:
        content = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    bucket, key = content.get("b"), content.get("k")
    if isinstance(key, str) and re.fullmatch(KEY_PATTERN, key):
        return position_after(key)
    return Position(bucket) if type(bucket) is int and 0 <= bucket < BUCKETS else None
