"""The effect of an update expression on an item."""

from typing import Any

from tests.simulation.expressions import Invalid, Item, Names, NotModelled, Path, Update, Values, found


def check_update(read: Update, names: Names, values: Values) -> None:
    """Reject an update that DynamoDB rejects for every item.

    Raises:
        Invalid: two paths overlap, the update changes the key, or the action does not take a value's type.
    """
    paths = [_named(path, names) for path in _targets(read)]
    written = set(paths)
    if len(written) < len(paths) or any(path[:most] in written for path in paths for most in range(1, len(path))):
        raise Invalid("two document paths overlap")
    if ("pk",) in written or ("sk",) in written:
        raise Invalid("an attribute is part of the key")
    for _, placeholder in read.adds:
        if values[placeholder].keys().isdisjoint(("N", "SS")):
            raise Invalid(f"{placeholder} cannot be added")
    for _, placeholder in read.deletes:
        if "SS" not in values[placeholder]:
            raise Invalid(f"{placeholder} cannot be deleted from a set")


def updated(read: Update, key: Item, item: Item | None, names: Names, values: Values) -> Item:
    """The item with this key after the update; `item` itself is not changed.

    Raises:
        Invalid: an attribute lacks the type that an action needs, or a map on the path is missing.
        NotModelled: the update only removes, and its item or map is missing. Or a map on the path is null. Or a number
            gets more than 38 digits.
    """
    if item is None and not read.sets and not read.adds:
        raise NotModelled("an update that only removes, of an item that does not exist")
    old = key if item is None else item
    new = dict(old)
    for target, unless, placeholder in read.sets:
        stored = None if unless is None else found(old, unless, names)
        _put(new, _named(target, names), values[placeholder] if stored is None else stored)
    for target in read.removes:
        if len(target) > 1 and "M" not in (found(old, target[:-1], names) or {}):
            raise NotModelled("an update that removes a member of a map that does not exist")
        _put(new, _named(target, names), None)
    for target, placeholder in read.adds:
        (name,) = _named(target, names)
        new[name] = _sum(old.get(name), values[placeholder])
    for target, placeholder in read.deletes:
        (name,) = _named(target, names)
        _put(new, (name,), _difference(old.get(name), values[placeholder]))
    return new


def _targets(read: Update) -> list[Path]:
    return [
        *(target for target, _, _ in read.sets),
        *read.removes,
        *(target for target, _ in read.adds),
        *(target for target, _ in read.deletes),
    ]


def _named(path: Path, names: Names) -> Path:
    return tuple([names[part] if part[0] == "#" else part for part in path])


def _put(item: Item, path: Path, value: Any) -> None:
    """Set the value at `path` in `item`; None removes it. Copies the maps on the path, as items share them."""
    members = item
    for name in path[:-1]:
        inner = members.get(name)
        if inner is not None and "NULL" in inner:
            # dynoxide turns the null into a map; no documentation says what DynamoDB does.
            raise NotModelled("an update inside a null")
        if inner is None or "M" not in inner:
            raise Invalid("the document path is invalid for update")
        copied = dict(inner["M"])
        members[name] = {"M": copied}
        members = copied
    if value is None:
        members.pop(path[-1], None)
    else:
        members[path[-1]] = value


def _sum(stored: Any, added: Any) -> Item:
    if stored is None:
        return added  # type: ignore[no-any-return]
    if "N" in stored and "N" in added:
        number = int(stored["N"]) + int(added["N"])
        if abs(number) >= 10**38:
            raise NotModelled("a number of more than 38 digits")
        return {"N": str(number)}
    if "SS" in stored and "SS" in added:
        return {"SS": sorted({*stored["SS"], *added["SS"]})}
    raise Invalid("an operand has an incorrect data type")


def _difference(stored: Any, taken: Any) -> Item | None:
    if stored is None:
        return None
    if "SS" not in stored:
        raise Invalid("an operand has an incorrect data type")
    left = sorted(set(stored["SS"]) - set(taken["SS"]))
    # DynamoDB has no empty sets.
    return {"SS": left} if left else None
