from datetime import UTC, datetime, timedelta, timezone

import pytest
from metering.model.organizations import Organization
from metering.storage.organization_items import (
    organization_from_item,
    organization_item,
    plan_name_attribute,
    stamp,
    stamp_after,
)
from metering.storage.plan_items import known_features, known_plans
from metering.storage.signals import MalformedItem

NOW = datetime(2026, 11, 23, 0, 20, 4, 123456, UTC)


def test_a_later_stamp_is_the_greater_text_whoever_stamped() -> None:
    assert stamp(NOW, "e-1") == "2026-11-23T00:20:04.123456Z#e-1"
    assert stamp(NOW, "zzz") < stamp(NOW + timedelta(microseconds=1), "by-hand")
    assert stamp(NOW, "e-1") < stamp(NOW, "e-2")
    # The text of a moment in whole seconds is not shorter.
    whole = NOW.replace(microsecond=0)
    assert stamp(whole - timedelta(microseconds=1), "z") < stamp(whole, "z") < stamp(NOW, "a")


def test_a_stamp_does_not_depend_on_the_time_zone() -> None:
    assert stamp(NOW.astimezone(timezone(timedelta(hours=14))), "e-1") == stamp(NOW, "e-1")


def test_the_stamp_after_another_is_a_microsecond_later() -> None:
    assert stamp_after("2026-12-31T23:59:59.999999Z#e#1", "by-hand") == "2027-01-01T00:00:00.000000Z#by-hand"


def test_a_plan_name_applies_only_to_its_own_plan() -> None:
    item = organization_item(Organization("acme", plan="pro", plan_name="Pro (yearly)"))
    assert organization_from_item(item).plan_name == "Pro (yearly)"
    assert organization_from_item({**item, "planId": {"S": "free"}}).plan_name is None
    assert organization_from_item({**item, "planName": plan_name_attribute("free", "Free")}).plan_name is None
    with pytest.raises(MalformedItem):
        organization_from_item({**item, "planName": {"S": "Pro"}})


def test_a_missing_list_holds_no_features_and_no_plans() -> None:
    assert known_features(None) == known_plans(None) == known_features({"version": {"N": "1"}}) == frozenset()
    assert known_plans({"plans": {"SS": ["pro", "free"]}}) == {"free", "pro"}
