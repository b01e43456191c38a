"""A mutation: one way to break the code, and the promise that breaks with it.

It changes the code's behaviour as its name says. The code can still be imported; otherwise every test would fail and
prove nothing.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Template
from textwrap import dedent
from typing import Any

from tests.mutations.places import PLACES

# Calls in the code nest no deeper than this.
_ARGUMENTS = r"(\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))"
_NAMES = {key: re.split(r"[:.]", place)[-1] for key, place in PLACES.items()}


class NoLongerApplies(Exception):
    """The code that a mutation changes has itself changed; the message says where."""


@dataclass(frozen=True)
class Edit:
    """Within the definition at `place`, replace the only `before` by `after`.

        Edit("record_usage", "$until_free(...)")                          removes the call
        Edit("read_total", "$Total(total, read_at,", "$Total(total, 0,")  changes an argument
        Edit("finish", "each.close(...)", "retry(...)")                   calls something else with the same arguments

    `$key` is the name of the definition at that place, with its module or object. `(...)` is a call's arguments. A
    space or a line break in `before` matches any white space. Further lines of `after` get the indentation of the line
    in which it starts.
    """

    place: str
    """A key of PLACES."""
    before: str
    after: str = ""
    imports: str = ""
    """The modules that `after` needs, as `import` takes them."""

    def places(self) -> set[str]:
        return {self.place, *Template(f"{self.before} {self.after}").get_identifiers()}


class Mutation:
    """Edits that together break a promise, which `breaks` states.

    A mutation about `money` would lose usage, count it twice, exceed a limit or show a wrong total. The simulation must
    notice it, too.
    """

    def __init__(self, name: str, breaks: str, *edits: Edit, money: bool = False) -> None:
        self.name, self.breaks, self.edits, self.money = name, breaks, edits, money


def mutated(mutation: Mutation, checkout: Path) -> Mapping[Path, str]:
    """The files of `checkout` that the mutation changes, with their new text.

    Raises:
        NoLongerApplies: a place does not exist or does not hold `before` exactly once, or the new text is not Python
            or does the same as before.
    """
    texts: dict[Path, str] = {}
    try:
        for edit in mutation.edits:
            _apply(edit, checkout, texts)
        same = [path.name for path, text in texts.items() if _code(text) == _code(path.read_text("utf-8"))]
    except SyntaxError as error:
        raise NoLongerApplies(f"{mutation.name}: the new text is not Python ({error})") from error
    except NoLongerApplies as reason:
        raise NoLongerApplies(f"{mutation.name}: {reason}") from reason
    if same:
        raise NoLongerApplies(f"{mutation.name}: the edits leave the code of {same[0]} unchanged")
    return texts


def file_of(key: str, checkout: Path) -> Path:
    """The module that holds a place. `metering` is under `functions`, every other package at the top.

    Raises:
        NoLongerApplies: it does not exist.
    """
    module = Path(*PLACES[key].partition(":")[0].split(".")).with_suffix(".py")
    for path in (checkout / "functions" / module, checkout / module):
        if path.is_file():
            return path
    raise NoLongerApplies(f"the place {key!r} does not exist: there is no {module}")


def span(key: str, text: str) -> tuple[int, int]:
    """Where the definition begins and ends in `text`, its module's source.

    Raises:
        NoLongerApplies: it does not exist.
    """
    found: Any = _tree(text)
    for name in PLACES[key].partition(":")[2].split("."):
        inside = [node for node in getattr(found, "body", []) if name in _defined(node)]
        if not inside:
            raise NoLongerApplies(f"the place {key!r} does not exist: {PLACES[key]}")
        found = inside[0]
    lines = text.splitlines(keepends=True)
    first = min(node.lineno for node in (found, *getattr(found, "decorator_list", [])))
    return len("".join(lines[: first - 1])), len("".join(lines[: found.end_lineno]))


def _apply(edit: Edit, checkout: Path, texts: dict[Path, str]) -> None:
    """Edit the place's file in `texts`. The first edit of a file adds it there."""
    if unknown := edit.places() - PLACES.keys():
        raise NoLongerApplies(f"PLACES lacks {', '.join(sorted(unknown))}")
    path = file_of(edit.place, checkout)
    texts[path] = _edited(texts.get(path) or path.read_text("utf-8"), edit)


def _code(text: str) -> str:
    return ast.dump(_tree(text))


# Parsing takes most of the time, and many mutations change the same few files.
@lru_cache(maxsize=64)
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


def _defined(node: ast.stmt) -> Iterator[str]:
    """The names that a statement of a module or a class defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _edited(text: str, edit: Edit) -> str:
    before, after = (dedent(part).strip() for part in (edit.before, edit.after))
    found = list(_pattern(before).finditer(text, *span(edit.place, text)))
    if len(found) != 1:
        raise NoLongerApplies(f"{before!r} occurs {len(found)} times in {PLACES[edit.place]}")
    start, end = found[0].span()
    line = text[text.rfind("\n", 0, start) + 1 :]
    indent = line[: len(line) - len(line.lstrip(" "))]
    new = Template(after.replace("\n", "\n" + indent)).substitute(_NAMES | found[0].groupdict())
    named = found[0].re.groupindex.values()
    for number, arguments in enumerate(found[0].groups(), start=1):
        if number not in named:
            new = new.replace("(...)", arguments, 1)
    return _importing(edit.imports, text[:start] + new + text[end:])


def _pattern(before: str) -> re.Pattern[str]:
    """The pattern of `before`: a group named `key` for each `$key`, and a group without a name for each `(...)`."""
    pattern = ""
    for part in re.split(r"(\(\.\.\.\)|\s+|\$\$|\$\w+)", before):
        if part == "(...)":
            pattern += _ARGUMENTS
        elif part.isspace():
            pattern += r"\s+"
        elif re.fullmatch(r"\$\w+", part):
            key = part[1:]
            name = rf"\b(?:\w+\.)*{_NAMES[key]}\b"
            pattern += name if f"<{key}>" in pattern else f"(?P<{key}>{name})"
        else:
            pattern += re.escape(part.replace("$$", "$"))
    return re.compile(pattern)


def _importing(module: str, text: str) -> str:
    """`text` with an import of `module` before all others, right after the docstring."""
    if not module:
        return text
    body = _tree(text).body
    lines = text.splitlines(keepends=True)
    lines.insert(body[1].lineno - 1, f"import {module}\n")
    return "".join(lines)
