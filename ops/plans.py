"""Plans in the table: how they differ from a file's, and writing that, plan by plan.

A plan is written by one transaction: its item, if that is still what was read, and with it the plan's id and features
in the item that lists those of all plans. There features are only added; what no plan has any more is taken out
afterwards, unless a plan was written since the plans were read. Whoever writes last looks last, so what one run leaves
because of another, the other takes out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from metering.model.names import ORGANIZATION_PATTERN, PLAN_PATTERN
from metering.model.plans import Plan
from metering.storage.attributes import Item
from metering.storage.counter_items import counter_partition
from metering.storage.organization_items import organization_from_item, organization_key
from metering.storage.plan_items import FEATURES_KEY, known_features, known_plans, plan_from_item, plan_item, plan_key
from metering.storage.signals import MalformedItem

from ops.errors import PlanContended, PlanUnknown, PlanUnreadable, UsageWrong
from ops.plan_file import to_file

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True)
class Member:
    """A member that changes, its values as files have them; None: not there."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Change:
    """A plan as it is to be, and as it was read; None if there was none."""

    plan: Plan
    before: Plan | None

    @property
    def kind(self) -> Literal["created", "changed", "unchanged"]:
        if self.before is None:
            return "created"
        return "unchanged" if self.before == self.plan else "changed"

    def members(self) -> list[Member]:
        """What is other than before. A feature that comes or goes is one member."""
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
    """All plans that were applied, and those of `wanted` that are there, by id.

    Raises: PlanUnreadable.
    """
    return _plans(dynamodb, table, {*known_plans(_get(dynamodb, table, FEATURES_KEY)), *wanted})


def get(dynamodb: "DynamoDBClient", table: str, plan: str) -> Plan:
    """The plan as it is stored.

    Raises:
        PlanUnknown: it is not.
        PlanUnreadable.
        UsageWrong: no plan can have this id.
    """
    if not re.fullmatch(PLAN_PATTERN, plan):
        raise UsageWrong(f"{plan!r} is not a plan's id: 1 to 64 letters, digits, `_`, `.` and `-` are.")
    found = _plans(dynamodb, table, [plan])
    if not found:
        raise PlanUnknown(f"there is no plan {plan}.")
    return found[plan]


def changes(stored: Mapping[str, Plan], plans: Iterable[Plan]) -> list[Change]:
    """What it takes that `plans` are stored. Others stay as they are."""
    return [Change(plan, stored.get(plan.id)) for plan in plans]


def usage_of_removed(
    dynamodb: "DynamoDBClient", table: str, changed: Iterable[Change], billing_period: str
) -> dict[str, dict[str, list[str]]]:
    """Who has used, in this period, what their plan is to lose: organizations by plan and feature.

    Asks nothing if nothing is lost; else it reads the whole table once, as no key leads from a plan to its
    organizations. Usage that is recorded meanwhile may be missed.
    """
    removed = {change.plan.id: change.removed() for change in changed if change.removed()}
    if not removed:
        return {}
    # The counters' own keys, with a name where the organization stands.
    partition = re.compile(counter_partition(f"({ORGANIZATION_PATTERN})", billing_period))
    organizations: dict[str, str] = {}
    used: set[tuple[str, str]] = set()
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table,
        FilterExpression="(begins_with(pk, :organization) AND attribute_exists(#plan)) "
        "OR (attribute_exists(#total) AND contains(pk, :period))",
        ProjectionExpression="pk, sk, #plan",
        ExpressionAttributeNames={"#plan": "planId", "#total": "total"},
        ExpressionAttributeValues={":organization": organization_key("")["pk"], ":period": {"S": f"#{billing_period}"}},
        ConsistentRead=True,
    )
    for item in (item for page in pages for item in page["Items"]):
        counter = partition.fullmatch(str(item["pk"]["S"]))
        if counter:
            used.add((counter[1], str(item["sk"]["S"]).partition("#")[0]))
        elif "planId" in item:
            organization = organization_from_item(item)
            organizations[organization.id] = str(organization.plan)
    found: dict[str, dict[str, list[str]]] = {}
    for name, feature in sorted(used):
        plan = organizations.get(name, "")
        if feature in removed.get(plan, ()):
            found.setdefault(plan, {}).setdefault(feature, []).append(name)
    return found


def write(dynamodb: "DynamoDBClient", table: str, change: Change) -> None:
    """Store the plan of `change` in the place of what was read, whole or not at all.

    Raises:
        PlanContended: something else is stored by now, or is being written; nothing written.
    """
    put: Any = {"TableName": table, "Item": plan_item(change.plan), **_still(change.before)}
    update: Any = {"TableName": table, "Key": FEATURES_KEY, **_listing(change.plan)}
    try:
        dynamodb.transact_write_items(TransactItems=[{"Put": put}, {"Update": update}])
    except dynamodb.exceptions.TransactionCanceledException as cancelled:
        codes = {reason.get("Code") for reason in cancelled.response["CancellationReasons"]}
        if codes & {"ConditionalCheckFailed", "TransactionConflict"}:
            raise PlanContended(
                f"the plan {change.plan.id} was changed by somebody else meanwhile: nothing of it was written."
            ) from cancelled
        raise


def forget_unused_features(dynamodb: "DynamoDBClient", table: str) -> None:
    """Take those features out of the known ones that no plan has any more.

    Until then, or if this never happens, their usage is accepted where that of unknown ones is refused: the next run
    finds them again.
    """
    listed = _get(dynamodb, table, FEATURES_KEY)
    # In this order: whatever plan is written after the first read, its version is another, and nothing is taken out.
    plans = _plans(dynamodb, table, known_plans(listed))
    unused = known_features(listed) - {feature for plan in plans.values() for feature in plan.features}
    # Without a version nobody has applied a plan yet, and what is known is not ours to judge.
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
        # Somebody wrote a plan, and looks after that.
        return


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
            raise PlanUnreadable(f"what is stored as the plan {name} is none: {malformed}.") from malformed
    return found


def _get(dynamodb: "DynamoDBClient", table: str, key: Item) -> Item | None:
    return dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
