"""Random operations in the grammar that functions and commands use, on items that none of them writes."""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

from tests.simulation.by_functions import FEATURES, KEYS, ORGANIZATIONS, PERIOD, PLANS
from tests.simulation.expressions import NotModelled

# Attributes of conditions and updates; expressions name them by placeholders.
_NAMED = ("total", "count", "hard", "pages", "known", "version", "limits", "changed", "status", "name", "features")
_UNNAMED = ("expiresAt", "changed", "planName", "trialEndsAt", "organizationId")
_INNER = (*FEATURES, "planId")
_ORDERED: tuple[Any, ...] = ({"N": "0"}, {"N": "7"}, {"N": "-12"}, {"N": "1795435200"}, {"S": ""}, {"S": "2026-11"})
_SETS: tuple[Any, ...] = ({"SS": ["api"]}, {"SS": ["storage", "api"]}, {"SS": ["x", "y", "z"]})
_OTHERS: tuple[Any, ...] = (
    {"BOOL": True},
    {"BOOL": False},
    {"NULL": True},
    {"L": [{"N": "80"}, {"S": "a"}]},
    {"M": {}},
    {"M": {"api": {"N": "3"}}},
    {"M": {"api": {"M": {"storage": {"SS": ["b", "a"]}}}, "planId": {"S": "x#y"}}},
)
_COMPARED = ("=", "<", "<=", ">", ">=")


