from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan
from metering.model.usage import CounterId
from metering.storage.organization_items import organization_item, organization_key
from metering.storage.plan_items import FEATURES_KEY, known_features, plan_key

from ops import plans
from ops.errors import PlanContended, PlanInUse, PlanUnknown, PlanUnreadable, UsageWrong
from ops.plans import Change, Member
from tests.testing.contention import answer_with, cancelled
from tests.testing.table import put_counter

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PRO = Plan(
    "pro",
    "Pro",
    {"api_calls": Entitlement(1000, "calls", True, (50, 80), "https://a.example"), "exports": Entitlement(None)},
)
FREE = Plan("free", "Free", {"api_calls": Entitlement(10)})


def _apply(dynamodb: "DynamoDBClient", *wanted: Plan) -> list[str]:
    stored = plans.read(dynamodb, "usage", [plan.id for plan in wanted])
    changes = plans.changes(stored, wanted)
    for change in changes:
        if change.kind != "unchanged":
            plans.write(dynamodb, "usage", change)
    plans.forget_unused_features(dynamodb, "usage")
    return [change.kind for change in changes]


def _listed(dynamodb: "DynamoDBClient") -> Any:
    return dynamodb.get_item(TableName="usage", Key=FEATURES_KEY).get("Item")


def _use(dynamodb: "DynamoDBClient", organization: str, feature: str, period: str = "2026-11", shard: int = 0) -> None:
    put_counter(dynamodb, "usage", CounterId(organization, period, feature), shard)


def _put_on(dynamodb: "DynamoDBClient", organization: str, plan: str | None) -> None:
    dynamodb.put_item(TableName="usage", Item=organization_item(Organization(organization, plan=plan)))


def test_applied_plans_are_stored(dynamodb: "DynamoDBClient") -> None:
    assert _apply(dynamodb, PRO, FREE) == ["created", "created"]

    assert plans.read(dynamodb, "usage") == {"free": FREE, "pro": PRO}
    assert plans.get(dynamodb, "usage", "pro") == PRO
    assert known_features(_listed(dynamodb)) == {"api_calls", "exports"}


def test_applying_again_writes_nothing(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, PRO, FREE)
    before = dynamodb.scan(TableName="usage")["Items"]

    assert _apply(dynamodb, FREE, PRO) == ["unchanged", "unchanged"]

    assert dynamodb.scan(TableName="usage")["Items"] == before


def test_a_plan_is_written_with_the_names_of_its_features_in_one_call(dynamodb: "DynamoDBClient") -> None:
    calls: list[str] = []
    dynamodb.meta.events.register("before-send.dynamodb", lambda event_name, **_: calls.append(event_name))
    plans.write(dynamodb, "usage", Change(PRO, None))
    assert [call.rsplit(".", 1)[1] for call in calls] == ["TransactWriteItems"]


def test_another_order_of_features_is_no_change() -> None:
    turned = replace(PRO, features={name: PRO.features[name] for name in reversed(list(PRO.features))})
    assert Change(turned, PRO).kind == "unchanged"
    assert Change(turned, PRO).members() == []


def test_a_change_names_each_member() -> None:
    changed = Plan(
        "pro", "Professional", {"api_calls": Entitlement(None, "calls"), "a": Entitlement(0), "a.b": Entitlement(1)}
    )
    before = replace(PRO, features={**PRO.features, "a": Entitlement(0)})
    a_b = {"limit": 1, "enforcement": "soft", "warnAt": [80]}
    exports = {"limit": "unlimited", "enforcement": "soft", "warnAt": [80]}
    assert Change(changed, before).kind == "changed"
    assert Change(changed, before).members() == [
        Member("name", "Pro", "Professional"),
        Member("features.a.b", None, a_b),
        Member("features.api_calls.limit", 1000, "unlimited"),
        Member("features.api_calls.enforcement", "hard", "soft"),
        Member("features.api_calls.warnAt", [50, 80], [80]),
        Member("features.api_calls.upgradeUrl", "https://a.example", None),
        Member("features.exports", exports, None),
    ]
    assert Change(changed, before).removed() == {"exports"}
    assert Change(PRO, None).removed() == set()


def test_a_plan_may_have_no_features(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, Plan("empty", "Empty"))
    assert plans.read(dynamodb, "usage") == {"empty": Plan("empty", "Empty")}
    assert known_features(_listed(dynamodb)) == set()


def test_plans_that_are_not_in_the_file_stay(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, PRO, FREE)
    _apply(dynamodb, replace(PRO, name="Professional"))
    assert plans.get(dynamodb, "usage", "free") == FREE


def test_a_feature_that_no_plan_has_any_more_is_not_known_any_more(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, PRO, FREE)
    _apply(dynamodb, replace(PRO, features={"new": Entitlement(1)}))
    assert known_features(_listed(dynamodb)) == {"api_calls", "new"}


