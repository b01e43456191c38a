"""Plans in the table: compare them with a file's plans, write the changes plan by plan, and delete plans.

One transaction writes a plan's item. It also adds the plan's id and features to the item that lists all plans and
features. To delete a plan, one transaction deletes its item and removes its id from the list. The condition of both is
that the plan is unchanged since the read. Neither transaction removes features from the list.
Afterwards `forget_unused_features` removes the features that no plan has, unless another run wrote a plan meanwhile.
The last run to write a plan also checks last. So it removes the features that an earlier run had to leave.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from metering.model.names import PLAN_PATTERN
from metering.model.plans import Plan
from metering.storage.attributes import Item
from metering.storage.counter_items import counter_of
from metering.storage.lists import LISTED_IN, LISTS, open_lists
from metering.storage.organization_items import BY_PLAN, ORGANIZATION_PREFIX, organization_key
from metering.storage.plan_items import FEATURES_KEY, known_features, known_plans, plan_from_item, plan_item, plan_key
from metering.storage.signals import MalformedItem

from ops import listed
from ops.errors import PlanContended, PlanInUse, PlanUnknown, PlanUnreadable, UsageWrong
from ops.plan_file import to_file

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Three names show which organizations a message concerns, and keep the message short.
_NAMED = 3


@dataclass(frozen=True)
class Member:
    """A member that changes, with its values in the plan file's format. None means absent."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Change:
    """A plan of the file, and the stored plan before the change (None if there was none)."""

    plan: Plan
    before: Plan | None

    @property
    def kind(self) -> Literal["created", "changed", "unchanged"]:
        if self.before is None:
            return "created"
        return "unchanged" if self.before == self.plan else "changed"

    def members(self) -> list[Member]:
        """The members that differ. An added or removed feature is one member."""
        before = {"name": None, "features": {}} if self.before is None else to_file(self.before)
        after = to_file(self.plan)
        members = [Member("name", before["name"], after["name"])]
        for feature in sorted(before["features"].keys() | after["features"].keys()):
            old, new = before["features"].get(feature), after["features"].get(feature)
            path = f"features.{feature}"
            if old is None or new is None:
                members.append(Member(path, old, new))
            else:
                names = [*new, *(old.keys() - new.keys())]
                members += [Member(f"{path}.{name}", old.get(name), new.get(name)) for name in names]
        return [member for member in members if member.before != member.after]

    def removed(self) -> frozenset[str]:
        """The features that the plan loses."""
        return frozenset(() if self.before is None else self.before.features.keys() - self.plan.features.keys())


def read(dynamodb: "DynamoDBClient", table: str, wanted: Iterable[str] = ()) -> dict[str, Plan]:
    """Read all applied plans, and those of `wanted` that are stored, by id.

    Raises: PlanUnreadable.
    """
    return _plans(dynamodb, table, {*known_plans(_get(dynamodb, table, FEATURES_KEY)), *wanted})


def ids(dynamodb: "DynamoDBClient", table: str) -> list[str]:
    """The ids of all applied plans, sorted."""
    return sorted(known_plans(_get(dynamodb, table, FEATURES_KEY)))


def get(dynamodb: "DynamoDBClient", table: str, plan: str) -> Plan:
    """Read the stored plan.

    Raises:
        PlanUnknown: no plan with this id is stored.
        PlanUnreadable: the stored item is not a valid plan.
        UsageWrong: no plan can have this id.
    """
    if not re.fullmatch(PLAN_PATTERN, plan):
        raise UsageWrong(f"{plan!r} is not a plan id: an id has 1 to 64 letters, digits, `_`, `.` or `-`.")
    found = _plans(dynamodb, table, [plan])
    if not found:
        raise PlanUnknown(f"there is no plan {plan}: `metering plans list` shows all plans.")
    return found[plan]


def changes(stored: Mapping[str, Plan], plans: Iterable[Plan]) -> list[Change]:
    """The changes that store `plans`. Other plans stay unchanged."""
    return [Change(plan, stored.get(plan.id)) for plan in plans]


def usage_of_removed(
    dynamodb: "DynamoDBClient", table: str, changed: Iterable[Change], billing_period: str
) -> dict[str, dict[str, list[str]]]:
    """Find the organizations that used, in this period, a feature which their plan would lose.

    If no plan loses a feature, this reads nothing. The index that names the counters can lack a counter that began a
    moment ago.

    Returns: names of organizations by plan and feature.
    Raises: TableBusy.
    """
    removed = {change.plan.id: change.removed() for change in changed if change.removed()}
    if not removed:
        return {}
    counters = map(counter_of, listed.keys(dynamodb, table, LISTS, LISTED_IN, open_lists(billing_period)))
    lost = frozenset[str]().union(*removed.values())
    used = sorted((each.organization, each.feature) for each in counters if each.feature in lost)
    keys = [organization_key(name) for name in dict.fromkeys(name for name, _ in used)]
    plan_of = _plans_by_organization(listed.items(dynamodb, table, keys))
    found: dict[str, dict[str, list[str]]] = {}
    for name, feature in used:
        plan = plan_of.get(name, "")
        if feature in removed.get(plan, ()):
            found.setdefault(plan, {}).setdefault(feature, []).append(name)
    return found


