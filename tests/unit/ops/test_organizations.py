from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from metering.inbound.consumed_events import SUBSCRIPTION_CHANGED, EventMalformed, change_of
from metering.model.organizations import Organization
from metering.model.plans import Plan
from metering.model.usage import CounterId
from metering.storage.lists import organizations_list
from metering.storage.organization_items import (
    SUBSCRIPTION_ATTRIBUTES,
    organization_from_item,
    organization_item,
    organization_key,
    plan_name_attribute,
)
from metering.storage.plan_items import plan_item

from ops import organizations
from ops.errors import OrganizationContended, OrganizationUnknown, UsageWrong
from tests.testing.contention import answer_with, failed
from tests.testing.table import put_counter, put_organization

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
NOW = datetime(2026, 11, 23, 0, 20, 4, 123456, UTC)


def test_an_organization_is_stored_where_the_functions_look_for_it(dynamodb: "DynamoDBClient") -> None:
    organizations.put(dynamodb, "usage", "new-org")

    stored = dynamodb.get_item(TableName="usage", Key=organization_key("new-org"))["Item"]
    assert stored == organization_item(Organization("new-org"))


def test_put_keeps_other_attributes_of_an_organization(dynamodb: "DynamoDBClient") -> None:
    known = {"status": {"S": "active"}, "plan": {"S": "pro"}, "seats": {"N": "5"}}
    dynamodb.put_item(TableName="usage", Item={**organization_key("old-org"), **known})

    organizations.put(dynamodb, "usage", "old-org", "inactive", _settings())

    assert organizations.get(dynamodb, "usage", "old-org") == {
        "organizationId": "old-org",
        "status": "inactive",
        "plan": "pro",
        "seats": 5,
        "changed": {"status": "2026-11-23T00:20:04.123456Z#by-hand"},
    }


@pytest.mark.parametrize("stored", [{}, {"status": {"S": "2026-11-24T00:00:00.000000Z#e-1"}}])
def test_an_organization_that_was_set_active_by_hand_is_not_deleted_again(
    dynamodb: "DynamoDBClient", stored: dict[str, Any]
) -> None:
    deleted: dict[str, Any] = {"status": {"S": "inactive"}, "changed": {"M": stored}}
    dynamodb.put_item(TableName="usage", Item={**organization_key("acme"), **deleted})
    shown = organizations.put(dynamodb, "usage", "acme", "active", _settings()).stored
    # The event's stamp is at most the stored one, so the event is older and changes nothing.
    assert shown["status"] == "active"
    assert shown["changed"]["status"] > stored.get("status", {"S": ""})["S"]


def test_an_organization_that_is_not_stored_is_unknown(dynamodb: "DynamoDBClient") -> None:
    with pytest.raises(OrganizationUnknown, match="nobody"):
        organizations.get(dynamodb, "usage", "nobody")


@pytest.mark.parametrize("name", ["", "a b", "a#b", "ü", "a" * 65, "demo-org\n", "null", "true", "false"])
def test_a_name_that_the_api_would_not_accept_is_refused(dynamodb: "DynamoDBClient", name: str) -> None:
    before = dynamodb.scan(TableName="usage")["Items"]

    with pytest.raises(UsageWrong):
        organizations.put(dynamodb, "usage", name, "active")
    with pytest.raises(UsageWrong):
        organizations.get(dynamodb, "usage", name)
    assert dynamodb.scan(TableName="usage")["Items"] == before


def _settings(*limits: str, **given: Any) -> organizations.Settings:
    return organizations.settings(given, limits, NOW)


