"""Mappings in what comes from outside, which may be anything."""

from collections.abc import Mapping
from typing import Any


def mapping_in(value: Any, *path: str) -> Mapping[str, Any]:
    """The mapping that is reached from `value` by these names, one after the other; empty where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
