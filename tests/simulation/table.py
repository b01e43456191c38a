"""DynamoDB's actions on items as pure functions, without time, faults or state.

    validate(operation, parameters)     rejects requests that DynamoDB rejects for any items, and those not modelled
    written(kind, parameters, item)     the item after one write action
    selected(parameters, keys, read)    the answer to a query, read item by item

`written` and `selected` rely on `validate`: call it first, once for each request. Items are never changed in place.
Source: DynamoDB API reference.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from tests.simulation.expressions import (
    Invalid,
    Item,
    KeyCondition,
    NotModelled,
    check_condition,
    condition,
    key_condition,
    projected,
    projection,
    update,
)
from tests.simulation.updates import check_update, updated

Key: TypeAlias = tuple[str, str]
"""pk, sk."""
Kind: TypeAlias = Literal["Put", "Update"]
Parameters: TypeAlias = Mapping[str, Any]

INDEX = "organizations-by-plan"
"""The index of all items with a planId, ordered by planId, then pk. Its items hold pk, sk and planId."""
MAX_ACTIONS = 100

# Source: DynamoDB developer guide, Constraints, Partition keys and sort keys.
_MAX_BYTES = {"pk": 2048, "sk": 1024}
_CONDITION = frozenset(
    (
        "ConditionExpression",
        "ExpressionAttributeNames",
        "ExpressionAttributeValues",
        "ReturnValuesOnConditionCheckFailure",
    )
)
_PUT = frozenset(("TableName", "Item"))
_UPDATE = frozenset(("TableName", "Key", "UpdateExpression"))
_GET = frozenset(("TableName", "Key"))
_PROJECTION = frozenset(("ProjectionExpression", "ExpressionAttributeNames"))
# By operation or action: the members that it must have, and further members that it may have.
_MEMBERS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "Put": (_PUT, _CONDITION),
    "Update": (_UPDATE, _CONDITION),
    "Get": (_GET, _PROJECTION),
    "PutItem": (_PUT, _CONDITION),
    "UpdateItem": (_UPDATE, _CONDITION | {"ReturnValues"}),
    "GetItem": (_GET, _PROJECTION | {"ConsistentRead"}),
    "Query": (
        frozenset(("TableName", "KeyConditionExpression", "ExpressionAttributeValues")),
        _PROJECTION | {"ConsistentRead", "ExclusiveStartKey", "FilterExpression", "IndexName", "Limit"},
    ),
    "TransactWriteItems": (frozenset(("TransactItems",)), frozenset()),
    "TransactGetItems": (frozenset(("TransactItems",)), frozenset()),
}
# Numbers in the form in which DynamoDB returns them.
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,37}")


class ConditionFailed(Exception):
    """The condition does not hold; nothing was written."""

    def __init__(self, item: Item | None) -> None:
        super().__init__()
        self.item = item
        """The stored item; None if there is none."""


def key_of(attributes: Mapping[str, Any]) -> Key:
    """The key of an item, or of a request's `Key`."""
    return attributes["pk"]["S"], attributes["sk"]["S"]


def key_item(key: Key) -> Item:
    """The key as attributes."""
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def target_of(kind: Kind, parameters: Parameters) -> Key:
    """The key of the item that a write action names."""
    return key_of(parameters["Item"] if kind == "Put" else parameters["Key"])


def validate(operation: str, parameters: Parameters, known: set[Any] | None = None) -> None:
    """Reject a request that is invalid for any items, or not modelled.

    An action whose form is `known` is not checked again. A transaction's number of actions, and that no two name one
    item, are always checked. Forms that pass are added to `known`.

    Raises:
        NotModelled: no function and no command sends this operation, member, expression or value.
        Invalid: DynamoDB answers ValidationException.
    """
    if operation in ("TransactWriteItems", "TransactGetItems"):
        _check_members(operation, parameters)
        kinds = ("Put", "Update") if operation == "TransactWriteItems" else ("Get",)
        _check_transaction(parameters["TransactItems"], kinds, known)
    elif operation in ("PutItem", "UpdateItem", "GetItem"):
        _check_unknown(operation, parameters, known)
    elif operation == "Query":
        _check_query(parameters)
    else:
        raise NotModelled(f"the operation {operation}")


def written(kind: Kind, parameters: Parameters, item: Item | None) -> Item:
    """The item after one write action, where `item` is the stored one; None: there is none.

    `parameters` are those of a transaction's action, of PutItem or of UpdateItem.

    Raises:
        ConditionFailed
        Invalid: DynamoDB answers ValidationException, in a transaction with the reason ValidationError.
        NotModelled: no function and no command writes an item of this form.
    """
    names, values = parameters.get("ExpressionAttributeNames", {}), parameters.get("ExpressionAttributeValues", {})
    text = parameters.get("ConditionExpression")
    if text is not None and not condition(text).holds(item or {}, names, values):
        raise ConditionFailed(item)
    if kind == "Put":
        new = dict(parameters["Item"])
    else:
        new = updated(update(parameters["UpdateExpression"]), parameters["Key"], item, names, values)
    # An index's partition key is a text that is not empty.
    for name in ("planId", "listedIn"):
        if name in new and not new[name].get("S"):
            raise NotModelled(f"a {name} that cannot be a key of its index")
    return new


