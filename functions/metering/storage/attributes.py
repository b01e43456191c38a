"""Attributes of items: one that lacks its form makes its item a MalformedItem.

Items are in DynamoDB's own form (`{"S": …}`, `{"N": …}`), which the stream's images share.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from metering.storage.signals import MalformedItem

Item: TypeAlias = dict[str, Any]


def text_in(item: Mapping[str, Any], name: str, pattern: str = r".+") -> str:
    """The text attribute `name`.

    Raises:
        MalformedItem: it is missing or does not match `pattern`.
    """
    value = _attribute(item, name, "S")
    if re.fullmatch(pattern, value) is None:
        raise MalformedItem(f"{name} does not have its form")
    return value


def optional_text_in(item: Mapping[str, Any], name: str) -> str | None:
    """The text attribute `name`; None if the item has none.

    Raises:
        MalformedItem: it is no text.
    """
    return _attribute(item, name, "S") if name in item else None


def whole_number_in(item: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """The number attribute `name`, whole and from `least` to `most`.

    Raises:
        MalformedItem: it is missing or is another.
    """
    digits = _attribute(item, name, "N")
    if re.fullmatch(r"[0-9]{1,38}", digits) is None or not least <= int(digits) <= most:
        raise MalformedItem(f"{name} is not a whole number from {least} to {most}")
    return int(digits)


def moment_in(item: Mapping[str, Any], name: str) -> datetime:
    """The moment in the text attribute `name`, as `to_timestamp` writes it.

    Raises:
        MalformedItem: it is missing or none.
    """
    text = text_in(item, name, r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise MalformedItem(f"{name} is not a moment") from None


def limit_attribute(limit: int | None) -> Item:
    """A limit as plans and organizations store it; None: unlimited."""
    # Null rather than nothing: an organization may be unlimited where its plan is not.
    return {"NULL": True} if limit is None else {"N": str(limit)}


def limit_in(stored: Mapping[str, Any]) -> int | None:
    """The limit that `limit_attribute` wrote."""
    return None if stored.get("NULL") else int(stored["N"])


def _attribute(item: Mapping[str, Any], name: str, kind: str) -> str:
    attribute = item.get(name)
    value = attribute.get(kind) if isinstance(attribute, dict) else None
    if not isinstance(value, str):
        raise MalformedItem(f"{name} is missing or has another type than {kind}")
    return value
