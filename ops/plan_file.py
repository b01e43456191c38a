"""The plan file: read plans from YAML, and report every mistake with its line.

    plans:
      <plan>:
        name: text
        features:
          <feature>: {limit: 1000 | unlimited, unit: text, enforcement: soft | hard, warnAt: [80], upgradeUrl: URL}

`plans.schema.json` in this folder defines the format. Its descriptions appear in the messages about mistakes.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema
import pydantic
import yaml
from metering.model.plans import DEFAULT_WARN_AT, Entitlement, Plan

from ops import number
from ops.errors import PlanFileWrong
from tools.output import one_line

SCHEMA_FILE = Path(__file__).with_name("plans.schema.json")
_UNLIMITED = "unlimited"

_Path: TypeAlias = tuple[str | int, ...]

# Parses as clients do (WHATWG's URL Standard), because no pattern can check hosts and ports.
_URL = pydantic.TypeAdapter(pydantic.HttpUrl)

# PyYAML names the token that it did not expect. The cause is usually one of these.
_YAML_ADVICE = "Check the indentation and the colons."

# The deepest valid level is the fifth, a feature's warnAt. Reading stops below this level.
_DEEPEST = 10

# PyYAML reads YAML 1.1, in which `1:30` is 90 and `on` is true. All YAML parsers agree on these few forms. Everything
# else is text, and text in the place of a number breaks the schema.
_PLAIN: tuple[tuple[re.Pattern[str], Any], ...] = (
    (re.compile(r"~|null|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (number.WHOLE, int),
    (re.compile(r"-?(0|[1-9][0-9]{0,99})\.[0-9]{1,99}([eE][-+][0-9]{1,3})?"), float),
)


def read(path: Path) -> tuple[Plan, ...]:
    """Read the plans of the file, sorted by id.

    Raises:
        PlanFileWrong: the file cannot be read or has mistakes. The message has one line for each mistake, with its
            line in the file.
    """
    try:
        content = path.read_bytes()
    except OSError as failed:
        raise PlanFileWrong(f"cannot read {one_line(str(path))}: {failed.strerror}.") from failed
    document = _Document()
    try:
        value = document.read(_text(content))
    except _Unreadable as unreadable:
        # Text after a YAML syntax error has no meaning. The mistakes before it are reported as well.
        document.mistake(unreadable.line, unreadable.sentence)
    else:
        document.check(value)
    if document.mistakes:
        name = one_line(str(path))
        raise PlanFileWrong("\n".join(f"{name}:{line}: {sentence}" for line, sentence in sorted(document.mistakes)))
    return tuple(_plan(name, members) for name, members in sorted(value["plans"].items()))


def to_file(plan: Plan) -> dict[str, Any]:
    """The plan in the plan file's format, with its default values written out."""
    return {"name": plan.name, "features": {name: _members(plan.features[name]) for name in sorted(plan.features)}}


def to_text(plans: Iterable[Plan], *, is_ascii: bool = False) -> str:
    """The plan file of these plans, without a final line break. `is_ascii` escapes all other characters."""
    document = {"plans": {plan.id: to_file(plan) for plan in plans}}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=not is_ascii)).rstrip("\n")


def _members(feature: Entitlement) -> dict[str, Any]:
    members = {
        "limit": _UNLIMITED if feature.limit is None else feature.limit,
        "unit": feature.unit,
        "enforcement": "hard" if feature.hard else "soft",
        "warnAt": list(feature.warn_at),
        "upgradeUrl": feature.upgrade_url,
    }
    return {name: value for name, value in members.items() if value is not None}


def _plan(name: str, members: Mapping[str, Any]) -> Plan:
    return Plan(name, members["name"], {feature: _feature(said) for feature, said in members["features"].items()})