def got(parameters: Parameters, item: Item | None) -> dict[str, Any]:
    """The answer of GetItem, or of a Get in TransactGetItems, where `item` is the stored one."""
    if item is None:
        return {}
    return {"Item": _shown(parameters, item)}


def selected(
    parameters: Parameters, keys: Sequence[Key], read: Callable[[Key], Item | None], most: int | None = None
) -> dict[str, Any]:
    """The answer of Query: a page that reads at most `most` items, and at most the request's Limit.

    `keys` are ordered and include all keys of the query's partition; other keys do no harm. For the index, they are the
    keys of all items with a planId. `read` returns the item that is visible now, or None. It is called once for each
    key, in order. `keys` may change between two calls.

    A full page names its last key, even if no item follows.

    Raises:
        Invalid: the page would start outside the query.
    """
    asked, values = key_condition(parameters["KeyConditionExpression"]), parameters["ExpressionAttributeValues"]
    bound = "" if asked.bound is None else values[asked.bound]["S"]
    is_index = asked.partition == "planId"
    names, text = parameters.get("ExpressionAttributeNames", {}), parameters.get("FilterExpression")
    limit = min((each for each in (most, parameters.get("Limit")) if each is not None), default=None)
    found: list[Item] = []
    examined = 0
    answer: dict[str, Any] = {"Items": found}
    start = parameters.get("ExclusiveStartKey")
    for key in _range(asked, values[asked.value]["S"], bound, keys, start):
        item = read(key)
        if item is None or (is_index and item.get("planId") != values[asked.value]):
            continue
        shown = {name: item[name] for name in ("pk", "sk", "planId")} if is_index else item
        examined += 1
        if text is None or condition(text).holds(item, names, values):
            found.append(_shown(parameters, shown))
        if examined == limit:
            answer["LastEvaluatedKey"] = shown if is_index else key_item(key)
            break
    return answer | {"Count": len(found), "ScannedCount": examined}


def _shown(parameters: Parameters, item: Item) -> Item:
    text = parameters.get("ProjectionExpression")
    return item if text is None else projected(projection(text), item, parameters.get("ExpressionAttributeNames", {}))


def _range(asked: KeyCondition, partition: str, bound: str, keys: Sequence[Key], start: Any) -> Iterator[Key]:
    """The keys that the query may find, after `start`. For the index, those of all plans."""
    if asked.partition == "pk":
        first, is_after, end = (partition, bound), False, (partition, bound)
    else:
        # The bound excludes all keys with the same pk: this sort key is greater than all of theirs.
        first, is_after, end = (bound, "\U0010ffff"), False, ("", "")
    if start is not None:
        _check_start(asked, partition, bound, start)
        first, is_after = key_of(start), True
    at = (bisect_right if is_after else bisect_left)(keys, first)
    while at < len(keys):
        key = keys[at]
        if asked.partition == "pk" and not (key[0] == end[0] and key[1].startswith(end[1])):
            return
        yield key
        at = bisect_right(keys, key)


def _check_start(asked: KeyCondition, partition: str, bound: str, start: Any) -> None:
    pk, sk = key_of(start)
    if asked.partition == "pk":
        is_inside = start.keys() == {"pk", "sk"} and pk == partition and sk.startswith(bound)
    else:
        is_inside = start.keys() == {"pk", "sk", "planId"} and start["planId"] == {"S": partition} and pk > bound
    if not is_inside:
        raise Invalid("the starting key is outside the query")


def _check_unknown(kind: str, parameters: Parameters, known: set[Any] | None) -> None:
    if known is None:
        _check_action(kind, parameters)
        return
    form = _form(kind, parameters)
    if form not in known:
        _check_action(kind, parameters)
        known.add(form)


def _form(kind: str, parameters: Parameters) -> tuple[Any, ...]:
    """The form of an action: equal for two actions that differ only in texts and numbers."""
    found: list[Any] = [kind]
    for member, value in parameters.items():
        found.append(member)
        if member in ("Item", "Key", "ExpressionAttributeValues"):
            found += [(name, *attribute) for name, attribute in value.items()]
        elif member == "ExpressionAttributeNames":
            found += value.items()
        elif member != "TableName":
            found.append(value)
    return tuple(found)


def _check_transaction(actions: Sequence[Any], kinds: Sequence[str], known: set[Any] | None) -> None:
    if not 1 <= len(actions) <= MAX_ACTIONS:
        raise Invalid(f"a transaction of {len(actions)} items")
    seen = set()
    for action in actions:
        ((kind, parameters),) = action.items()
        if kind not in kinds:
            raise NotModelled(f"{kind} in a transaction")
        _check_unknown(kind, parameters, known)
        seen.add(key_of(parameters["Item" if kind == "Put" else "Key"]))
    if len(seen) < len(actions):
        raise Invalid("multiple operations on one item")


