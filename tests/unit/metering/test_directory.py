from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from metering.directory import Directory
from metering.errors import StoreBusy
from metering.items import organization_key
from metering.plans import Feature, Organization, Plan

from tests.contention import answer_with, failed
from tests.service import Clock
from tests.table import put_on_plan, put_organization

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def _active(directory: Directory, name: str) -> bool:
    organization = directory.organization(name)
    return organization is not None and organization.active


def test_a_found_organization_is_remembered_for_a_minute(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    directory = Directory(dynamodb, "usage", clock.clocks)
    reads = answer_with(dynamodb, "GetItem", [])
    assert _active(directory, "acme") is True
    put_organization(dynamodb, "usage", "acme", "inactive")
    clock.pass_by(seconds=59.9)
    assert _active(directory, "acme") is True
    assert len(reads) == 1
    clock.pass_by(seconds=0.2)
    assert _active(directory, "acme") is False
    assert [read["ConsistentRead"] for read in reads] == [True, True]


def test_a_frozen_environment_reads_again_what_it_remembers_from_before(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    directory = Directory(dynamodb, "usage", clock.clocks)
    organization = Organization("acme", plan="pro")
    for limit in (10, 5):
        put_on_plan(dynamodb, "usage", organization, Plan("pro", "Pro", {f"f{limit}": Feature(limit, hard=True)}))
        assert _active(directory, "acme") is True
        plan = directory.plan_of(organization)
        assert plan is not None
        assert plan.features.keys() == {f"f{limit}"}
        assert f"f{limit}" in directory.known_features()
        put_organization(dynamodb, "usage", "acme", "inactive")
        assert _active(directory, "acme") is True
        clock.freeze(seconds=60)
        assert _active(directory, "acme") is False
        clock.freeze(seconds=60)


def test_an_environment_whose_wall_clock_was_set_back_reads_again(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    directory = Directory(dynamodb, "usage", clock.clocks)
    assert _active(directory, "acme") is True
    put_organization(dynamodb, "usage", "acme", "inactive")
    clock.set_back(seconds=1)
    assert _active(directory, "acme") is False


def test_a_minute_of_memory_begins_with_the_question(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    directory = Directory(dynamodb, "usage", clock.clocks)
    events: Any = dynamodb.meta.events
    events.register("after-call.dynamodb.GetItem", lambda **_: clock.pass_by(seconds=5))
    assert _active(directory, "acme") is True
    put_organization(dynamodb, "usage", "acme", "inactive")
    # The answer came 5 s after the question, and may be as old as that.
    clock.pass_by(seconds=55)
    assert _active(directory, "acme") is False


def test_a_minutes_memory_of_plans_begins_with_the_question(dynamodb: "DynamoDBClient") -> None:
    clock = Clock()
    directory = Directory(dynamodb, "usage", clock.clocks)
    organization = Organization("acme", plan="pro")
    put_on_plan(dynamodb, "usage", organization, Plan("pro", "Pro", {"before": Feature(10)}))
    events: Any = dynamodb.meta.events
    events.register("after-call.dynamodb.GetItem", lambda **_: clock.pass_by(seconds=5))
    directory.plan_of(organization)
    directory.known_features()
    put_on_plan(dynamodb, "usage", organization, Plan("pro", "Pro", {"after": Feature(10)}))
    # Each question is then a minute old when it is asked again, and its answer 55 s.
    clock.pass_by(seconds=50)
    plan = directory.plan_of(organization)
    assert plan is not None
    assert plan.features.keys() == {"after"}
    assert "after" in directory.known_features()


def test_a_missing_organization_is_looked_for_each_time(dynamodb: "DynamoDBClient") -> None:
    directory = Directory(dynamodb, "usage", Clock().clocks)
    assert directory.organization("newcomer") is None
    put_organization(dynamodb, "usage", "newcomer", "active")
    assert _active(directory, "newcomer") is True


def test_a_failed_read_is_not_remembered(dynamodb: "DynamoDBClient") -> None:
    directory = Directory(dynamodb, "usage", Clock().clocks)
    answer_with(dynamodb, "GetItem", [failed("ThrottlingException")])
    with pytest.raises(StoreBusy):
        directory.organization("acme")
    assert _active(directory, "acme") is True


def test_an_organization_is_active_unless_it_was_set_inactive(dynamodb: "DynamoDBClient") -> None:
    dynamodb.put_item(TableName="usage", Item={**organization_key("acme"), "organizationId": {"S": "acme"}})
    assert _active(Directory(dynamodb, "usage", Clock().clocks), "acme")


def test_memory_is_bounded(dynamodb: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.directory.MOST_REMEMBERED", 1)
    directory = Directory(dynamodb, "usage", Clock().clocks)
    reads = answer_with(dynamodb, "GetItem", [])
    for organization in ("acme", "demo-org", "demo-org", "acme"):
        assert _active(directory, organization) is True
    assert len(reads) == 3


def test_what_is_remembered_ends_with_its_billing_period(dynamodb: "DynamoDBClient") -> None:
    directory = Directory(dynamodb, "usage", Clock().clocks)
    reads = answer_with(dynamodb, "GetItem", [])
    # One that began before midnight may come after another that did not.
    for billing_period, read in (("2026-11", 1), ("2026-11", 1), ("2026-12", 2), ("2026-11", 2), ("2027-01", 3)):
        directory.enter(billing_period)
        assert _active(directory, "acme") is True
        assert len(reads) == read


def test_so_do_plans_and_known_features(dynamodb: "DynamoDBClient") -> None:
    directory = Directory(dynamodb, "usage", Clock().clocks)
    organization = Organization("acme")
    put_on_plan(dynamodb, "usage", organization, Plan("pro", "Pro", {"api_calls": Feature()}))
    on_plan = replace(organization, plan="pro")
    directory.enter("2026-11")
    assert directory.plan_of(on_plan) is not None
    assert directory.known_features() == {"api_calls"}
    other = Plan("pro", "Pro", {"storage_gb": Feature(limit=1, hard=True)})
    put_on_plan(dynamodb, "usage", organization, other)
    directory.enter("2026-12")
    assert directory.plan_of(on_plan) == other
    assert directory.known_features() == {"api_calls", "storage_gb"}


def test_what_is_stored_now_can_be_asked_for_and_is_remembered(dynamodb: "DynamoDBClient") -> None:
    directory = Directory(dynamodb, "usage", Clock().clocks)
    assert _active(directory, "acme") is True
    put_organization(dynamodb, "usage", "acme", "inactive")
    assert _active(directory, "acme") is True
    now = directory.organization_now("acme")
    assert now is not None
    assert (now.active, _active(directory, "acme")) == (False, False)


def test_so_can_the_plan_of_an_organization(dynamodb: "DynamoDBClient") -> None:
    directory = Directory(dynamodb, "usage", Clock().clocks)
    organization = Organization("acme", plan="pro")
    before, after = (Plan("pro", "Pro", {"api_calls": Feature(limit, hard=True)}) for limit in (10, 5))
    put_on_plan(dynamodb, "usage", organization, before)
    assert directory.plan_of(organization) == before
    put_on_plan(dynamodb, "usage", organization, after)
    assert directory.plan_of(organization) == before
    assert directory.plan_of_now(organization) == after
    assert directory.plan_of(organization) == after
    assert directory.plan_of_now(Organization("acme")) is None