class _Placeholders:
    """The placeholders of one request."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.targets: set[str] = set()

    def name(self, name: str) -> str:
        placeholder = f"#{name.replace('.', '_')}"
        self.names[placeholder] = name
        return placeholder

    def value(self, value: Any) -> str:
        placeholder = f":v{len(self.values)}"
        self.values[placeholder] = value
        return placeholder

    def members(self) -> dict[str, Any]:
        names = {"ExpressionAttributeNames": self.names} if self.names else {}
        return names | ({"ExpressionAttributeValues": self.values} if self.values else {})


class AtRandom:
    """Carries out random operations with `client` on the table of this name."""

    def __init__(self, client: Any, table: str, random: Random) -> None:
        self._client = client
        self._table = table
        self._random = random

    def carry_out(self) -> None:
        """Carry out a random operation, which may fail."""
        operations: tuple[Callable[[], object], ...] = (
            *[self._put] * 3,
            *[self._update] * 4,
            *[self._transact] * 3,
            self._compare,
            self._get,
            self._transact_get,
            self._query,
            self._query,
            self._query_index,
            self._send_invalid,
        )
        with suppress(self._client.exceptions.ClientError, NotModelled):
            self._random.choice(operations)()

    def _key(self) -> dict[str, Any]:
        organization, feature = self._random.choice(ORGANIZATIONS), self._random.choice(FEATURES)
        pk, sk = self._random.choice(
            (
                (f"usage#{organization}#{self._random.choice(('00', '0b'))}", self._random.choice(KEYS)),
                (f"counter#{organization}#{PERIOD}", f"{feature}#{self._random.choice((0, 0, 1, 7))}"),
                (f"counter#{organization}#{PERIOD}", f"{feature}#pages"),
                (f"counter#{organization}#{PERIOD}#{feature}#1", f"{feature}#9"),
                (f"organization#{organization}", "organization"),
                (f"plan#{self._random.choice(PLANS)}", "plan"),
                ("features", "features"),
                (f"notice#{organization}#{PERIOD}", f"{feature}#5#{self._random.choice((80, 100))}"),
            )
        )
        return {"pk": {"S": pk}, "sk": {"S": sk}}

    def _value(self) -> Any:
        return self._random.choice(self._random.choice((_ORDERED, _ORDERED, _SETS, _OTHERS)))

    def _item(self) -> dict[str, Any]:
        names = self._random.sample((*_NAMED, *_UNNAMED), self._random.randrange(6))
        plan = {"planId": {"S": self._random.choice(PLANS)}} if self._random.random() < 0.3 else {}
        return {**self._key(), **{name: self._value() for name in names}, **plan}

    def _path(self, used: _Placeholders, depth: float = 0.25) -> str:
        return self._path_from(self._random.choice((*_NAMED, *_UNNAMED)), used, depth)

    def _target(self, used: _Placeholders, depth: float = 0.25) -> str:
        """A path for an update to change. The update changes no attribute twice."""
        name = self._random.choice([name for name in (*_NAMED, *_UNNAMED) if name not in used.targets])
        used.targets.add(name)
        return self._path_from(name, used, depth)

    def _path_from(self, name: str, used: _Placeholders, depth: float) -> str:
        path = name if name in _UNNAMED else used.name(name)
        while self._random.random() < depth:
            path += f".{used.name(self._random.choice(_INNER))}"
        return path

    def _condition(self, used: _Placeholders, depth: int = 2, *, is_enclosed: bool = False) -> str:
        if depth and self._random.random() < 0.5:
            joined = self._random.choice((" AND ", " OR "))
            parts = [self._condition(used, depth - 1) for _ in range(self._random.choice((2, 2, 3)))]
            text = joined.join(parts)
            # Only a whole condition may lack parentheses: a part is joined to other parts.
            return text if depth == 2 and not is_enclosed and self._random.random() < 0.7 else f"({text})"
        path = "pk" if self._random.random() < 0.5 else self._path(used)
        match self._random.randrange(3):
            case 0:
                return f"attribute_exists({path})"
            case 1:
                return f"attribute_not_exists({path})"
        if path == "pk":
            path = self._path(used)
        operator = self._random.choice(_COMPARED)
        value = self._value() if operator == "=" else self._random.choice(_ORDERED)
        return f"{path} {operator} {used.value(value)}"

    def _conditional(self, used: _Placeholders) -> dict[str, Any]:
        if self._random.random() < 0.3:
            return {}
        members = {"ConditionExpression": self._condition(used)}
        if self._random.random() < 0.7:
            members["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        return members

    def _put_action(self) -> dict[str, Any]:
        used = _Placeholders()
        condition = self._conditional(used)
        return {"TableName": self._table, "Item": self._item(), **condition, **used.members()}

    def _update_action(self) -> dict[str, Any]:
        used = _Placeholders()
        makers = {"SET": self._assignment, "REMOVE": self._target, "ADD": self._addition, "DELETE": self._deletion}
        clauses = []
        for clause in self._random.sample(tuple(makers), self._random.choice((1, 1, 2, 3))):
            actions = [makers[clause](used) for _ in range(self._random.choice((1, 1, 2)))]
            clauses.append(f"{clause} {', '.join(actions)}")
        condition = self._conditional(used)
        update = {"TableName": self._table, "Key": self._key(), "UpdateExpression": " ".join(clauses)}
        return {**update, **condition, **used.members()}

    def _assignment(self, used: _Placeholders) -> str:
        value = used.value(self._value())
        if self._random.random() < 0.3:
            return f"{self._target(used)} = if_not_exists({self._path(used)}, {value})"
        return f"{self._target(used)} = {value}"

    def _addition(self, used: _Placeholders) -> str:
        return f"{self._target(used, 0)} {used.value(self._random.choice((*_ORDERED[:4], *_SETS)))}"

    def _deletion(self, used: _Placeholders) -> str:
        return f"{self._target(used, 0)} {used.value(self._random.choice(_SETS))}"

    def _put(self) -> None:
        self._client.put_item(**self._put_action())

    def _update(self) -> None:
        shown = {"ReturnValues": "ALL_NEW"} if self._random.random() < 0.4 else {}
        self._client.update_item(**self._update_action(), **shown)

    def _compare(self) -> None:
        """Write if an attribute equals a value: the one written before, a similar one or another one."""
        written = self._random.choice((*_SETS, *_OTHERS))
        compared = self._random.choice((written, written, _turned(written), self._value()))
        key = self._key()
        self._client.put_item(TableName=self._table, Item={**key, "known": written})
        self._client.update_item(
            TableName=self._table,
            Key=key,
            UpdateExpression="SET #known = :compared",
            ConditionExpression="#known = :compared",
            ExpressionAttributeNames={"#known": "known"},
            ExpressionAttributeValues={":compared": compared},
        )

    def _transact(self) -> None:
        actions: dict[str, Any] = {}
        for _ in range(self._random.choice((1, 2, 2, 3, 5))):
            if self._random.random() < 0.4:
                put = self._put_action()
                actions[str({name: put["Item"][name] for name in ("pk", "sk")})] = {"Put": put}
            else:
                update = self._update_action()
                actions[str(update["Key"])] = {"Update": update}
        self._client.transact_write_items(TransactItems=list(actions.values()))

    def _get(self) -> None:
        self._client.get_item(TableName=self._table, Key=self._key(), **self._projection())

    def _transact_get(self) -> None:
        keys = {str(key): key for key in (self._key() for _ in range(self._random.choice((1, 2, 3, 10))))}
        gets = [{"Get": {"TableName": self._table, "Key": key, **self._projection()}} for key in keys.values()]
        self._client.transact_get_items(TransactItems=gets)

    def _projection(self) -> dict[str, Any]:
        if self._random.random() < 0.5:
            return {}
        return {
            "ProjectionExpression": "sk, #total, #hard",
            "ExpressionAttributeNames": {"#total": "total", "#hard": "hard"},
        }

    def _query(self) -> None:
        key = self._key()
        condition, values = "pk = :pk", {":pk": key["pk"]}
        if self._random.random() < 0.6:
            condition += " AND begins_with(sk, :x)"
            values[":x"] = {"S": key["sk"]["S"][: self._random.choice((1, 3, 4, 7, 20))]}
        query = {"TableName": self._table, "KeyConditionExpression": condition, "ExpressionAttributeValues": values}
        self._all_pages(query | self._projection())

    def _query_index(self) -> None:
        condition, values = "planId = :plan", {":plan": {"S": self._random.choice(PLANS)}}
        if self._random.random() < 0.6:
            condition += " AND pk > :after"
            values[":after"] = {"S": self._random.choice(("organization#", "organization#acme", "plan#", "zz"))}
        query = {"TableName": self._table, "IndexName": "organizations-by-plan", "KeyConditionExpression": condition}
        self._all_pages(query | {"ExpressionAttributeValues": values})

    def _all_pages(self, query: dict[str, Any]) -> None:
        for _ in self._client.get_paginator("query").paginate(**query):
            pass

    def _send_invalid(self) -> None:
        """Send a request that DynamoDB rejects, whatever is stored.

        dynoxide accepts some of these in a transaction: it reads an action's update only when its condition holds.
        It also accepts a comparison by order of values that have no order.
        """
        key, used = self._key(), _Placeholders()
        action = {"TableName": self._table, "Key": key}
        total = used.name("total")
        wrong: tuple[dict[str, Any], ...] = (
            {"UpdateExpression": f"SET {total} = :gone", "ExpressionAttributeNames": used.names},
            {"UpdateExpression": "SET #gone = :v", "ExpressionAttributeValues": {":v": {"N": "1"}}},
            {"UpdateExpression": f"REMOVE {total}", "ExpressionAttributeNames": {**used.names, "#unused": "x"}},
            _update_of("SET #a = :v, #a = :v", {":v": {"N": "1"}}),
            _update_of("SET #a.#a = :v, #a = :v", {":v": {"N": "1"}}),
            _update_of("SET #a = :v, sk = :v", {":v": {"S": "1"}}),
            _update_of("ADD #a :v", {":v": {"S": "1"}}),
            _update_of("ADD #a :v", {":v": {"SS": []}}),
            _update_of("DELETE #a :v", {":v": {"N": "1"}}),
            _update_of("SET #a = :v", {":v": {"SS": ["x", "x"]}}),
            _update_of("SET #a = :v", {":v": {"N": "1"}, ":unused": {"N": "1"}}),
        )
        update = {**action, **self._random.choice(wrong)}
        match self._random.randrange(4):
            case 0:
                self._client.update_item(**update)
            case 1:
                put = {"TableName": self._table, "Item": {**key, "total": {"N": "1"}}}
                self._client.transact_write_items(TransactItems=[{"Put": put}, {"Put": put}])
            case 2:
                self._client.transact_get_items(TransactItems=[{"Get": action}] * 2)
            case _:
                self._client.put_item(
                    TableName=self._table, Item={**key, "sk": self._random.choice(({"S": ""}, {"N": "1"}))}
                )


def _turned(value: Any) -> Any:
    """The value with its sets and lists reversed. A reversed set is the same value; a reversed list is another one."""
    ((kind, content),) = value.items()
    if kind in ("SS", "L"):
        return {kind: content[::-1]}
    return {"M": {name: _turned(inner) for name, inner in content.items()}} if kind == "M" else value


def _update_of(text: str, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "UpdateExpression": text,
        "ExpressionAttributeNames": {"#a": "total"},
        "ExpressionAttributeValues": values,
    }