def _feature(members: Mapping[str, Any]) -> Entitlement:
    return Entitlement(
        limit=None if members["limit"] == _UNLIMITED else members["limit"],
        unit=members.get("unit"),
        hard=members.get("enforcement") == "hard",
        warn_at=tuple(sorted(members.get("warnAt", DEFAULT_WARN_AT))),
        upgrade_url=members.get("upgradeUrl"),
    )


class _Unreadable(Exception):
    """The rest of the file cannot be read as YAML."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line, self.sentence = line, sentence


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        raise _Unreadable(content.count(b"\n", 0, wrong.start) + 1, "this is not UTF-8.") from wrong


@dataclass
class _Document:
    """A YAML document during parsing: the line of each value, and the mistakes found so far."""

    mistakes: set[tuple[int, str]] = field(default_factory=set)
    lines: dict[_Path, int] = field(default_factory=lambda: {(): 1})
    unread: set[_Path] = field(default_factory=set)
    """Paths with unsupported YAML. These mistakes are reported already, so the schema does not check these paths."""

    def mistake(self, line: int, sentence: str) -> None:
        self.mistakes.add((line, sentence))

    def read(self, text: str) -> Any:
        """Read the document's value.

        Raises: _Unreadable.
        """
        events = _events(text)
        next(events)  # the stream's start
        if isinstance(next(events), yaml.StreamEndEvent):
            raise _Unreadable(1, "the file is empty.")
        value = self._value(next(events), events, ())
        next(events)  # the document's end
        more = next(events)
        if not isinstance(more, yaml.StreamEndEvent):
            raise _Unreadable(
                more.start_mark.line + 1, "a second YAML document begins here: put all plans into the first."
            )
        return value

    def check(self, value: Any) -> None:
        """Add the mistakes of `value` that the schema finds."""
        for error in _validator().iter_errors(value):
            path: _Path = tuple(error.absolute_path)
            if not any(path[:length] in self.unread for length in range(len(path) + 1)):
                self._check(error, path)

    def _check(self, error: Any, path: _Path) -> None:
        must_be = error.schema.get("description")
        if "propertyNames" in error.absolute_schema_path:
            line = self.lines[(*path, error.instance)]
            self.mistake(line, f"{error.instance!r} is not a valid name: it must be {must_be}.")
        elif error.validator == "additionalProperties":
            known = error.schema["properties"]
            for name in error.instance.keys() - known.keys():
                self.mistake(self.lines[(*path, name)], f"{_name((*path, name))} is unknown{_instead(name, known)}")
        elif error.validator == "required":
            for name in set(error.validator_value) - error.instance.keys():
                # jsonschema yields an error for each missing member. Each adds all names, and the set drops duplicates.
                self.mistake(self.lines[path], f"{_name((*path, name))} is missing.")
        else:
            why = "" if error.cause is None else f" ({error.cause})"
            self.mistake(self.lines[path], f"{_name(path)} is {_shown(error.instance)}: it must be {must_be}{why}.")

    def _value(self, event: Any, events: Iterator[Any], path: _Path) -> Any:
        if isinstance(event, yaml.AliasEvent):
            self._not_read(event, path, "YAML aliases (`*`) are not supported: write the value itself.")
            return None
        if event.tag is not None:
            self._not_read(event, path, f"YAML tags ({event.tag}) are not supported: remove the tag.")
        if isinstance(event, yaml.ScalarEvent):
            if any("\ud800" <= character <= "\udfff" for character in event.value):
                self._not_read(event, path, "this text has an unpaired surrogate (U+D800 to U+DFFF).")
            return _plain(event.value) if event.implicit[0] else event.value
        return self._mapping(events, path) if isinstance(event, yaml.MappingStartEvent) else self._list(events, path)

    def _list(self, events: Iterator[Any], path: _Path) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            here = (*path, len(values))
            self.lines[here] = event.start_mark.line + 1
            values.append(self._value(event, events, here))
        return values

    def _mapping(self, events: Iterator[Any], path: _Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            # A name is always the text as written, so a plan can be called 2024 or on.
            name = event.value if isinstance(event, yaml.ScalarEvent) else None
            if name is None:
                self.mistake(line, "a name must be text.")
                if not isinstance(event, yaml.AliasEvent):
                    _skip(events)
            here = (*path, name or "")
            if name in values:
                self.mistake(line, f"{_name(here)} is a duplicate: line {self.lines[here]} has it already.")
            if name is None or name in values:
                # Report the mistakes in a duplicate as well, but keep the lines of the first occurrence.
                lines, self.lines = self.lines, {}
                self._value(next(events), events, here)
                self.lines = lines
                continue
            self.lines[here] = line
            values[name] = self._value(next(events), events, here)
        return values

    def _not_read(self, event: Any, path: _Path, sentence: str) -> None:
        self.unread.add(path)
        self.mistake(event.start_mark.line + 1, sentence)


def _events(text: str) -> Iterator[Any]:
    """Yield the YAML events of `text`.

    Raises: _Unreadable.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                # Stop here, because PyYAML's time grows with the square of the nesting depth.
                mark: Any = event.start_mark
                raise _Unreadable(mark.line + 1, f"this is nested deeper than {_DEEPEST} levels.")
            yield event
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        line = 1 if mark is None else mark.line + 1
        raise _Unreadable(line, f"this is not YAML: {wrong.problem or wrong.context}. {_YAML_ADVICE}") from wrong
    except yaml.reader.ReaderError as wrong:
        line = text.count("\n", 0, wrong.position) + 1
        raise _Unreadable(line, f"YAML does not allow the character U+{ord(text[wrong.position]):04X}.") from wrong


