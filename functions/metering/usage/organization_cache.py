"""Cache of organizations and their plans, as they were read at most a minute ago."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from metering.model.clocks import Clocks, Moment
from metering.storage.consistent_reads import read_item
from metering.storage.organization_reads import OrganizationAndPlan, read_organization_and_plan
from metering.storage.plan_items import FEATURES_KEY, known_features

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

# An organization made inactive, and a changed limit, are known at most this much later.
CACHED_S = 60.0
# A few hundred bytes each: a bound on memory, far above what one execution environment meets in a minute.
MAX_CACHED = 10_000


class _Cache(Generic[T]):
    """Values by name, each for a minute from when its reading began."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._values: dict[str, tuple[T, Moment]] = {}

    def has(self, name: str) -> bool:
        return name in self._values and self._clocks.seconds_since(self._values[name][1]) < CACHED_S

    def get(self, name: str) -> T:
        return self._values[name][0]

    def last(self, name: str) -> T | None:
        """What was put in last, however long ago."""
        return self._values[name][0] if name in self._values else None

    def put(self, name: str, value: T, read_at: Moment) -> T:
        # Taken out first, so that the oldest is always the first.
        self._values.pop(name, None)
        if len(self._values) >= MAX_CACHED:
            self._values.pop(next(iter(self._values)))
        self._values[name] = (value, read_at)
        return value


@dataclass
class OrganizationCache:
    """Organizations with their plans as of at most a minute ago, by each of `clocks`.

    Raises:
        StoreBusy: throttled or unanswered.
        MalformedItem: somebody wrote what is no organization or no plan.
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
        """From now on answer only what was read in `billing_period`.

        A limit that turns hard applies from the next period on: a plan cached before may not begin a counter in it.
        """
        if billing_period != self._billing_period:
            self._billing_period = billing_period
            self._forget()

    def _forget(self) -> None:
        self._entries = _Cache(self.clocks)
        self._features = _Cache(self.clocks)

    def find(self, name: str) -> OrganizationAndPlan | None:
        """None if there is no such organization. That is not cached: created now, its next call must work."""
        return self._entries.get(name) if self._entries.has(name) else self.find_now(name)

    def find_now(self, name: str) -> OrganizationAndPlan | None:
        """The same as it is stored at this moment, whatever is cached."""
        read_at = self.clocks.moment()
        before = self._entries.last(name)
        entry = read_organization_and_plan(
            self.client, self.table, name, None if before is None else before.organization.plan
        )
        return None if entry is None else self._entries.put(name, entry, read_at)

    def known_features(self) -> frozenset[str]:
        """Every feature that any plan has."""
        if self._features.has(""):
            return self._features.get("")
        read_at = self.clocks.moment()
        item = read_item(self.client, self.table, FEATURES_KEY)
        return self._features.put("", known_features(item), read_at)
