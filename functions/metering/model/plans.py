"""Plans: what they say of each feature.

A limit of None is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

DEFAULT_WARN_AT = (80,)


AccessReason: TypeAlias = Literal["included", "limit_available", "limit_reached", "not_in_plan"]


@dataclass(frozen=True)
class Entitlement:
    """What a plan says of a feature."""

    limit: int | None = None
    """Per billing period; None: unlimited."""
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
    """Whether `total` is at the limit, or beyond."""
    return limit is not None and total >= limit
