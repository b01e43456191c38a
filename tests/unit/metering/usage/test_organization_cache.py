import itertools
from typing import TYPE_CHECKING, Any

import pytest
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.storage.organization_items import organization_item, organization_key
from metering.storage.organization_reads import OrganizationAndPlan
from metering.storage.plan_items import plan_item
from metering.storage.signals import StoreBusy
from metering.usage.organization_cache import OrganizationCache

from tests.testing.contention import answer_with, cancelled, failed
from tests.testing.service import Clock
from tests.testing.table import put_on_plan, put_organization

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def _active(organizations: OrganizationCache, name: str) -> bool:
    entry = organizations.find(name)
    return entry is not None and entry.organization.active


def _plan(organizations: OrganizationCache, name: str = "acme") -> Plan | None:
    entry = organizations.find(name)
    assert entry is not None
    return entry.plan


def test_a_found_organization_is_remembered_for_a_minute(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    organizations = OrganizationCache(dynamodb, "usage", clock.clocks)
    reads = answer_with(dynamodb, "GetItem", [])
    assert _active(organizations, "acme") is True
    put_organization(dynamodb, "usage", "acme", "inactive")
    clock.pass_by(seconds=59.9)
    assert _active(organizations, "acme") is True
    assert len(reads) == 1
    clock.pass_by(seconds=0.2)
    assert _active(organizations, "acme") is False
    assert [read["ConsistentRead"] for read in reads] == [True, True]


def test_cached_entries_expire_while_the_environment_is_frozen(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    organizations = OrganizationCache(dynamodb, "usage", clock.clocks)
    organization = Organization("acme", plan="pro")
    for limit in (10, 5):
        put_on_plan(dynamodb, "usage", organization, Plan("pro", "Pro", {f"f{limit}": Entitlement(limit, hard=True)}))
        assert _active(organizations, "acme") is True
        plan = _plan(organizations)
        assert plan is not None
        assert plan.features.keys() == {f"f{limit}"}
        assert f"f{limit}" in organizations.known_features()
        put_organization(dynamodb, "usage", "acme", "inactive")
        assert _active(organizations, "acme") is True
        clock.freeze(seconds=60)
        assert _active(organizations, "acme") is False
        clock.freeze(seconds=60)


def test_an_environment_whose_wall_clock_was_set_back_reads_again(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    organizations = OrganizationCache(dynamodb, "usage", clock.clocks)
    assert _active(organizations, "acme") is True
    put_organization(dynamodb, "usage", "acme", "inactive")
    clock.set_back(seconds=1)
    assert _active(organizations, "acme") is False


def test_a_cached_organizations_minute_starts_with_its_read(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    organizations = OrganizationCache(dynamodb, "usage", clock.clocks)
    events: Any = dynamodb.meta.events
    events.register("after-call.dynamodb.GetItem", lambda **_: clock.pass_by(seconds=5))
    assert _active(organizations, "acme") is True
    put_organization(dynamodb, "usage", "acme", "inactive")
    # The answer came 5 s after the request, and may be 5 s old.
    clock.pass_by(seconds=55)
    assert _active(organizations, "acme") is False


def test_a_cached_plans_minute_starts_with_its_read(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    organizations = OrganizationCache(dynamodb, "usage", clock.clocks)
    organization = Organization("acme", plan="pro")
    put_on_plan(dynamodb, "usage", organization, Plan("pro", "Pro", {"before": Entitlement(10)}))
    events: Any = dynamodb.meta.events
    events.register("after-call.dynamodb.TransactGetItems", lambda **_: clock.pass_by(seconds=5))
    events.register("after-call.dynamodb.GetItem", lambda **_: clock.pass_by(seconds=5))
    _plan(organizations)
    put_on_plan(dynamodb, "usage", organization, Plan("pro", "Pro", {"after": Entitlement(10)}))
    clock.pass_by(seconds=55)
    plan = _plan(organizations)
    assert plan is not None
    assert plan.features.keys() == {"after"}


def test_the_cached_features_minute_starts_with_their_read(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    organizations = OrganizationCache(dynamodb, "usage", clock.clocks)
    organization = Organization("acme", plan="pro")
    put_on_plan(dynamodb, "usage", organization, Plan("pro", "Pro", {"before": Entitlement(10)}))
    events: Any = dynamodb.meta.events
    events.register("after-call.dynamodb.GetItem", lambda **_: clock.pass_by(seconds=5))
    organizations.known_features()
    put_on_plan(dynamodb, "usage", organization, Plan("pro", "Pro", {"after": Entitlement(10)}))
    clock.pass_by(seconds=55)
    assert "after" in organizations.known_features()


def test_a_missing_organization_is_looked_for_each_time(dynamodb: "DynamoDBClient") -> None:
    organizations = OrganizationCache(dynamodb, "usage", Clock().clocks)
    assert organizations.find("newcomer") is None
    put_organization(dynamodb, "usage", "newcomer", "active")
    assert _active(organizations, "newcomer") is True


def test_a_failed_read_is_not_remembered(dynamodb: "DynamoDBClient") -> None:
    organizations = OrganizationCache(dynamodb, "usage", Clock().clocks)
    answer_with(dynamodb, "GetItem", [failed("ThrottlingException")])
    with pytest.raises(StoreBusy):
        organizations.find("acme")
    assert _active(organizations, "acme") is True


def test_an_organization_is_active_unless_it_was_set_inactive(dynamodb: "DynamoDBClient") -> None:
    dynamodb.put_item(TableName="usage", Item={**organization_key("acme"), "organizationId": {"S": "acme"}})
    assert _active(OrganizationCache(dynamodb, "usage", Clock().clocks), "acme")


def test_memory_is_bounded(dynamodb: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.usage.organization_cache.MAX_CACHED", 1)
    organizations = OrganizationCache(dynamodb, "usage", Clock().clocks)
    reads = answer_with(dynamodb, "GetItem", [])
    for organization in ("acme", "demo-org", "demo-org", "acme"):
        assert _active(organizations, organization) is True
    assert len(reads) == 3


def test_cached_organizations_expire_with_the_billing_period(dynamodb: "DynamoDBClient") -> None:
    organizations = OrganizationCache(dynamodb, "usage", Clock().clocks)
    reads = answer_with(dynamodb, "GetItem", [])
    # A clock that is ahead may be set back to the former period, so that the next period starts twice.
    for billing_period, read in (("2026-11", 1), ("2026-11", 1), ("2026-12", 2), ("2026-11", 3), ("2026-12", 4)):
        organizations.start_period(billing_period)
        assert _active(organizations, "acme") is True
        assert len(reads) == read


def test_cached_plans_and_features_expire_with_the_billing_period(dynamodb: "DynamoDBClient") -> None:
    organizations = OrganizationCache(dynamodb, "usage", Clock().clocks)
    organization = Organization("acme")
    put_on_plan(dynamodb, "usage", organization, Plan("pro", "Pro", {"api_calls": Entitlement()}))
    organizations.start_period("2026-11")
    assert _plan(organizations) is not None
    assert organizations.known_features() == {"api_calls"}
    other = Plan("pro", "Pro", {"storage_gb": Entitlement(limit=1, hard=True)})
    put_on_plan(dynamodb, "usage", organization, other)
    organizations.start_period("2026-12")
    assert _plan(organizations) == other
    assert organizations.known_features() == {"api_calls", "storage_gb"}


def test_find_now_reads_the_stored_organization_and_caches_it(dynamodb: "DynamoDBClient") -> None:
    organizations = OrganizationCache(dynamodb, "usage", Clock().clocks)
    assert _active(organizations, "acme") is True
    put_organization(dynamodb, "usage", "acme", "inactive")
    assert _active(organizations, "acme") is True
    now = organizations.find_now("acme")
    assert now is not None
    assert (now.organization.active, _active(organizations, "acme")) == (False, False)


def test_find_now_reads_the_stored_plan_and_caches_it(dynamodb: "DynamoDBClient") -> None:
    organizations = OrganizationCache(dynamodb, "usage", Clock().clocks)
    organization = Organization("acme", plan="pro")
    before, after = (Plan("pro", "Pro", {"api_calls": Entitlement(limit, hard=True)}) for limit in (10, 5))
    put_on_plan(dynamodb, "usage", organization, before)
    assert _plan(organizations) == before
    put_on_plan(dynamodb, "usage", organization, after)
    assert _plan(organizations) == before
    now = organizations.find_now("acme")
    assert now is not None
    assert now.plan == after
    assert _plan(organizations) == after


# --- an organization and its plan are read together -------------------------------------------------------------------

HARD, SOFT = Entitlement(10, hard=True), Entitlement(10)


def _move(dynamodb: "DynamoDBClient", plan: str, feature: Entitlement) -> None:
    put_on_plan(dynamodb, "usage", Organization("acme"), Plan(plan, plan, {"api_calls": feature}))


def test_the_plan_is_read_with_its_organization_at_one_moment(dynamodb: "DynamoDBClient") -> None:
    _move(dynamodb, "a", HARD)
    moves = iter([("b", HARD)])

    def move(**_: Any) -> None:
        # Between the two reads the organization leaves the plan, which turns soft when it has no organization any more.
        for plan, feature in moves:
            _move(dynamodb, plan, feature)
            dynamodb.put_item(TableName="usage", Item=plan_item(Plan("a", "a", {"api_calls": SOFT})))

    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb.TransactGetItems", move)
    plan = _plan(OrganizationCache(dynamodb, "usage", Clock().clocks))
    assert plan == Plan("b", "b", {"api_calls": HARD})


def test_an_organization_that_keeps_changing_its_plan_is_read_again_later(dynamodb: "DynamoDBClient") -> None:
    _move(dynamodb, "a", HARD)
    plans = itertools.cycle("ba")
    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb.TransactGetItems", lambda **_: _move(dynamodb, next(plans), HARD))
    with pytest.raises(StoreBusy):
        OrganizationCache(dynamodb, "usage", Clock().clocks).find("acme")


def test_an_organization_that_leaves_its_plan_during_the_read_has_no_plan(dynamodb: "DynamoDBClient") -> None:
    for left in (organization_item(Organization("acme")), None):
        _move(dynamodb, "a", HARD)

        def leave(left: Any = left, **_: Any) -> None:
            if left is None:
                dynamodb.delete_item(TableName="usage", Key=organization_key("acme"))
            else:
                dynamodb.put_item(TableName="usage", Item=left)

        events: Any = dynamodb.meta.events
        events.register("before-call.dynamodb.TransactGetItems", leave)
        entry = OrganizationCache(dynamodb, "usage", Clock().clocks).find("acme")
        events.unregister("before-call.dynamodb.TransactGetItems", leave)
        assert entry == (None if left is None else OrganizationAndPlan(Organization("acme"), None))


def test_a_cached_plan_is_as_old_as_its_organization(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    organizations = OrganizationCache(dynamodb, "usage", clock.clocks)
    for name in ("acme", "demo-org"):
        put_on_plan(dynamodb, "usage", Organization(name), Plan("a", "a", {"api_calls": HARD}))
    _plan(organizations, "acme")
    clock.pass_by(seconds=50)
    _plan(organizations, "demo-org")
    # The second organization leaves the plan, and then the plan turns soft. The organization always had a hard limit.
    put_on_plan(dynamodb, "usage", Organization("demo-org"), Plan("b", "b", {"api_calls": HARD}))
    dynamodb.put_item(TableName="usage", Item=plan_item(Plan("a", "a", {"api_calls": SOFT})))
    clock.pass_by(seconds=11)
    assert _plan(organizations, "acme") == Plan("a", "a", {"api_calls": SOFT})
    assert _plan(organizations, "demo-org") == Plan("a", "a", {"api_calls": HARD})


def test_an_organization_is_read_again_by_one_call(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    organizations = OrganizationCache(dynamodb, "usage", clock.clocks)
    _move(dynamodb, "a", HARD)
    calls: list[str] = []
    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
    for _ in range(3):
        _plan(organizations)
        clock.pass_by(seconds=61)
    assert calls == ["GetItem", "TransactGetItems", "TransactGetItems", "TransactGetItems"]


def test_a_plan_that_is_being_written_is_waited_for(dynamodb: "DynamoDBClient") -> None:
    _move(dynamodb, "a", HARD)
    organizations = OrganizationCache(dynamodb, "usage", Clock().clocks)
    answer_with(dynamodb, "TransactGetItems", [cancelled(["None", "TransactionConflict"])])
    with pytest.raises(StoreBusy):
        organizations.find("acme")
    assert _plan(organizations) is not None
