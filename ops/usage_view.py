"""`metering usage show`: the usage of a billing period for a person, with bars to the limits and a table of days."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from metering.model.clocks import Clocks
from metering.model.periods import MAX_DAYS
from metering.model.usage import CounterId
from metering.storage import counter_pages
from metering.storage.counter_items import counter_prefix, day_attribute, page_partition
from metering.storage.retry import until_answered
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
    days: dict[date, Counter[str]]
    """The usage of each UTC date that has usage, by feature."""

    def content(self) -> dict[str, Any]:
        """The view for a program."""
        usage = [
            {
                "feature": each.feature,
                "used": each.used,
                **({} if each.limit is None else {"limit": each.limit, "percentage": each.percentage}),
                "days": [
                    {"date": day.isoformat(), "used": used[each.feature]}
                    for day, used in self.days.items()
                    if used[each.feature]
                ],
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
        if self.days:
            used = [each.feature for each in self.features if each.used]
            rows = [["day", *used]]
            rows += [[day.isoformat(), *(f"{count[each]:,}" for each in used)] for day, count in self.days.items()]
            lines += ["", *_aligned(rows, "l" + "r" * len(used))]
        return "\n".join(lines)


def read(dynamodb: "DynamoDBClient", table: str, organization: str, billing_period: str) -> View:
    """Read the organization's usage and limits.

    Raises: TableBusy; TableUnreadable.
    """
    clocks = Clocks(lambda: datetime.now(UTC), time.monotonic)
    deps = QueryDeps(dynamodb, table, OrganizationCache(dynamodb, table, clocks))
    with usage_records.reading():
        features = queries.usage_summary(organization, billing_period, deps, usage_records.budget())
        days = _days(dynamodb, table, organization, billing_period, [each.feature for each in features if each.used])
    return View(organization, billing_period, features, days)


def _days(
    dynamodb: "DynamoDBClient", table: str, organization: str, billing_period: str, features: Sequence[str]
) -> dict[date, Counter[str]]:
    found: dict[int, Counter[str]] = {day: Counter() for day in range(1, MAX_DAYS + 1)}
    left = usage_records.budget()
    for feature in features:
        counter = CounterId(organization, billing_period, feature)
        first = until_answered(partial(counter_pages.first_page, dynamodb, table, counter), left)
        for page in range(first.pages):
            shards = dynamodb.query(
                TableName=table,
                KeyConditionExpression="pk = :pk AND begins_with(sk, :feature)",
                ExpressionAttributeValues={
                    ":pk": {"S": page_partition(counter, page)},
                    ":feature": {"S": counter_prefix(feature)},
                },
                ConsistentRead=True,
            )["Items"]
            for shard in shards:
                for day, used in found.items():
                    used[feature] += int(shard.get(day_attribute(day), {"N": "0"})["N"])
    start = date.fromisoformat(f"{billing_period}-01")
    return {start + timedelta(days=day - 1): used for day, used in found.items() if used.total()}


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
