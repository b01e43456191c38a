"""Strict JSON, so that one text has the same meaning for every reader.

Python's own parser keeps the last of two members with the same name, accepts NaN, and rounds 1e999 to infinity. Another
parser could read the same body differently, so all of these are invalid.
"""

import hashlib
import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

from metering.model.errors import BadRequest, InputInvalid, Issue

# Python's own default limit for the conversion of text to int, which takes quadratic time. Valid numbers are far
# shorter.
_MAX_DIGITS = 4300
_NO_OBJECT = "The body must be a JSON object. Send one object, in braces."
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_object(text: str) -> dict[str, Any]:
    """Parse `text` as one JSON object.

    Raises:
        BadRequest: `text` is not JSON, is not an object, or contains a duplicate member, NaN, Infinity (also as 1e999)
            or half of a surrogate pair.
        InputInvalid: the text is well-formed, but nests too deeply, or a number has too many digits.
    """
    try:
        value = _DECODER.decode(text)
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest("not_json", f"The body is not JSON: {error.msg} at {where}.") from None
    except UnicodeEncodeError:
        message = "The body escapes half of a surrogate pair, which UTF-8 cannot encode. Send the whole pair."
        raise BadRequest("not_utf8", message) from None
    except RecursionError:
        if not text.lstrip(" \t\r\n").startswith("{"):
            raise BadRequest("not_an_object", _NO_OBJECT) from None
        raise InputInvalid(
            [Issue("", "nested_too_deep", "The input is nested too deeply. Reduce its nesting.")]
        ) from None
    if not isinstance(value, dict):
        raise BadRequest("not_an_object", _NO_OBJECT)
    return value


def compact(value: Any) -> str:
    """Return `value` as JSON without spaces. Members keep their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def fingerprint(value: dict[str, Any]) -> str:
    """Return a hash of an object's content. The order of members does not change the hash.

    `1.0` and `1` count as equal. A retry can pass through a JSON library with a single kind of number. The hash starts
    with its version, so that hashes of different versions never match by accident.
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
    """Return the number of levels of nested objects and arrays: 0 for a plain value, 1 for `{}`."""
    deepest, level = 0, [value]
    # Not recursive, because the input can have more levels than Python's stack allows.
    while level := [item for item in level if isinstance(item, dict | list)]:
        deepest += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return deepest


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise BadRequest("duplicate_member", f"The body has the member {json.dumps(twice[:64])} twice. Send it once.")
    return members


def _whole_number(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise InputInvalid(
            [Issue("", "number_too_long", f"A number has more than {_MAX_DIGITS} digits. Send a shorter number.")]
        )
    return int(digits)


def _finite_number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise BadRequest("not_finite", "The body has a number that overflows to Infinity. Send a smaller number.")
    return number


def _not_a_number(name: str) -> NoReturn:
    raise BadRequest("not_finite", f"The body has {name}, which is not JSON. Send a finite number.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_members,
    parse_int=_whole_number,
    parse_float=_finite_number,
    parse_constant=_not_a_number,
)
