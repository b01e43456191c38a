"""JSON as the contract reads it: strict, so that one text has one meaning for every reader.

Python's own reader takes the last of two members of one name, and NaN, and rounds 1e999 to infinity. A retry with
such a body could mean something else to another reader, so each is invalid.
"""

import hashlib
import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

from metering.model.errors import BadRequest, InputInvalid, Issue

# The longest number that Python reads in linear-enough time (its own default limit). Nothing we store is as long.
_MAX_DIGITS = 4300
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that `text` is.

    Raises:
        BadRequest: `text` is not JSON, not an object, holds a member twice, NaN or Infinity (also as 1e999), or half
            of a surrogate pair.
        InputInvalid: well-formed, but nested or with a number so long that it cannot fit the model.
    """
    try:
        value = _DECODER.decode(text)
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest("not_json", f"The body is not JSON: {error.msg} at {where}.") from None
    except UnicodeEncodeError:
        message = "The body escapes half of a surrogate pair, which no UTF-8 text can hold."
        raise BadRequest("not_utf8", message) from None
    except RecursionError:
        if not text.lstrip(" \t\r\n").startswith("{"):
            raise BadRequest("not_an_object", "The body must be a JSON object.") from None
        raise InputInvalid([Issue("", "nested_too_deep", "The input is nested too deep.")]) from None
    if not isinstance(value, dict):
        raise BadRequest("not_an_object", "The body must be a JSON object.")
    return value


def compact(value: Any) -> str:
    """`value` as JSON without spaces, its members in the order they have."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def fingerprint(value: dict[str, Any]) -> str:
    """What two objects share exactly when they have the same members, in whatever order.

    `1.0` and `1` are the same: a retry may have passed through a writer of JSON that knows one kind of number.
    Starts with the version of this form, so that a later form never compares equal by accident.
    """
    canonical = json.dumps(_canonical(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return "1:" + hashlib.sha256(canonical.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def depth(value: Any) -> int:
    """How deep objects and arrays are nested: 0 for a plain value, 1 for `{}`."""
    deepest, level = 0, [value]
    # Level by level and not by recursion: the input may be nested deeper than Python's stack.
    while level := [item for item in level if isinstance(item, dict | list)]:
        deepest += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return deepest


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise BadRequest("duplicate_member", f"The body holds the member {json.dumps(twice[:64])} twice.")
    return members


def _whole_number(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise InputInvalid([Issue("", "number_too_long", f"A number has more than {_MAX_DIGITS} digits.")])
    return int(digits)


def _finite_number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise BadRequest("not_finite", "The body holds a number too large to be told from Infinity.")
    return number


def _not_a_number(name: str) -> NoReturn:
    raise BadRequest("not_finite", f"The body holds {name}, which is not JSON.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_members,
    parse_int=_whole_number,
    parse_float=_finite_number,
    parse_constant=_not_a_number,
)
