"""A mutation: one way to break the code, and the promise that breaks with it.

It changes what the code does in the way its name says. It never keeps the code from being imported: then any test would
notice, and none would have been tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CODE = Path("functions") / "metering"


class NoLongerApplies(Exception):
    """The code that a mutation changes is not there any more; the message says which."""


@dataclass(frozen=True)
class Edit:
    """In `file`, put `after` for the only `before`."""

    file: str
    """Of the functions, as `storage/ledger.py`, or with its folder, as `ops/plans.py`."""
    before: str
    after: str


@dataclass(frozen=True)
class Mutation:
    name: str
    breaks: str
    """The promise, as a sentence that the mutated code makes untrue."""
    edits: tuple[Edit, ...]
    money: bool = False
    """Whether usage would be lost, counted twice or beyond a limit, or told wrongly: the simulation notices it, too."""


def mutated(mutation: Mutation, checkout: Path) -> Mapping[Path, str]:
    """The files of `checkout` that the mutation changes, as it leaves them.

    Raises:
        NoLongerApplies: a text to be replaced is not there exactly once, or what comes out is no Python.
    """
    texts: dict[Path, str] = {}
    for edit in mutation.edits:
        path = checkout / (edit.file if edit.file.startswith(("infra/", "ops/")) else _CODE / edit.file)
        if path not in texts and not path.is_file():
            raise NoLongerApplies(f"{mutation.name}: there is no {edit.file}")
        text = texts.get(path) or path.read_text("utf-8")
        if edit.before == edit.after or (found := text.count(edit.before)) != 1:
            times = "is replaced by itself" if edit.before == edit.after else f"occurs {found} times in {edit.file}"
            raise NoLongerApplies(f"{mutation.name}: {edit.before!r} {times}")
        texts[path] = text.replace(edit.before, edit.after)
    for path, text in texts.items():
        try:
            compile(text, str(path), "exec")
        except SyntaxError as error:
            raise NoLongerApplies(f"{mutation.name}: {path.name} is no Python any more: {error}") from error
    return texts