def write(dynamodb: "DynamoDBClient", table: str, change: Change) -> None:
    """Replace the plan that was read with the plan of `change`, in one transaction.

    Raises:
        PlanContended: another writer changed the plan or is writing it; nothing was written.
    """
    put: Any = {"TableName": table, "Item": plan_item(change.plan), **_still(change.before)}
    update: Any = {"TableName": table, "Key": FEATURES_KEY, **_listing(change.plan)}
    _write_at_once(dynamodb, change.plan, [{"Put": put}, {"Update": update}])


def check_unused(dynamodb: "DynamoDBClient", table: str, plan: Plan) -> None:
    """Check that no organization is on the plan.

    The index that names the organizations can lack one that was put on the plan a moment ago.

    Raises:
        PlanInUse: the message names some of the plan's organizations.
        TableBusy
    """
    named = listed.keys(dynamodb, table, BY_PLAN, "planId", [{"S": plan.id}])
    # The index can also name organizations that have left the plan.
    plan_of = _plans_by_organization(listed.items(dynamodb, table, named))
    on_plan = sorted(name for name, current in plan_of.items() if current == plan.id)
    if on_plan:
        raise PlanInUse(
            f"the plan {plan.id} was not deleted, because organizations are on it: {some_of(on_plan)}. Put them on "
            "another plan first."
        )


def delete(dynamodb: "DynamoDBClient", table: str, plan: Plan) -> None:
    """Delete the plan that was read, in one transaction. `forget_unused_features` then removes its features.

    Raises:
        PlanContended: another writer changed the plan or is writing it; nothing was deleted.
    """
    gone: Any = {"TableName": table, "Key": plan_key(plan.id), **_still(plan)}
    update: Any = {
        "TableName": table,
        "Key": FEATURES_KEY,
        "UpdateExpression": "ADD #version :one DELETE #plans :plan",
        "ExpressionAttributeNames": {"#version": "version", "#plans": "plans"},
        "ExpressionAttributeValues": {":one": {"N": "1"}, ":plan": {"SS": [plan.id]}},
    }
    _write_at_once(dynamodb, plan, [{"Delete": gone}, {"Update": update}])


def some_of(names: Sequence[str]) -> str:
    """The first of these names, and the number of the others."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def forget_unused_features(dynamodb: "DynamoDBClient", table: str) -> None:
    """Remove the features that no plan has from the known features.

    Until then, a deployment environment that does not accept unknown features still accepts these. If this step fails,
    the next run repeats it.
    """
    listed = _get(dynamodb, table, FEATURES_KEY)
    # Read the plans after the list: a plan written since then changes the version, and the removal below fails.
    plans = _plans(dynamodb, table, known_plans(listed))
    unused = known_features(listed) - {feature for plan in plans.values() for feature in plan.features}
    # Without a version, no plan was ever applied, so this command does not own the known features.
    if listed is None or "version" not in listed or not unused:
        return
    try:
        dynamodb.update_item(
            TableName=table,
            Key=FEATURES_KEY,
            UpdateExpression="DELETE #known :unused",
            ConditionExpression="#version = :version",
            ExpressionAttributeNames={"#known": "known", "#version": "version"},
            ExpressionAttributeValues={":unused": {"SS": sorted(unused)}, ":version": listed["version"]},
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        # Another run wrote a plan, and it calls this function after its last write.
        return


def _write_at_once(dynamodb: "DynamoDBClient", plan: Plan, actions: Sequence[Any]) -> None:
    try:
        dynamodb.transact_write_items(TransactItems=actions)
    except dynamodb.exceptions.TransactionCanceledException as cancelled:
        codes = {reason.get("Code") for reason in cancelled.response["CancellationReasons"]}
        if codes & {"ConditionalCheckFailed", "TransactionConflict"}:
            raise PlanContended(
                f"another writer changed the plan {plan.id}: this run did not change it. Run the command again."
            ) from cancelled
        raise


def _plans_by_organization(organizations: Iterable[Item]) -> dict[str, str]:
    """The plans of these items by the organizations' names. An organization without a plan has none here."""
    return {
        item["pk"]["S"].removeprefix(ORGANIZATION_PREFIX): item["planId"]["S"]
        for item in organizations
        if "planId" in item
    }


def _still(before: Plan | None) -> dict[str, Any]:
    if before is None:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    stored = plan_item(before)
    return {
        "ConditionExpression": "#name = :name AND #features = :features",
        "ExpressionAttributeNames": {"#name": "name", "#features": "features"},
        "ExpressionAttributeValues": {":name": stored["name"], ":features": stored["features"]},
    }


def _listing(plan: Plan) -> dict[str, Any]:
    add = {"plans": {"SS": [plan.id]}, "version": {"N": "1"}}
    if plan.features:
        add["known"] = {"SS": sorted(plan.features)}
    return {
        "UpdateExpression": "ADD " + ", ".join(f"#{name} :{name}" for name in add),
        "ExpressionAttributeNames": {f"#{name}": name for name in add},
        "ExpressionAttributeValues": {f":{name}": value for name, value in add.items()},
    }


def _plans(dynamodb: "DynamoDBClient", table: str, names: Iterable[str]) -> dict[str, Plan]:
    found: dict[str, Plan] = {}
    for name in sorted(names):
        item = _get(dynamodb, table, plan_key(name))
        try:
            if item is not None:
                found[name] = plan_from_item(item)
        except MalformedItem as malformed:
            raise PlanUnreadable(f"the stored plan {name} is not a valid plan: {malformed}.") from malformed
    return found


def _get(dynamodb: "DynamoDBClient", table: str, key: Item) -> Item | None:
    return dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
