"""Plans and their entitlements.

A limit of None means unlimited.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

DEFAULT_WARN_AT = (80,)


AccessReason: TypeAlias = Literal["included", "limit_available", "limit_reached", "not_in_plan"]


@dataclass(frozen=True)
class Entitlement:
    """The limit of a feature, its enforcement and its warnings."""

    limit: int | None = None
    """Per billing period; None means unlimited."""
    unit: str | None = None
    hard: bool = False
    """Whether usage beyond the limit is refused rather than recorded."""
    warn_at: tuple[int, ...] = DEFAULT_WARN_AT
    """Percentages of the limit, ascending, each from 1 to 99."""
    upgrade_url: str | None = None


@dataclass(frozen=True)
class Plan:
    id: str
    name: str
    features: Mapping[str, Entitlement] = field(default_factory=dict)


def is_reached(limit: int | None, total: int) -> bool:
    """Return whether `total` is at or beyond the limit."""
    return limit is not None and total >= limit
