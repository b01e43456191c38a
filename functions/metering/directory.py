"""Which organizations there are and what their plans say: read from the table, remembered for a minute."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from metering.items import Item, organization_key
from metering.memory import Clocks, Moment
from metering.plans import (
    FEATURES_KEY,
    Organization,
    Plan,
    known_features,
    organization_from_item,
    plan_from_item,
    plan_key,
)
from metering.store import busy_when_unanswered

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

# An organization made inactive is refused, and a limit changed is known, at most this much later.
REMEMBERED_S = 60.0
# A few hundred bytes each: a bound on memory, far above what one execution environment meets in a minute.
MOST_REMEMBERED = 10_000


class _Memory(Generic[T]):
    """Values by name, each for a minute from when its reading began."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._values: dict[str, tuple[T, Moment]] = {}

    def has(self, name: str) -> bool:
        return name in self._values and self._clocks.seconds_since(self._values[name][1]) < REMEMBERED_S

    def get(self, name: str) -> T:
        return self._values[name][0]

    def put(self, name: str, value: T, read_at: Moment) -> T:
        # Taken out first, so that the oldest is always the first.
        self._values.pop(name, None)
        if len(self._values) >= MOST_REMEMBERED:
            self._values.pop(next(iter(self._values)))
        self._values[name] = (value, read_at)
        return value


@dataclass
class Directory:
    """Organizations and plans as of at most a minute ago, by each of `clocks`.

    Every question may read the table once, consistently.

    Raises:
        StoreBusy: throttled or unanswered.
        MalformedItem: somebody wrote what is no organization or no plan.
    """

    client: "DynamoDBClient"
    table: str
    clocks: Clocks
    _billing_period: str = field(init=False, default="")
    _organizations: _Memory[Organization] = field(init=False)
    _plans: _Memory[Plan | None] = field(init=False)
    _features: _Memory[frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._forget()

    def enter(self, billing_period: str) -> None:
        """From now on answer only what was read in `billing_period`, or a later one that was entered before.

        Soft turned hard holds from the next period on: what is remembered from the former may not begin a counter.
        """
        # As text: both have the same form.
        if billing_period > self._billing_period:
            self._billing_period = billing_period
            self._forget()

    def _forget(self) -> None:
        self._organizations = _Memory(self.clocks)
        self._plans = _Memory(self.clocks)
        self._features = _Memory(self.clocks)

    def organization(self, name: str) -> Organization | None:
        """None if there is no such organization. That is not remembered: created now, its next call must work."""
        return self._organizations.get(name) if self._organizations.has(name) else self.organization_now(name)

    def organization_now(self, name: str) -> Organization | None:
        """The same as it is stored at this moment, whatever is remembered."""
        read_at = self.clocks.moment()
        item = self._read(organization_key(name))
        return None if item is None else self._organizations.put(name, organization_from_item(item), read_at)

    def plan_of(self, organization: Organization) -> Plan | None:
        """None if it has no plan, or one that nobody has described."""
        if organization.plan is not None and self._plans.has(organization.plan):
            return self._plans.get(organization.plan)
        return self.plan_of_now(organization)

    def plan_of_now(self, organization: Organization) -> Plan | None:
        """The same as it is stored at this moment, whatever is remembered."""
        if organization.plan is None:
            return None
        read_at = self.clocks.moment()
        item = self._read(plan_key(organization.plan))
        return self._plans.put(organization.plan, None if item is None else plan_from_item(item), read_at)

    def known_features(self) -> frozenset[str]:
        """Every feature that any plan has."""
        if self._features.has(""):
            return self._features.get("")
        read_at = self.clocks.moment()
        return self._features.put("", known_features(self._read(FEATURES_KEY)), read_at)

    def _read(self, key: Item) -> Item | None:
        with busy_when_unanswered():
            return self.client.get_item(TableName=self.table, Key=key, ConsistentRead=True).get("Item")
