"""Whether events keep their published schemas."""

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
# How large such a number is, and where its digits end, may matter.
_STRANGE = re.compile(r": (?:-|[0-9]{10}|[0-9]*\.)")
# Of events that differ in nothing that a schema looks at: what is wrong with them.
_verdicts: dict[str, list[str]] = {}


def errors(event: Mapping[str, Any]) -> list[str]:
    """Every way in which the event breaks its schema, in words."""
    return [error.message for error in _validator(str(event["detail-type"])).iter_errors(event)]


def errors_by_shape(event: Mapping[str, Any]) -> list[str]:
    """The same, looked for once for all events that are alike but for ids, digits in texts and the size of numbers.

    So a date that is none goes unnoticed beside one that is; a member, a type or a form of text that is wrong does not.
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