def _check_action(kind: str, parameters: Parameters) -> None:
    _check_members(kind, parameters)
    if "Item" in parameters:
        _check_key(parameters["Item"])
        for value in parameters["Item"].values():
            _check_value(value)
    else:
        _check_key(parameters["Key"])
        if len(parameters["Key"]) > len(_MAX_BYTES):
            raise Invalid("the key does not match the schema")
    if parameters.get("ReturnValues", "ALL_NEW") != "ALL_NEW":
        raise NotModelled(f"ReturnValues={parameters['ReturnValues']}")
    if parameters.get("ReturnValuesOnConditionCheckFailure", "ALL_OLD") != "ALL_OLD":
        raise NotModelled("ReturnValuesOnConditionCheckFailure without the item")
    uses: frozenset[str] = frozenset()
    names, values = parameters.get("ExpressionAttributeNames", {}), parameters.get("ExpressionAttributeValues", {})
    text = parameters.get("ConditionExpression")
    if text is not None:
        uses = condition(text).uses
    if "UpdateExpression" in parameters:
        uses |= update(parameters["UpdateExpression"]).uses
    if "ProjectionExpression" in parameters:
        uses |= projection(parameters["ProjectionExpression"]).uses
    _check_placeholders(uses, parameters)
    if text is not None:
        check_condition(condition(text), values)
    if "UpdateExpression" in parameters:
        check_update(update(parameters["UpdateExpression"]), names, values)


def _check_query(parameters: Parameters) -> None:
    _check_members("Query", parameters)
    asked = key_condition(parameters["KeyConditionExpression"])
    uses = asked.uses
    if "ProjectionExpression" in parameters:
        uses |= projection(parameters["ProjectionExpression"]).uses
    if "FilterExpression" in parameters:
        uses |= condition(parameters["FilterExpression"]).uses
    if parameters.get("Limit", 1) < 1:
        raise Invalid("Limit is less than 1")
    _check_placeholders(uses, parameters)
    is_index = "IndexName" in parameters
    if is_index and parameters["IndexName"] != INDEX:
        raise NotModelled(f"the index {parameters['IndexName']}")
    if is_index != (asked.partition == "planId"):
        raise Invalid("the query lacks a condition for the partition key")
    if is_index and parameters.get("ConsistentRead"):
        raise Invalid("consistent reads of an index")
    values = parameters["ExpressionAttributeValues"]
    if any("S" not in value for value in values.values()) or not values[asked.value]["S"]:
        raise Invalid("a key is not a text, or empty")
    if asked.bound is not None and not values[asked.bound]["S"]:
        raise NotModelled("a key condition with an empty text")


def _check_members(operation: str, parameters: Parameters) -> None:
    must, may = _MEMBERS[operation]
    if not must <= parameters.keys() <= must | may:
        raise NotModelled(f"{operation} with {sorted(parameters)}")


def _check_placeholders(uses: frozenset[str], parameters: Parameters) -> None:
    """Reject a request that lacks a placeholder, or gives one that no expression uses.

    Raises: NotModelled; Invalid
    """
    given = 0
    for member, mark in (("ExpressionAttributeNames", "#"), ("ExpressionAttributeValues", ":")):
        placeholders = parameters.get(member)
        if placeholders is None:
            continue
        given += len(placeholders)
        if not placeholders or not uses.issuperset(placeholders) or any(each[0] != mark for each in placeholders):
            raise Invalid(f"{member} is empty, or holds a placeholder that no expression uses")
    if given != len(uses):
        raise Invalid("an expression uses a placeholder that is not given")
    for value in parameters.get("ExpressionAttributeValues", {}).values():
        _check_value(value)


def _check_key(attributes: Mapping[str, Any]) -> None:
    for name, most in _MAX_BYTES.items():
        value = attributes.get(name, {}).get("S")
        if not value or len(value) > most or (not value.isascii() and len(value.encode()) > most):
            raise Invalid(f"{name} is missing, not a text, empty or too long")


def _check_value(value: Any) -> None:
    """Reject a value that DynamoDB rejects, or that the model would not store as DynamoDB does.

    Raises: NotModelled; Invalid
    """
    ((kind, content),) = value.items()
    if kind == "S":
        is_known = isinstance(content, str)
    elif kind == "N":
        is_known = _WHOLE_NUMBER.fullmatch(content) is not None
    elif kind in ("BOOL", "NULL"):
        is_known = content is True or (content is False and kind == "BOOL")
    elif kind == "SS":
        if not content or len(set(content)) < len(content):
            raise Invalid("a set is empty or has duplicates")
        is_known = True
    elif kind in ("M", "L"):
        for inner in content.values() if kind == "M" else content:
            _check_value(inner)
        is_known = True
    else:
        is_known = False
    if not is_known:
        raise NotModelled(f"the value {value!r}")
