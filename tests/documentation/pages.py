"""The documentation's pages and their code blocks.

A comment before a block is one of NOTES, or `in: FOLDER`: the folder to run and save the block in.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

from tools.setup import ROOT

# Comments before a block, and why a test does not run the block.
NOTES = {
    "needs an AWS account": "The block is parsed instead.",
    "the stack is running": "The test has started it.",
    "starts the stack": "The test has started none.",
    "tested elsewhere": "A test of the Makefile or a test run itself is the test of this command.",
}
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")))


class Block(NamedTuple):
    """A code block."""

    language: str
    text: str
    note: str
    """The comment before it, without its markers."""
    line: int
    file: str = ""
    """The file that the reader is asked to save it as."""


class Command(NamedTuple):
    """A shell command and the output that the page shows; None: the page shows none."""

    text: str
    output: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of `page`, in their order."""
    note = file = ""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "html_block":
            note = token.content.strip().removeprefix("<!--").removesuffix("-->").strip()
        elif token.type.endswith("_open"):
            note = ""
        elif token.type == "inline":
            saved = re.search(r"Save this as\s`([^`]+)`", token.content)
            file = saved[1] if saved else ""
        elif token.type == "fence":
            yield Block(token.info, token.content, note, (token.map or [0])[0] + 1, file)
            note = file = ""
        elif token.type == "code_block":
            yield Block("", token.content, note, (token.map or [0])[0] + 1)


def commands(block: Block) -> Iterator[Command]:
    """The shell commands of `block`: of a console, those behind `$ `, with the output that follows."""
    if block.language == "sh":
        yield Command(block.text, None)
    elif block.language == "console":
        text, output = "", ""
        for line in block.text.splitlines(keepends=True):
            if line.startswith("$ "):
                if text:
                    yield Command(text, output)
                text, output = line.removeprefix("$ "), ""
            elif _is_complete(text):
                output += line
            else:
                text += line
        yield Command(text, output)


def syntax_error(script: str) -> str:
    """The reason why bash does not accept `script`; empty if it does."""
    parsed = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)  # noqa: S607
    return parsed.stderr


def _is_complete(command: str) -> bool:
    return not command.endswith("\\\n") and not syntax_error(command)
