"""Expressions as DynamoDB reads them, limited to those that functions and commands send.

    condition      a comparison, `attribute_exists`, `attribute_not_exists`, AND, OR, parentheses
    update         SET a = :v, SET a = if_not_exists(b, :v), REMOVE a, ADD a :v, DELETE a :v
    projection     a, b, c
    key condition  pk = :pk, pk = :pk AND begins_with(sk, :x), planId = :plan AND pk > :after

Each text is parsed once and cached. A path such as `#a.#b` leads into maps.
Source: DynamoDB developer guide, "Expressions".
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeAlias

Item: TypeAlias = dict[str, Any]
Names: TypeAlias = Mapping[str, str]
"""By placeholder, as in ExpressionAttributeNames."""
Values: TypeAlias = Mapping[str, Any]
"""By placeholder, as in ExpressionAttributeValues."""
Path: TypeAlias = tuple[str, ...]
"""Names or their placeholders, from the item's own attribute inwards."""
Test: TypeAlias = Callable[[Item, Names, Values], bool]

# Attributes that expressions name without a placeholder. Any other name may be one of DynamoDB's reserved words.
UNRESERVED = frozenset(
    (
        "pk",
        "sk",
        "billingPeriod",
        "cancelAtPeriodEnd",
        "changed",
        "currentPeriodEnd",
        "currentPeriodStart",
        "expiresAt",
        "feature",
        "listedIn",
        "organizationId",
        "planId",
        "planName",
        "subscriptionId",
        "subscriptionStatus",
        "trialEndsAt",
        *(f"d{day:02}" for day in range(1, 32)),
    )
)
# Source: DynamoDB developer guide, Constraints, Expression parameters.
_MAX_BYTES = 4096
_TOKEN = re.compile(r"\s*([#:][A-Za-z0-9_]+|[A-Za-z][A-Za-z0-9_]*|<=|>=|[=<>(),.])")
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


class NotModelled(Exception):
    """No function and no command sends this, so the model does not define DynamoDB's answer."""


class Invalid(Exception):
    """DynamoDB rejects it with ValidationException, or with the cancellation reason ValidationError."""


class Condition(NamedTuple):
    """A condition expression."""

    holds: Test
    """Whether it holds for an item's attributes; {} for an item that does not exist."""
    uses: frozenset[str]
    """The placeholders in it."""
    ordered: frozenset[str]
    """The placeholders of values in comparisons by order."""


class Assignment(NamedTuple):
    """One SET action."""

    target: Path
    unless: Path | None
    """The attribute in `if_not_exists`; if it exists, its value is assigned."""
    value: str


class Update(NamedTuple):
    """An update expression."""

    sets: tuple[Assignment, ...]
    removes: tuple[Path, ...]
    adds: tuple[tuple[Path, str], ...]
    deletes: tuple[tuple[Path, str], ...]
    uses: frozenset[str]
    """The placeholders in it."""


class Projection(NamedTuple):
    """A projection expression."""

    attributes: tuple[str, ...]
    """Names or their placeholders."""
    uses: frozenset[str]


class KeyCondition(NamedTuple):
    """A key condition expression."""

    partition: str
    """The partition key's name."""
    value: str
    """The placeholder of the partition key's value."""
    sort: str | None
    """The sort key's name, if it has a condition."""
    operator: str | None
    """`begins_with` or `>`."""
    bound: str | None
    """The placeholder of the sort key's prefix or lower bound."""
    uses: frozenset[str]


@cache
def condition(text: str) -> Condition:
    """Read a condition expression.

    Raises:
        NotModelled
        Invalid: it is longer than 4 KB.
    """
    reader = _Reader(text)
    holds, _ = reader.any_of()
    reader.end()
    return Condition(holds, frozenset(reader.uses), frozenset(reader.ordered))


