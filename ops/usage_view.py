"""`metering usage show`: the usage of a billing period for a person, with bars to the limits and a table of days."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from metering.model.clocks import Clocks
from metering.usage import queries
from metering.usage.organization_cache import OrganizationCache
from metering.usage.queries import FeatureUsage, QueryDeps

from ops import usage_records
from tools.output import one_line

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_BAR = 20


class View(NamedTuple):
    """An organization's usage in a billing period."""

    organization: str
    billing_period: str
    features: Sequence[FeatureUsage]
    """With their days."""

    def content(self) -> dict[str, Any]:
        """The view for a program."""
        usage = [
            {
                "feature": each.feature,
                "used": each.used,
                **({} if each.limit is None else {"limit": each.limit, "percentage": each.percentage}),
                "days": [{"date": day.date.isoformat(), "used": day.used} for day in each.days or ()],
            }
            for each in self.features
        ]
        return {"organizationId": self.organization, "billingPeriod": self.billing_period, "usage": usage}

    def text(self) -> str:
        """The view for a person."""
        lines = [f"{self.organization}, {self.billing_period}"]
        if not self.features:
            return "\n".join([*lines, "No usage and no limits."])
        lines += ["", *_aligned([_row(each) for each in self.features], "lrl")]
        used = {each.feature: {day.date: day.used for day in each.days or ()} for each in self.features if each.used}
        if used:
            dates = sorted({date for days in used.values() for date in days})
            rows = [["day", *used]]
            rows += [[date.isoformat(), *(f"{days.get(date, 0):,}" for days in used.values())] for date in dates]
            lines += ["", *_aligned(rows, "l" + "r" * len(used))]
        return "\n".join(lines)


def read(dynamodb: "DynamoDBClient", table: str, organization: str, billing_period: str) -> View:
    """Read the organization's usage and limits.

    Raises: TableBusy; TableUnreadable.
    """
    clocks = Clocks(lambda: datetime.now(UTC), time.monotonic)
    deps = QueryDeps(dynamodb, table, OrganizationCache(dynamodb, table, clocks))
    with usage_records.reading():
        features = queries.usage_summary(organization, billing_period, deps, usage_records.budget(), by_day=True)
    return View(organization, billing_period, features)


def _row(usage: FeatureUsage) -> list[str]:
    unit = "" if usage.unit is None else f" {one_line(usage.unit)}"
    if usage.limit is None:
        return [usage.feature, f"{usage.used:,}", f"{unit[1:]}"]
    filled = _BAR if usage.limit == 0 else min(_BAR, _BAR * usage.used // usage.limit)
    bar = f"[{'#' * filled}{'.' * (_BAR - filled)}]"
    return [usage.feature, f"{usage.used:,}", f"{bar} {usage.percentage} % of {usage.limit:,}{unit}"]


def _aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """The rows as lines with aligned columns: `l` to the left, `r` to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    return [
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in rows
    ]
