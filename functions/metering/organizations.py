"""Which organizations may record: read from the table, remembered for a minute."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.items import organization_key
from metering.store import busy_when_unanswered

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# An organization made inactive is refused at most this much later. One that is missing is not remembered: it may be
# created at any moment, and its first call must then work.
REMEMBERED_S = 60.0
# A few hundred bytes each: a bound on memory, far above what one execution environment meets in a minute.
MOST_REMEMBERED = 10_000


@dataclass
class Organizations:
    """The organizations' status as of at most a minute ago, on `monotonic`'s clock."""

    client: "DynamoDBClient"
    table: str
    monotonic: Callable[[], float]
    _remembered: dict[str, tuple[str, float]] = field(default_factory=dict)

    def status(self, organization: str) -> str | None:
        """`active` or `inactive`; None if there is no such organization.

        Raises:
            StoreBusy: throttled or unanswered.
        """
        status, until_s = self._remembered.get(organization, (None, 0.0))
        if status is not None and self.monotonic() < until_s:
            return status
        return self._read(organization)

    def _read(self, organization: str) -> str | None:
        with busy_when_unanswered():
            item = self.client.get_item(
                TableName=self.table, Key=organization_key(organization), ConsistentRead=True
            ).get("Item")
        self._remembered.pop(organization, None)
        if item is None:
            return None
        # Recording is refused only for organizations that were set inactive.
        status = item.get("status", {}).get("S", "active")
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[organization] = (status, self.monotonic() + REMEMBERED_S)
        return status
