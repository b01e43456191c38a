"""Access to mappings in input of any shape."""

from collections.abc import Mapping
from typing import Any


def mapping_in(value: Any, *path: str) -> Mapping[str, Any]:
    """Return the mapping at this path below `value`; an empty mapping if a step is missing or not a mapping."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