@cache
def update(text: str) -> Update:
    """Read an update expression.

    Raises:
        NotModelled
        Invalid: it is longer than 4 KB.
    """
    reader = _Reader(text)
    clauses: dict[str, list[Any]] = {}
    while (clause := reader.take()) not in clauses and clause in ("SET", "REMOVE", "ADD", "DELETE"):
        clauses[clause] = [reader.action(clause)]
        while reader.has(","):
            clauses[clause].append(reader.action(clause))
        if reader.next is None:
            break
    else:
        reader.refuse()
    sets, removes, adds, deletes = (tuple(clauses.get(each, ())) for each in ("SET", "REMOVE", "ADD", "DELETE"))
    return Update(sets, removes, adds, deletes, frozenset(reader.uses))


@cache
def projection(text: str) -> Projection:
    """Read a projection expression. It names only the item's own attributes, no paths into maps.

    Raises:
        NotModelled
        Invalid: it is longer than 4 KB.
    """
    reader = _Reader(text)
    attributes = [reader.name()]
    while reader.has(","):
        attributes.append(reader.name())
    reader.end()
    return Projection(tuple(attributes), frozenset(reader.uses))


@cache
def key_condition(text: str) -> KeyCondition:
    """Read a key condition expression.

    Raises:
        NotModelled
        Invalid: it is longer than 4 KB.
    """
    reader = _Reader(text)
    partition, _, value = reader.name(), reader.take("="), reader.value()
    sort, operator, bound = None, None, None
    if reader.has("AND"):
        if reader.has("begins_with"):
            operator, _, sort, _, bound = (
                "begins_with",
                reader.take("("),
                reader.name(),
                reader.take(","),
                reader.value(),
            )
            reader.take(")")
        else:
            sort, operator, bound = reader.name(), reader.take(">"), reader.value()
    reader.end()
    if (partition, sort) not in (("pk", None), ("pk", "sk"), ("planId", None), ("planId", "pk")):
        reader.refuse()
    return KeyCondition(partition, value, sort, operator, bound, frozenset(reader.uses))


def check_condition(read: Condition, values: Values) -> None:
    """Reject a condition that compares by order with a value other than a number or a text.

    Raises: Invalid
    """
    for placeholder in read.ordered:
        if values[placeholder].keys().isdisjoint(("N", "S")):
            raise Invalid(f"{placeholder} has no order")


def projected(read: Projection, item: Item, names: Names) -> Item:
    """The item's attributes that the projection names."""
    shown = {}
    for part in read.attributes:
        name = names[part] if part[0] == "#" else part
        if name in item:
            shown[name] = item[name]
    return shown


def is_equal(one: Any, other: Any) -> bool:
    """Whether two attributes are equal, in any order of sets and maps."""
    if one == other:
        return True
    if one.keys() != other.keys():
        return False
    ((kind, left),), right = one.items(), other[next(iter(one))]
    if kind == "SS":
        return set(left) == set(right)
    if kind == "M":
        return left.keys() == right.keys() and all(is_equal(left[name], right[name]) for name in left)
    if kind == "L":
        return len(left) == len(right) and all(map(is_equal, left, right))
    return False


def found(item: Item, path: Path, names: Names) -> Any:
    """The attribute at the path; None if there is none."""
    members: Any = item
    value: Any = None
    for part in path:
        value = None if members is None else members.get(names[part] if part[0] == "#" else part)
        if value is None:
            return None
        members = value.get("M")
    return value


def _exists(path: Path, *, wanted: bool) -> Test:
    return lambda item, names, _: (found(item, path, names) is not None) is wanted


def _equals(path: Path, placeholder: str) -> Test:
    def holds(item: Item, names: Names, values: Values) -> bool:
        stored = found(item, path, names)
        return stored is not None and is_equal(stored, values[placeholder])

    return holds


def _compares(path: Path, operator: str, placeholder: str) -> Test:
    compare = _COMPARISONS[operator]

    def holds(item: Item, names: Names, values: Values) -> bool:
        stored, value = found(item, path, names), values[placeholder]
        if stored is None:
            return False
        if "N" in stored and "N" in value:
            return compare(int(stored["N"]), int(value["N"]))
        # DynamoDB compares UTF-8 bytes, which have the same order as code points.
        return "S" in stored and "S" in value and compare(stored["S"], value["S"])

    return holds