def test_a_feature_that_moves_to_another_plan_is_always_known(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, PRO, FREE)
    known: list[bool] = []
    moved = [Change(replace(PRO, features={}), PRO), Change(replace(FREE, features=PRO.features), FREE)]
    for change in moved:
        plans.write(dynamodb, "usage", change)
        known.append("exports" in known_features(_listed(dynamodb)))
    plans.forget_unused_features(dynamodb, "usage")
    assert [*known, "exports" in known_features(_listed(dynamodb))] == [True, True, True]


@pytest.mark.parametrize("before", [None, FREE])
def test_a_concurrent_plan_change_is_not_overwritten(dynamodb: "DynamoDBClient", before: Plan | None) -> None:
    if before is not None:
        _apply(dynamodb, before)
    (change,) = plans.changes(
        plans.read(dynamodb, "usage", ["free"]), [replace(FREE, features={"mine": Entitlement(1)})]
    )
    theirs = replace(FREE, features={"api_calls": Entitlement(10, warn_at=(81,))})
    _apply(dynamodb, theirs)

    with pytest.raises(PlanContended, match="another writer changed the plan free"):
        plans.write(dynamodb, "usage", change)

    assert plans.get(dynamodb, "usage", "free") == theirs
    assert known_features(_listed(dynamodb)) == {"api_calls"}


def test_a_name_that_somebody_else_changed_meanwhile_is_not_overwritten(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, replace(FREE, name="Gratis"))
    with pytest.raises(PlanContended):
        plans.write(dynamodb, "usage", Change(replace(FREE, features={}), FREE))


def test_a_plan_that_is_being_written_is_contended_too(dynamodb: "DynamoDBClient") -> None:
    answer_with(dynamodb, "TransactWriteItems", [cancelled(["None", "TransactionConflict"])])
    with pytest.raises(PlanContended):
        plans.write(dynamodb, "usage", Change(FREE, None))


def test_other_cancellations_are_not_taken_for_contention(dynamodb: "DynamoDBClient") -> None:
    answer_with(dynamodb, "TransactWriteItems", [cancelled(["None", "ThrottlingError"])])
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
        plans.write(dynamodb, "usage", Change(FREE, None))


def test_a_feature_that_a_plan_got_meanwhile_stays_known(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, PRO)
    plans.write(dynamodb, "usage", Change(replace(PRO, features={}), PRO))
    written: list[bool] = []

    def write_meanwhile(**_call: Any) -> None:
        if not written:
            written.append(True)
            plans.write(dynamodb, "usage", Change(replace(FREE, features={"exports": Entitlement(1)}), None))

    # This write comes between the read of all features and the removal of the unused ones.
    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", write_meanwhile)
    plans.forget_unused_features(dynamodb, "usage")
    assert "exports" in known_features(_listed(dynamodb))

    plans.forget_unused_features(dynamodb, "usage")
    assert known_features(_listed(dynamodb)) == {"exports"}


def test_features_that_were_known_before_any_plan_was_applied_stay(dynamodb: "DynamoDBClient") -> None:
    dynamodb.put_item(TableName="usage", Item={**FEATURES_KEY, "known": {"SS": ["foreign"]}})
    plans.forget_unused_features(dynamodb, "usage")
    assert known_features(_listed(dynamodb)) == {"foreign"}


def test_organizations_that_used_a_removed_feature_are_found(dynamodb: "DynamoDBClient") -> None:
    both = Entitlement(1)
    before = [Plan("pro", "Pro", {"a": both, "a.b": both, "kept": both}), Plan("free", "Free", {"a": both})]
    after = [Plan("pro", "Pro", {"kept": both}), before[1]]
    for organization, plan in {"one": "pro", "two": "pro", "idle": "pro", "other": "free", "none": None}.items():
        _put_on(dynamodb, organization, plan)
    for organization, feature in [("one", "a"), ("two", "a"), ("two", "kept"), ("other", "a"), ("none", "a")]:
        _use(dynamodb, organization, feature)
    _use(dynamodb, "one", "a", shard=3)
    _use(dynamodb, "gone", "a")
    _use(dynamodb, "idle", "a", period="2026-10")
    _use(dynamodb, "idle", "another")

    changes = plans.changes({plan.id: plan for plan in before}, after)
    assert plans.usage_of_removed(dynamodb, "usage", changes, "2026-11") == {"pro": {"a": ["one", "two"]}}


def test_the_plan_of_an_organization_is_the_one_it_has_now(dynamodb: "DynamoDBClient") -> None:
    for organization, plan in {"leaves": "free", "joins": "pro", "stays": "free"}.items():
        _put_on(dynamodb, organization, plan)
        _use(dynamodb, organization, "api_calls")

    def move_meanwhile(**_call: Any) -> None:
        _put_on(dynamodb, "leaves", "pro")
        _put_on(dynamodb, "joins", "free")

    dynamodb.meta.events.register("before-call.dynamodb.BatchGetItem", move_meanwhile)
    changes = [Change(replace(FREE, features={}), FREE)]
    found = plans.usage_of_removed(dynamodb, "usage", changes, "2026-11")
    assert found == {"free": {"api_calls": ["joins", "stays"]}}