def test_every_field_of_a_subscription_is_stored_as_the_functions_read_it(dynamodb: "DynamoDBClient") -> None:
    wanted = _settings(
        "api_calls=5",
        "exports=unlimited",
        plan="pro",
        plan_name="Pro",
        subscription_id="sub-1",
        subscription_status="TRIALING",
        current_period_start="2026-11-01T01:00:00+01:00",
        current_period_end="2026-12-01T00:00:00Z",
        trial_ends_at="2026-11-14T12:00:00.123999-05:00",
        cancel_at_period_end=False,
    )

    shown = organizations.put(dynamodb, "usage", "new-org", None, wanted).stored

    stored = dynamodb.get_item(TableName="usage", Key=organization_key("new-org"))["Item"]
    assert organization_from_item(stored) == Organization(
        "new-org",
        plan="pro",
        plan_name="Pro",
        limits={"api_calls": 5, "exports": None},
        subscription_id="sub-1",
        subscription_status="TRIALING",
        current_period_start=datetime(2026, 11, 1, tzinfo=UTC),
        current_period_end=datetime(2026, 12, 1, tzinfo=UTC),
        trial_ends_at=datetime(2026, 11, 14, 17, 0, 0, 123000, UTC),
        cancel_at_period_end=False,
    )
    assert stored["changed"] == {
        "M": {name: {"S": "2026-11-23T00:20:04.123456Z#by-hand"} for name in SUBSCRIPTION_ATTRIBUTES}
    }
    assert stored["currentPeriodStart"] == {"S": "2026-11-01T00:00:00.000Z"}
    assert shown == organizations.get(dynamodb, "usage", "new-org")
    assert shown["limits"] == {"api_calls": 5, "exports": "unlimited"}
    assert list(shown)[:3] == ["organizationId", "status", "planId"]


def test_only_what_is_given_changes(dynamodb: "DynamoDBClient") -> None:
    known: dict[str, Any] = {
        "status": {"S": "inactive"},
        "planId": {"S": "free"},
        "planName": plan_name_attribute("free", "Free"),
        "trialEndsAt": {"S": "2026-11-14T00:00:00.000Z"},
        "limits": {"M": {"a": {"N": "1"}, "b": {"NULL": True}, "c.d": {"N": "3"}}},
        "changed": {"M": {"planId": {"S": "2026-11-01T00:00:00.000000Z#e-1"}, "planName": {"S": "x"}}},
        "seats": {"N": "5"},
    }
    dynamodb.put_item(TableName="usage", Item={**organization_key("old-org"), **known})

    wanted = _settings("c.d=plan", "new=7", plan="pro", trial_ends_at="none")
    organizations.put(dynamodb, "usage", "old-org", None, wanted)

    stored = dynamodb.get_item(TableName="usage", Key=organization_key("old-org"))["Item"]
    by_hand = {"S": "2026-11-23T00:20:04.123456Z#by-hand"}
    del known["trialEndsAt"]
    assert stored == {
        **organization_key("old-org"),
        **known,
        "organizationId": {"S": "old-org"},
        "listedIn": organizations_list("old-org"),
        "planId": {"S": "pro"},
        "limits": {"M": {"a": {"N": "1"}, "b": {"NULL": True}, "new": {"N": "7"}}},
        "changed": {"M": {"planId": by_hand, "planName": {"S": "x"}, "trialEndsAt": by_hand}},
    }


def test_a_limit_stamps_nothing(dynamodb: "DynamoDBClient") -> None:
    shown = organizations.put(dynamodb, "usage", "acme", None, _settings("a=1", "b=plan")).stored
    assert shown == {"organizationId": "acme", "status": "active", "limits": {"a": 1}}


def test_without_a_status_an_organization_keeps_its_own(dynamodb: "DynamoDBClient") -> None:
    organizations.put(dynamodb, "usage", "acme", "inactive")
    assert organizations.put(dynamodb, "usage", "acme").stored["status"] == "inactive"
    assert organizations.put(dynamodb, "usage", "new-org").stored["status"] == "active"


@pytest.mark.parametrize("stored", [{}, {"changed": {"M": {}}, "limits": {"M": {}}}])
def test_put_keeps_concurrent_changes_of_other_writers(dynamodb: "DynamoDBClient", stored: dict[str, Any]) -> None:
    if stored:
        dynamodb.put_item(TableName="usage", Item={**organization_key("new-org"), **stored})
    theirs = {"changed": {"M": {"planName": {"S": "theirs"}}}, "limits": {"M": {"theirs": {"N": "1"}}}}
    written: list[bool] = []

    def write_meanwhile(**_call: Any) -> None:
        if not written:
            written.append(True)
            dynamodb.put_item(TableName="usage", Item={**organization_key("new-org"), **theirs})

    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb.UpdateItem", write_meanwhile)
    shown = organizations.put(dynamodb, "usage", "new-org", None, _settings("ours=2", plan="pro")).stored

    assert shown["changed"] == {"planName": "theirs", "planId": "2026-11-23T00:20:04.123456Z#by-hand"}
    assert shown["limits"] == {"theirs": 1, "ours": 2}