def _all(tests: list[Test]) -> Test:
    return lambda item, names, values: all(test(item, names, values) for test in tests)


def _any(tests: list[Test]) -> Test:
    return lambda item, names, values: any(test(item, names, values) for test in tests)


class _Reader:
    """Parses one expression's text from its start to its end."""

    def __init__(self, text: str) -> None:
        if len(text.encode()) > _MAX_BYTES:
            raise Invalid("the expression is longer than 4 KB")
        self._text = text
        self._tokens = _TOKEN.findall(text)
        self._at = 0
        self.uses: set[str] = set()
        self.ordered: set[str] = set()
        if _TOKEN.sub("", text).strip():
            self.refuse()

    @property
    def next(self) -> str | None:
        """The next token; None at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def refuse(self) -> None:
        raise NotModelled(f"the expression {self._text!r}")

    def has(self, token: str) -> bool:
        """Read the next token if it is this one.

        Returns: whether it was.
        """
        if self.next != token:
            return False
        self._at += 1
        return True

    def take(self, wanted: str | None = None) -> str:
        """Read the next token, which must be `wanted` if that is given."""
        token = self.next
        if token is None or wanted not in (None, token):
            raise NotModelled(f"the expression {self._text!r}")
        self._at += 1
        return token

    def end(self) -> None:
        if self.next is not None:
            self.refuse()

    def value(self) -> str:
        token = self.take()
        if token[0] != ":":
            self.refuse()
        self.uses.add(token)
        return token

    def name(self) -> str:
        token = self.take()
        if token[0] == "#":
            self.uses.add(token)
        elif token not in UNRESERVED:
            self.refuse()
        return token

    def path(self) -> Path:
        parts = [self.name()]
        while self.has("."):
            parts.append(self.name())
        return tuple(parts)

    def any_of(self) -> tuple[Test, bool]:
        """Read conditions joined by OR.

        Returns: their test, and whether they are a single condition in parentheses.
        """
        test, is_enclosed = self._all_of()
        tests = [test]
        while self.has("OR"):
            tests.append(self._all_of()[0])
        return (_any(tests), False) if len(tests) > 1 else (test, is_enclosed)

    def _all_of(self) -> tuple[Test, bool]:
        test, is_enclosed = self._one()
        tests = [test]
        while self.has("AND"):
            tests.append(self._one()[0])
        return (_all(tests), False) if len(tests) > 1 else (test, is_enclosed)

    def _one(self) -> tuple[Test, bool]:
        if self.has("("):
            test, is_enclosed = self.any_of()
            self.take(")")
            if is_enclosed:
                # DynamoDB rejects these: "the expression has redundant parentheses".
                self.refuse()
            return test, True
        for function, wanted in (("attribute_exists", True), ("attribute_not_exists", False)):
            if self.has(function):
                self.take("(")
                test = _exists(self.path(), wanted=wanted)
                self.take(")")
                return test, False
        path, operator, value = self.path(), self.take(), self.value()
        if operator == "=":
            return _equals(path, value), False
        if operator not in _COMPARISONS:
            self.refuse()
        self.ordered.add(value)
        return _compares(path, operator, value), False

    def action(self, clause: str) -> Any:
        """Read one action of an update's clause."""
        if clause == "REMOVE":
            return self.path()
        if clause == "SET":
            return self._assignment()
        name = self.name()
        return (name,), self.value()

    def _assignment(self) -> Assignment:
        target, _ = self.path(), self.take("=")
        if not self.has("if_not_exists"):
            return Assignment(target, None, self.value())
        self.take("(")
        unless, _, value = self.path(), self.take(","), self.value()
        self.take(")")
        return Assignment(target, unless, value)