def _skip(events: Iterator[Any]) -> None:
    """Skip the rest of the current list or mapping."""
    depth = 1
    while depth:
        event = next(events)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)


def _plain(text: str) -> Any:
    for pattern, convert in _PLAIN:
        if pattern.fullmatch(text):
            return convert(text)
    return text


def _validator() -> Any:
    checker = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    extend: Any = jsonschema.validators.extend
    keywords = {"pattern": _pattern, "format": _format, "uniqueItems": _unique_items}
    strict = extend(jsonschema.Draft202012Validator, keywords, type_checker=checker)
    return strict(json.loads(SCHEMA_FILE.read_text("utf-8")))


def _is_integer(_checker: Any, value: Any) -> bool:
    # JSON Schema accepts 1.0 as an integer.
    return isinstance(value, int) and not isinstance(value, bool)


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    # Python's `$`, unlike JSON Schema's, also matches before a last line break.
    if isinstance(value, str) and not re.search(pattern.removesuffix("$") + r"\Z", value):
        yield jsonschema.ValidationError("does not match")


def _unique_items(_validator: Any, _wanted: bool, value: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    # jsonschema compares every pair of unordered items. Only numbers matter here: anything else is a mistake already.
    numbers = [one for one in value if isinstance(one, int)] if isinstance(value, list) else []
    if len(set(numbers)) < len(numbers):
        yield jsonschema.ValidationError("has a duplicate")


def _format(validator: Any, name: str, value: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    # Report a URL that breaks its pattern only once. `uri` is the only format in the schema.
    if not isinstance(value, str) or any(True for _ in _pattern(validator, schema["pattern"], value, schema)):
        return
    try:
        _URL.validate_python(value)
    except pydantic.ValidationError as invalid:
        reason = invalid.errors()[0]["ctx"]["error"]
        yield jsonschema.ValidationError(f"is not a {name}", cause=ValueError(reason))


def _name(path: _Path) -> str:
    parts = (str(part) for part in path)
    # Escape line breaks and other characters that are not printable.
    return ".".join(part if part.isprintable() else repr(part) for part in parts) or "the file"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None:
        return "empty"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _instead(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {nearest[0]}?" if nearest else f": expected {', '.join(known)}."