def test_put_reads_a_concurrent_subscription_change_before_overwriting_it(
    dynamodb: "DynamoDBClient",
) -> None:
    organizations.put(dynamodb, "usage", "acme", None, _settings(plan="free"))
    ahead = {"planId": {"S": "2026-11-23T00:21:34.000000Z#e-1"}}
    written: list[bool] = []

    def write_meanwhile(**_call: Any) -> None:
        if not written:
            written.append(True)
            theirs: dict[str, Any] = {"planId": {"S": "team"}, "changed": {"M": ahead}}
            dynamodb.put_item(TableName="usage", Item={**organization_key("acme"), **theirs})

    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb.UpdateItem", write_meanwhile)
    shown = organizations.put(dynamodb, "usage", "acme", None, _settings(plan="pro", plan_name="Pro")).stored

    last = "2026-11-23T00:21:34.000001Z#by-hand"
    assert (shown["planId"], shown["changed"]) == ("pro", {"planId": last, "planName": last})


def test_a_stamp_is_later_than_the_stamps_of_the_changed_fields_only(dynamodb: "DynamoDBClient") -> None:
    changed = {
        "planId": {"S": "2026-11-23T00:20:04.123456Z#zzz"},
        "trialEndsAt": {"S": "2026-11-23T12:00:00.000000Z#e-1"},
        "subscriptionId": {"S": "2026-11-23T00:20:04.123456Z#aaa"},
    }
    dynamodb.put_item(TableName="usage", Item={**organization_key("acme"), "changed": {"M": changed}})
    organizations.put(dynamodb, "usage", "acme", None, _settings(plan="pro"))
    shown = organizations.put(dynamodb, "usage", "acme", None, _settings(subscription_id="sub-1")).stored
    assert shown["changed"] == {
        "planId": "2026-11-23T00:20:04.123457Z#by-hand",
        "trialEndsAt": "2026-11-23T12:00:00.000000Z#e-1",
        "subscriptionId": "2026-11-23T00:20:04.123456Z#by-hand",
    }


def test_a_plans_name_is_shown_while_the_organization_is_on_that_plan(dynamodb: "DynamoDBClient") -> None:
    def put(**given: str) -> Any:
        return organizations.put(dynamodb, "usage", "acme", None, _settings(**given)).stored.get("planName")

    assert put(plan="pro", plan_name="Pro (yearly)") == "Pro (yearly)"
    assert put(plan="free") is None
    assert "planName" not in organizations.get(dynamodb, "usage", "acme")
    assert put(plan="pro") == "Pro (yearly)"
    assert put(plan_name="Pro (monthly)") == "Pro (monthly)"
    assert put(subscription_status="PAUSED") == "Pro (monthly)"


def test_a_plans_name_without_a_plan_is_refused(dynamodb: "DynamoDBClient") -> None:
    with pytest.raises(UsageWrong, match="acme has no plan"):
        organizations.put(dynamodb, "usage", "acme", None, _settings(plan_name="Pro"))
    assert "planName" not in organizations.get(dynamodb, "usage", "acme")


