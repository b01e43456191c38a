"""`make lint`: the rules for English that a machine can check, in Markdown, docstrings, comments and messages.

    python -m tools.prose [PATH …]    the files that git tracks: all, or those of these files and folders

A sentence has at most 20 words and one colon. It opens with its subject, not with "who", "what" or "which", and uses
no word of WORDS. Code in backticks or braces does not count.
"""

import argparse
import ast
import io
import json
import re
import subprocess
import sys
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt

from tools import output
from tools.setup import ROOT

MAX_WORDS = 20
OPENINGS = re.compile(r"(?:who|whom|whose|whoever|what|whatever|which|whichever)\b(?!.*\?)", re.IGNORECASE | re.DOTALL)

# The glossary and plain verbs say the same: report, again, always, of it, is, this kind of, exceeds, rejects, accepts.
WORDS = re.compile(
    r"\b(?:told|anew|for ever|thereof|stands|such (?!as\b)\w+|turned away|let in|landed|deeds?)\b", re.IGNORECASE
)

# A sentence ends before a blank, where the next one begins with a capital letter or with code.
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=[\"'(*_]*[A-Z0-9`])")
_CODE = re.compile(r"``.+?``|`[^`]*`|\{[^{}]*\}", re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_DIRECTIVE = re.compile(r"^(?:noqa|type): \S+(?: - )?")
_COMMENT = re.compile(r"(?:^|\s)#+ (.*)")

# A docstring's blocks: paragraphs, list items, and lines of a table, which spaces or a colon align.
_BLOCK = re.compile(r"\n\s*\n|\n(?=\s*[-*] )|\n(?=[ ]*[A-Za-z`][\w`]*: )|\n(?= +)|(?<=\S) {2,}(?=\S)")


class Finding(NamedTuple):
    """A sentence that breaks a rule, in the line where its paragraph begins."""

    path: Path
    line: int
    rule: str
    sentence: str


@output.command("prose")
def main(arguments: Sequence[str] | None = None) -> int:
    """Print every finding.

    Returns: the exit code; 1 if there are findings.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.prose", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, help="files and folders to check (default: all)")
    paths = _files(parser.parse_args(arguments).paths)
    found = [finding for path in paths for finding in findings(path)]
    for finding in found:
        print(f"{finding.path}:{finding.line}: {finding.rule}: {finding.sentence}")
    if found:
        print(f"prose: {len(found)} sentences to rewrite.", file=sys.stderr)
    return 1 if found else 0


def findings(path: Path) -> Iterator[Finding]:
    """The sentences of the file at `path` that break a rule."""
    for line, text in _paragraphs(path):
        for sentence in sentences(text):
            for rule in broken_rules(sentence):
                yield Finding(path, line, rule, sentence)


def sentences(text: str) -> list[str]:
    """The sentences of one paragraph, each in one line, with `x` for code."""
    plain = _LINK.sub(r"\1", _CODE.sub("`x`", text))
    return [sentence for sentence in _SENTENCE_END.split(" ".join(plain.split())) if sentence]


def broken_rules(sentence: str) -> Iterator[str]:
    """The rules that `sentence` breaks, in words."""
    if OPENINGS.match(sentence.lstrip("*_\"'(")):
        yield "opens without a noun as its subject"
    for word in WORDS.findall(sentence):
        yield f"has the word '{word.lower()}'"
    if len(re.findall(r":(?=\s|$)", sentence)) > 1:
        yield "has more than one colon"
    if (words := len(re.findall(r"[\w']*[A-Za-z][\w'.\-]*", sentence))) > MAX_WORDS:
        yield f"has {words} words, more than {MAX_WORDS}"


def _files(given: Sequence[Path]) -> Iterator[Path]:
    """The given files, and the files that git tracks in the given folders.

    If none is given, the files of the whole checkout.
    """
    yield from (path for path in given if path.is_file())
    folders = [str(path) for path in given if not path.is_file()]
    if folders or not given:
        command = ["git", "ls-files", "-z", "--full-name", "--", *(folders or [str(ROOT)])]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        yield from (path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def _paragraphs(path: Path) -> Iterator[tuple[int, str]]:
    match path.suffix or path.name:
        case ".md":
            yield from _of_markdown(path.read_text())
        case ".py":
            # Strings of tests are data: programs, events, and the messages of other modules.
            yield from _of_python(path.read_text(), has_messages="tests" not in path.parts)
        case ".json":
            yield from ((1, text) for text in _descriptions(json.loads(path.read_text())))
        case ".yaml" | ".yml" | ".toml" | ".sh" | "Makefile" | "run" | ".cfnlintrc" | ".gitignore":
            lines = [
                (number, found[1])
                for number, line in enumerate(path.read_text().splitlines(), 1)
                if (found := _COMMENT.search(line))
            ]
            yield from _joined(lines)


def _of_markdown(text: str) -> Iterator[tuple[int, str]]:
    line = 0
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        line = token.map[0] + 1 if token.map else line
        if token.type == "inline":
            yield line, token.content


def _of_python(text: str, *, has_messages: bool) -> Iterator[tuple[int, str]]:
    tree = ast.parse(text)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            docstring := ast.get_docstring(node)
        ):
            docstrings.add(id(node.body[0].value))  # type: ignore[attr-defined]
            yield from ((node.body[0].lineno, block) for block in _BLOCK.split(docstring) if block)
    if has_messages:
        yield from _messages(tree, docstrings)
    own_lines = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comment = (token.start[0], _DIRECTIVE.sub("", token.string.lstrip("# ")))
            if token.line.lstrip().startswith("#"):
                own_lines.append(comment)
            else:
                yield comment
    yield from _joined(own_lines)


def _messages(tree: ast.Module, docstrings: set[int]) -> Iterator[tuple[int, str]]:
    """The strings that are prose: three words in a row, in one paragraph or more."""
    seen = set(docstrings)
    # ast.walk comes to an f-string before it comes to its parts.
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            seen.update(map(id, node.values))
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "`x`" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in seen:
            text = node.value
        else:
            continue
        # Text with tabs is a line of a log or a table.
        if re.search(r"(?:[A-Za-z`']+,? ){2}[A-Za-z`]", text) and "\t" not in text:
            yield from ((node.lineno, block) for block in _BLOCK.split(textwrap.dedent(text)) if block)


def _joined(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Comments on lines that follow each other, as one paragraph."""
    start, before, text = 0, -1, ""
    for number, line in lines:
        if number != before + 1:
            if text:
                yield start, text
            start, text = number, ""
        before, text = number, f"{text} {line}"
    if text:
        yield start, text


def _descriptions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            if name in {"description", "summary", "title", "$comment"} and isinstance(member, str):
                yield from member.split("\n\n")
            else:
                yield from _descriptions(member)
    elif isinstance(value, list):
        for member in value:
            yield from _descriptions(member)


if __name__ == "__main__":
    sys.exit(main())
