"""The tables as JSON Schema, as strict as the contract, with values that fit and values that do not."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

import jsonschema
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.validators import extend

from tests.contract.tables import REQUIRED, Field, Schema

# One value of each JSON type. JSON Schema takes 1.0 for an integer, and the contract does not.
_OF_EACH_TYPE: tuple[Any, ...] = (None, True, 7, 1.0, "text", [], {})

_FORMATS = FormatChecker(())
_STRICT: Any = extend(  # type: ignore[no-untyped-call] # its stubs leave it open
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)


@_FORMATS.checks("date-time", raises=ValueError)
def _is_moment_in_utc(value: Any) -> bool:
    return not isinstance(value, str) or (value.endswith("Z") and datetime.fromisoformat(value).tzinfo is not None)


@_FORMATS.checks("date", raises=ValueError)
def _is_date(value: Any) -> bool:
    return not isinstance(value, str) or date.fromisoformat(value).isoformat() == value


@_FORMATS.checks("uri")
def _is_url(value: Any) -> bool:
    return not isinstance(value, str) or value.startswith("https://")


def schema_of(fields: Iterable[Field]) -> dict[str, Any]:
    """The JSON Schema of an object with these fields and no others."""
    fields = tuple(fields)
    return {
        "type": "object",
        "properties": {each.name: _with_parts(each) for each in fields},
        "required": [each.name for each in fields if each.when in REQUIRED],
        "additionalProperties": False,
    }


def optional_fields(fields: Iterable[Field], within: str = "") -> set[str]:
    """The names of the fields that may be absent, with nested ones as `usage.limit`."""
    found: set[str] = set()
    for each in fields:
        if each.when not in REQUIRED:
            found.add(within + each.name)
        found |= optional_fields(each.parts, f"{within}{each.name}.")
    return found


def check(value: Any, schema: Schema) -> None:
    """Raise ValidationError unless the value fits the schema with strict types and formats."""
    jsonschema.validate(value, schema, cls=_STRICT, format_checker=_FORMATS)


def fits(value: Any, schema: Schema) -> bool:
    fitting: bool = _STRICT(schema, format_checker=_FORMATS).is_valid(value)
    return fitting


def breaking(field: Field) -> Iterator[Any]:
    """Invalid values of the field: of every other type, just beyond each bound, and of another form."""
    yield from (value for value in _OF_EACH_TYPE if not fits(value, {"type": field.schema["type"]}))
    yield from field.never
    schema = field.schema
    if "minimum" in schema:
        yield schema["minimum"] - 1
    if "maximum" in schema:
        yield schema["maximum"] + 1
    if "maxLength" in schema:
        yield "x" * (schema["maxLength"] + 1)
    if "maxItems" in schema:
        yield [{}] * (schema["maxItems"] + 1)
    if "minItems" in schema:
        yield [{}] * (schema["minItems"] - 1)
    if "format" in schema:
        yield "soon"
    if {"pattern", "enum", "const"} & schema.keys():
        yield from (each for each in ("", "no match", "x" * 256) if not fits(each, schema))


def bounds(schema: Schema) -> Iterator[Any]:
    """The smallest and the largest values that fit."""
    if "minimum" in schema:
        yield schema["minimum"]
    if "maximum" in schema:
        yield schema["maximum"]
    if "maxLength" in schema:
        yield from ("", "ü" * schema["maxLength"])


def _with_parts(each: Field) -> dict[str, Any]:
    if not each.parts:
        return dict(each.schema)
    parts = schema_of(each.parts)
    return {**each.schema, "items": parts} if each.schema["type"] == "array" else parts


_WORDS = {"description", "additionalProperties"}


def plain(schema: Any, document: Mapping[str, Any]) -> Any:
    """The schema without descriptions, references and `additionalProperties`: a further member breaks no caller."""
    if isinstance(schema, list):
        return [plain(each, document) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return plain(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "allOf" in schema:
        # The document uses `allOf` only to require more members of one schema.
        (whole,) = schema["allOf"]
        found = plain(whole, document)
        return {**found, "required": sorted({*found["required"], *schema["required"]})}
    found = {name: plain(value, document) for name, value in schema.items() if name not in _WORDS}
    if "required" in found:
        found["required"] = sorted(found["required"])
    return found