def test_an_organization_that_others_keep_changing_is_left(dynamodb: "DynamoDBClient") -> None:
    answer_with(dynamodb, "UpdateItem", [failed("ConditionalCheckFailedException")] * 10)
    with pytest.raises(OrganizationContended, match="acme"):
        organizations.put(dynamodb, "usage", "acme", None, _settings(plan="pro"))


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ({"plan": "a b"}, "--plan is 'a b': it must be a plan id"),
        ({"plan": "pro\n"}, "--plan is 'pro\\n': it must be"),
        ({"plan_name": ""}, "--plan-name is '': it must be 1 to 255 characters in one line"),
        ({"plan_name": "a" * 256}, "--plan-name is "),
        ({"plan_name": "two\nlines"}, "--plan-name is "),
        ({"plan_name": "\udcff"}, "--plan-name is "),
        *(({"plan_name": f"Pro{character}"}, "--plan-name is 'Pro\\u") for character in BIDIRECTIONAL),
        ({"subscription_id": "a b"}, "--subscription-id is 'a b': "),
        ({"subscription_status": "active"}, "--subscription-status is 'active': it must be one of TRIALING, ACTIVE, "),
        ({"current_period_start": "2026-11-01"}, "--period-start is '2026-11-01': it must be a time in RFC 3339"),
        ({"current_period_start": "2026-11-01T00:00:00"}, "--period-start is "),
        ({"current_period_end": "tomorrow"}, "--period-end is 'tomorrow': "),
        ({"current_period_end": "0001-01-01T00:00:00+14:00"}, "--period-end is "),
        ({"current_period_start": "none"}, "--period-start is 'none': "),
        ({"trial_ends_at": "2026-02-30T00:00:00Z"}, "--trial-ends-at is "),
        (
            {"current_period_start": "2026-11-01T00:00:00Z", "current_period_end": "2026-11-01T01:00:00+01:00"},
            "--period-end must be after --period-start.",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused(given: dict[str, Any], start: str) -> None:
    with pytest.raises(UsageWrong) as wrong:
        _settings(**given)
    (mistake,) = str(wrong.value).splitlines()
    assert mistake.startswith(start)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("2026-11-01T00:00:00Z", True),
        ("2026-11-01t00:00:00z", True),
        ("2026-11-01T01:00:00+01:00", True),
        ("2026-11-01T00:00:00-00:00", True),
        ("2026-10-31T23:59:60.5Z", True),
        ("2026-11-01T01:00:00+0100", False),
        ("2026-11-01T01:00:00+01", False),
        ("2026-11-01T01:00:00+01:00:00", False),
        ("2026-11-01 00:00:00Z", False),
        ("2026-11-01T00:00Z", False),
        ("2026-11-01T00:00:00,5Z", False),
        ("20261101T000000Z", False),
        ("2026-W44-7T00:00:00Z", False),
        (" 2026-11-01T00:00:00Z", False),
        ("\u0662026-11-01T00:00:00Z", False),
    ],
)
@pytest.mark.parametrize("name", ["current_period_start", "current_period_end", "trial_ends_at"])
def test_put_accepts_the_same_moments_as_an_event(name: str, text: str, is_one: bool) -> None:
    def takes(read: Callable[[], object], refusal: type[Exception]) -> bool:
        try:
            read()
        except refusal:
            return False
        return True

    member = "".join(word.capitalize() if at else word for at, word in enumerate(name.split("_")))
    said = {"organizationId": "acme", "newPlan": "pro", "newStatus": "ACTIVE", "changedAt": "2026-11-01T00:00:00Z"}
    detail = {"id": "e-1", "key": SUBSCRIPTION_CHANGED, "version": "1.0.0", "payload": {**said, member: text}}
    event = {"detail-type": SUBSCRIPTION_CHANGED, "detail": detail}
    assert takes(lambda: change_of(event, NOW), EventMalformed) == is_one
    assert takes(lambda: _settings(**{name: text}), UsageWrong) == is_one


@pytest.mark.parametrize(
    "limit",
    [
        "a",
        "a=",
        "=5",
        "a=-1",
        "a=+1",
        "a=1.0",
        "a=true",
        "a=1_0",
        "a=007",
        "a=-0",
        "a= 1",
        "a=٣",
        "a=9007199254740992",
        "9a=1",
        "a b=1",
        "a=1 ",
    ],
)
def test_a_limit_that_cannot_be_is_refused(limit: str) -> None:
    with pytest.raises(UsageWrong, match=r"^--limit is .*[^\n]$"):
        _settings(limit)


def test_as_many_limits_as_may_be_given_at_once_are_stored(dynamodb: "DynamoDBClient") -> None:
    names = [f"feature_{number}_{'x' * 50}" for number in range(50)]
    for limit in ("7", "8"):
        wanted = _settings(*(f"{name}={limit}" for name in names), plan="pro")
        shown = organizations.put(dynamodb, "usage", "acme", None, wanted).stored
        assert shown["limits"] == dict.fromkeys(names, int(limit))


def test_more_limits_at_once_are_refused() -> None:
    with pytest.raises(UsageWrong, match=r"^--limit is given 51 times: give it at most 50 times\.$"):
        _settings(*(f"feature_{number}=1" for number in range(51)))


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(UsageWrong) as wrong:
        _settings("a=1", "a=2", "b=x", plan="", trial_ends_at="soon")
    starts = [mistake.split(":")[0] for mistake in str(wrong.value).splitlines()]
    assert starts == ["--plan is ''", "--trial-ends-at is 'soon'", "--limit is 'a=2'", "--limit is 'b=x'"]


def test_all_organizations_are_listed_and_nothing_else(dynamodb: "DynamoDBClient") -> None:
    put_counter(dynamodb, "usage", CounterId("acme", "2026-11", "api_calls"))
    for number in (2, 0, 1):
        organizations.put(dynamodb, "usage", f"o{number}", None, _settings(plan="pro"))
    found = organizations.all_of(dynamodb, "usage")
    assert [organization["organizationId"] for organization in found] == ["acme", "demo-org", "o0", "o1", "o2"]
    assert found[0] == organizations.get(dynamodb, "usage", "acme") == {"organizationId": "acme", "status": "active"}
    assert found[2]["planId"] == "pro"


