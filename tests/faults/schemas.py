"""Checks events against their published schemas."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

_FOLDER = Path(__file__).parent.parent.parent / "events"
_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"(?<=: )[1-9][0-9]{0,8}(?=[,}\]])")
_DIGIT = re.compile("[0-9]")
# For numbers of these forms, the size or the number of digits may break a schema.
_STRANGE = re.compile(r": (?:-|[0-9]{10}|[0-9]*\.)")
# The errors for each shape: events with the same shape do not differ in any part that a schema checks.
_verdicts: dict[str, list[str]] = {}


def errors(event: Mapping[str, Any]) -> list[str]:
    """Describe every way in which the event breaks its schema."""
    return [error.message for error in _validator(str(event["detail-type"])).iter_errors(event)]


def errors_by_shape(event: Mapping[str, Any]) -> list[str]:
    """Return the same as `errors`, but check only one of several events with the same shape.

    Events of one shape differ only in ids, in digits inside strings, and in the size of numbers. So this function can
    miss an impossible date, but no wrong member, type or format.
    """
    text = json.dumps(event, sort_keys=True)
    if _STRANGE.search(text):
        return errors(event)
    shape = _DIGIT.sub("0", _NUMBER.sub("n", _ID.sub("id", text)))
    if shape not in _verdicts:
        _verdicts[shape] = errors(event)
    return _verdicts[shape]


@cache
def _validator(kind: str) -> Any:
    schema = json.loads((_FOLDER / f"{kind}.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
