"""A cache of organizations and their plans, read at most a minute ago."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from metering.model.clocks import Clocks, Moment
from metering.storage.consistent_reads import read_item
from metering.storage.organization_reads import OrganizationAndPlan, read_organization_and_plan
from metering.storage.plan_items import FEATURES_KEY, known_features

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

# The longest delay until an inactive organization or a changed limit takes effect.
CACHED_S = 60.0
# Bounds memory at a few hundred bytes for each entry. One execution environment serves far fewer organizations in a
# minute.
MAX_CACHED = 10_000


class _Cache(Generic[T]):
    """Values by name. Each value is valid for a minute from the start of its read."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._values: dict[str, tuple[T, Moment]] = {}

    def has(self, name: str) -> bool:
        return name in self._values and self._clocks.seconds_since(self._values[name][1]) < CACHED_S

    def get(self, name: str) -> T:
        return self._values[name][0]

    def last(self, name: str) -> T | None:
        """Return the latest value, even if it has expired."""
        return self._values[name][0] if name in self._values else None

    def put(self, name: str, value: T, read_at: Moment) -> T:
        # Remove the entry first, so that the dictionary's first entry is always the oldest.
        self._values.pop(name, None)
        if len(self._values) >= MAX_CACHED:
            self._values.pop(next(iter(self._values)))
        self._values[name] = (value, read_at)
        return value


@dataclass
class OrganizationCache:
    """Organizations with their plans, read at most a minute ago by both the wall clock and the monotonic clock.

    Each method that reads raises these errors:
        StoreBusy: DynamoDB throttled the read or did not answer.
        MalformedItem: the stored organization or its plan cannot be read.
    """

    client: "DynamoDBClient"
    table: str
    clocks: Clocks
    _billing_period: str = field(init=False, default="")
    _entries: _Cache[OrganizationAndPlan] = field(init=False)
    _features: _Cache[frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._forget()

    def start_period(self, billing_period: str) -> None:
        """Drop all entries that were read in another billing period.

        If a soft limit becomes hard during a period, the hard limit applies from the next period. A plan from the old
        period could begin a counter of the new period without this hard limit.
        """
        if billing_period != self._billing_period:
            self._billing_period = billing_period
            self._forget()

    def _forget(self) -> None:
        self._entries = _Cache(self.clocks)
        self._features = _Cache(self.clocks)

    def find(self, name: str) -> OrganizationAndPlan | None:
        """Return the organization and its plan, or None if the organization is unknown.

        None is not cached, so that requests succeed as soon as the organization exists.
        """
        return self._entries.get(name) if self._entries.has(name) else self.find_now(name)

    def find_now(self, name: str) -> OrganizationAndPlan | None:
        """Return the organization and its plan from the table, even if they are cached. None: unknown."""
        read_at = self.clocks.moment()
        before = self._entries.last(name)
        entry = read_organization_and_plan(
            self.client, self.table, name, None if before is None else before.organization.plan
        )
        return None if entry is None else self._entries.put(name, entry, read_at)

    def known_features(self) -> frozenset[str]:
        """Return the features of all plans."""
        if self._features.has(""):
            return self._features.get("")
        read_at = self.clocks.moment()
        item = read_item(self.client, self.table, FEATURES_KEY)
        return self._features.put("", known_features(item), read_at)