def test_a_listed_organization_is_shown_as_it_is_stored_now(dynamodb: "DynamoDBClient") -> None:
    def change_meanwhile(**_call: Any) -> None:
        dynamodb.delete_item(TableName="usage", Key=organization_key("acme"))
        put_organization(dynamodb, "usage", "demo-org", "inactive")

    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb.BatchGetItem", change_meanwhile)
    found = organizations.all_of(dynamodb, "usage")
    assert found == [{"organizationId": "demo-org", "status": "inactive"}]


def test_the_table_knows_whether_a_plan_exists(dynamodb: "DynamoDBClient") -> None:
    dynamodb.put_item(TableName="usage", Item=plan_item(Plan("pro", "Pro")))
    assert organizations.has_plan(dynamodb, "usage", "pro")
    assert not organizations.has_plan(dynamodb, "usage", "free")


def test_an_organization_that_is_deleted_during_put_is_created_again(dynamodb: "DynamoDBClient") -> None:
    organizations.put(dynamodb, "usage", "acme", None, _settings("a=1", plan="free"))
    deleted: list[bool] = []

    def delete_meanwhile(**_call: Any) -> None:
        if not deleted:
            deleted.append(True)
            dynamodb.delete_item(TableName="usage", Key=organization_key("acme"))

    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb.UpdateItem", delete_meanwhile)
    shown = organizations.put(dynamodb, "usage", "acme", None, _settings("b=2")).stored
    assert shown == {"organizationId": "acme", "status": "active", "limits": {"b": 2}}


def test_only_the_put_that_creates_an_organization_reports_it(dynamodb: "DynamoDBClient") -> None:
    assert organizations.put(dynamodb, "usage", "new-org").created
    assert not organizations.put(dynamodb, "usage", "new-org").created
    made: list[bool] = []

    def create_meanwhile(**_call: Any) -> None:
        if not made:
            made.append(True)
            dynamodb.put_item(TableName="usage", Item=organization_key("raced"))

    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb.UpdateItem", create_meanwhile)
    assert organizations.put(dynamodb, "usage", "raced") == organizations.Put(
        before={}, stored={"organizationId": "raced", "status": "active"}
    )


def test_the_changed_settings_are_listed_by_the_names_of_their_options(dynamodb: "DynamoDBClient") -> None:
    first = _settings("a=1", "b=2", plan="free", plan_name="Free", cancel_at_period_end=False)
    organizations.put(dynamodb, "usage", "acme", None, first)

    second = _settings("a=plan", "b=2", "c=unlimited", plan="trial", cancel_at_period_end=True)
    assert organizations.put(dynamodb, "usage", "acme", "inactive", second).changes() == [
        "status: active -> inactive",
        "plan: free -> trial",
        "plan-name: Free -> none",
        "cancel-at-period-end: false -> true",
        "limit a: 1 -> plan",
        "limit c: plan -> unlimited",
    ]
    assert organizations.put(dynamodb, "usage", "acme", "inactive", second).changes() == []


@pytest.mark.parametrize("was_there", [False, True])
def test_if_exists_never_creates_an_organization(dynamodb: "DynamoDBClient", was_there: bool) -> None:
    if was_there:
        organizations.put(dynamodb, "usage", "gone")

    def delete_meanwhile(**_call: Any) -> None:
        dynamodb.delete_item(TableName="usage", Key=organization_key("gone"))

    events: Any = dynamodb.meta.events
    events.register("before-call.dynamodb.UpdateItem", delete_meanwhile)
    with pytest.raises(OrganizationUnknown, match=r"there is no organization gone: nothing was written\. Omit --if-"):
        organizations.put(dynamodb, "usage", "gone", "inactive", _settings("a=1", plan="pro"), if_exists=True)
    assert "Item" not in dynamodb.get_item(TableName="usage", Key=organization_key("gone"), ConsistentRead=True)


def test_if_exists_changes_an_existing_organization(dynamodb: "DynamoDBClient") -> None:
    done = organizations.put(dynamodb, "usage", "acme", "inactive", if_exists=True)
    assert (done.created, done.stored["status"]) == (False, "inactive")