def test_only_organizations_that_used_a_removed_feature_are_read(dynamodb: "DynamoDBClient") -> None:
    for organization, feature in [("one", "api_calls"), ("one", "seats"), ("other", "seats")]:
        _put_on(dynamodb, organization, "free")
        _use(dynamodb, organization, feature)
    reads = answer_with(dynamodb, "BatchGetItem", [])
    plans.usage_of_removed(dynamodb, "usage", [Change(replace(FREE, features={}), FREE)], "2026-11")
    assert [read["RequestItems"]["usage"]["Keys"] for read in reads] == [[organization_key("one")]]


def test_nothing_is_read_where_nothing_is_lost(dynamodb: "DynamoDBClient") -> None:
    reads = answer_with(dynamodb, "*", [])
    assert plans.usage_of_removed(dynamodb, "usage", [Change(PRO, None), Change(FREE, FREE)], "2026-11") == {}
    assert reads == []


def _delete(dynamodb: "DynamoDBClient", plan: Plan) -> None:
    plans.check_unused(dynamodb, "usage", plan)
    plans.delete(dynamodb, "usage", plan)
    plans.forget_unused_features(dynamodb, "usage")


def test_a_deleted_plan_is_gone_with_its_features(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, PRO, FREE)
    version = int(_listed(dynamodb)["version"]["N"])
    _delete(dynamodb, PRO)
    assert plans.read(dynamodb, "usage", ["pro"]) == {"free": FREE}
    assert known_features(_listed(dynamodb)) == {"api_calls"}
    assert int(_listed(dynamodb)["version"]["N"]) == version + 1


def test_the_last_plan_can_be_deleted_and_applied_again(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, FREE)
    _delete(dynamodb, FREE)
    assert plans.ids(dynamodb, "usage") == []
    assert known_features(_listed(dynamodb)) == set()
    assert _apply(dynamodb, FREE) == ["created"]
    assert plans.ids(dynamodb, "usage") == ["free"]


def test_a_plan_is_deleted_from_the_list_in_the_same_call(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, PRO)
    calls: list[str] = []
    dynamodb.meta.events.register("before-send.dynamodb", lambda event_name, **_: calls.append(event_name))
    plans.delete(dynamodb, "usage", PRO)
    assert [call.rsplit(".", 1)[1] for call in calls] == ["TransactWriteItems"]
    assert plans.ids(dynamodb, "usage") == []


def test_a_plan_with_organizations_is_not_deleted(dynamodb: "DynamoDBClient") -> None:
    for number in range(5):
        _put_on(dynamodb, f"o{number}", "pro")
    _put_on(dynamodb, "other", "free")
    with pytest.raises(PlanInUse, match=r"plan pro was not deleted, .* on it: o0, o1, o2 and 2 more\. Put them on"):
        plans.check_unused(dynamodb, "usage", PRO)


def test_an_organization_that_has_left_the_plan_is_not_on_it(dynamodb: "DynamoDBClient") -> None:
    _put_on(dynamodb, "acme", "pro")
    # The index still names the organization.
    dynamodb.meta.events.register("before-call.dynamodb.BatchGetItem", lambda **_: _put_on(dynamodb, "acme", "free"))
    plans.check_unused(dynamodb, "usage", PRO)


def test_a_plan_that_changed_since_it_was_read_is_not_deleted(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, PRO)
    theirs = replace(PRO, features={"exports": Entitlement(1)})
    _apply(dynamodb, theirs)
    with pytest.raises(PlanContended, match="another writer changed the plan pro: this run did not change it"):
        plans.delete(dynamodb, "usage", PRO)
    assert plans.read(dynamodb, "usage") == {"pro": theirs}


def test_a_plan_that_is_being_written_is_not_deleted(dynamodb: "DynamoDBClient") -> None:
    _apply(dynamodb, PRO)
    answer_with(dynamodb, "TransactWriteItems", [cancelled(["TransactionConflict", "None"])])
    with pytest.raises(PlanContended):
        plans.delete(dynamodb, "usage", PRO)


def test_a_plan_that_is_not_stored_is_unknown(dynamodb: "DynamoDBClient") -> None:
    with pytest.raises(PlanUnknown, match="pro"):
        plans.get(dynamodb, "usage", "pro")
    with pytest.raises(UsageWrong):
        plans.get(dynamodb, "usage", "a b")


def test_a_malformed_plan_is_reported(dynamodb: "DynamoDBClient") -> None:
    dynamodb.put_item(TableName="usage", Item={**plan_key("pro"), "features": {"M": {}}})
    with pytest.raises(PlanUnreadable, match="the stored plan pro is not a valid plan"):
        plans.read(dynamodb, "usage", ["pro"])
