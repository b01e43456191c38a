"""Attributes of items. A missing or malformed attribute raises MalformedItem.

Items are in DynamoDB's own form (`{"S": …}`, `{"N": …}`), which the stream's images share.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from metering.storage.signals import MalformedItem

Item: TypeAlias = dict[str, Any]


def text_in(item: Mapping[str, Any], name: str, pattern: str = r".+") -> str:
    """Return the text attribute `name`.

    Raises:
        MalformedItem: the attribute is missing or does not match `pattern`.
    """
    value = _attribute(item, name, "S")
    if re.fullmatch(pattern, value) is None:
        raise MalformedItem(f"{name} is malformed")
    return value


def optional_text_in(item: Mapping[str, Any], name: str) -> str | None:
    """Return the text attribute `name`; None if the item does not have it.

    Raises:
        MalformedItem: the attribute is not text.
    """
    return _attribute(item, name, "S") if name in item else None


def whole_number_in(item: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return the number attribute `name`, a whole number from `least` to `most`.

    Raises:
        MalformedItem: the attribute is missing, or is not a number of this kind.
    """
    digits = _attribute(item, name, "N")
    if re.fullmatch(r"[0-9]{1,38}", digits) is None or not least <= int(digits) <= most:
        raise MalformedItem(f"{name} is not a whole number from {least} to {most}")
    return int(digits)


def moment_in(item: Mapping[str, Any], name: str) -> datetime:
    """Return the moment in the text attribute `name`, in the form that `to_timestamp` writes.

    Raises:
        MalformedItem: the attribute is missing, or is not a moment.
    """
    text = text_in(item, name, r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise MalformedItem(f"{name} is not a moment") from None


def limit_attribute(limit: int | None) -> Item:
    """Return a limit as plans and organizations store it; None means unlimited."""
    # Null rather than no attribute: an organization can be unlimited although its plan has a limit.
    return {"NULL": True} if limit is None else {"N": str(limit)}


def limit_in(stored: Mapping[str, Any]) -> int | None:
    """Return the limit that `limit_attribute` wrote."""
    return None if stored.get("NULL") else int(stored["N"])


def _attribute(item: Mapping[str, Any], name: str, kind: str) -> str:
    attribute = item.get(name)
    value = attribute.get(kind) if isinstance(attribute, dict) else None
    if not isinstance(value, str):
        raise MalformedItem(f"{name} is missing or is not of the type {kind}")
    return value
