"""Each page's commands work in their order on a fresh local stack, and print what the page shows."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from local import emulator
from local.stack import running
from tests.documentation.pages import PAGES, Block, Command, blocks, commands
from tools import setup
from tools.setup import ROOT

_ELSEWHERE = {"needs an AWS account", "the stack is running", "tested elsewhere"}
_PROGRAMS = {"python": (".py", str(setup.PYTHON)), "ts": (".ts", "node")}


def _is_run(block: Block) -> bool:
    return block.language in {"sh", "console", *_PROGRAMS} and block.note not in _ELSEWHERE


def _pages() -> Iterator[object]:
    for page in PAGES:
        if any(map(_is_run, blocks(page))):
            daily = page.name in {"README.md", "tutorial.md"}
            yield pytest.param(page, id=str(page.relative_to(ROOT)), marks=[] if daily else [pytest.mark.verify])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", list(_pages()))
def test_every_command_of_a_page_works_on_a_fresh_stack(page: Path, tmp_path: Path) -> None:
    checkout = _checkout(tmp_path)
    run = [*filter(_is_run, blocks(page))]
    with ExitStack() as cleanup:
        ports = {"4700": str(emulator.free_port())}
        if "starts the stack" not in {block.note for block in run}:
            build = checkout / "build"
            stack = cleanup.enter_context(running(build, emulator.free_port(), lambda _line: None))
            ports |= {"4566": stack.url.rpartition(":")[2], "4567": stack.issuer.rpartition(":")[2]}
        shell = _Shell(checkout, ports)
        for block in run:
            shell.add(block)
        shell.run()


class _Shell:
    """One bash that runs the blocks of a page, each command's output in a file of its own."""

    def __init__(self, checkout: Path, ports: dict[str, str]) -> None:
        self._checkout = checkout
        self._ports = ports
        self._lines = [
            "set -eo pipefail",
            # The npm of the wheel has no starter that works on its own.
            f'npm() {{ node {setup.node_home()}/lib/node_modules/npm/bin/npm-cli.js "$@"; }}',
            f'npx() {{ node {setup.node_home()}/lib/node_modules/npm/bin/npx-cli.js "$@"; }}',
            # The checkout here is made of links, so its own `make` would install into them. Run what make would run.
            f'make() {{ eval "cd {ROOT}; $(command make -C {ROOT} --no-print-directory --dry-run "$@" | tail -1) '
            f'--directory {checkout}/build"; }}',
        ]
        self._commands: list[Command] = []
        self._programs: dict[str, str] = {}

    def add(self, block: Block) -> None:
        folder = block.note.removeprefix("in: ") if block.note.startswith("in: ") else "."
        if block.language in _PROGRAMS:
            self._add_program(block, folder)
            return
        for command in commands(block):
            text = command.text
            if folder != ".":
                text = f"mkdir -p {folder}\ncd {folder}\n{text}\ncd {self._checkout}"
            self._add(Command(text, command.output))

    def run(self) -> None:
        script = self._checkout / "page.sh"
        script.write_text("\n".join(self._lines))
        environment = {
            **os.environ,
            **setup.tool_environment(),
            "METERING_LOCAL": str(self._checkout / "build" / "local.json"),
            "PATH": os.pathsep.join([str(setup.node().parent), os.environ["PATH"]]),
        }
        done = subprocess.run(["bash", script], cwd=self._checkout, env=environment, timeout=500, check=False)  # noqa: S607
        outputs = [self._output(number) for number in range(len(self._commands))]
        for command, output in zip(self._commands, outputs, strict=True):
            assert output is not None, f"not reached, after {[o for o in outputs if o is not None][-1:]}"
            if command.output is not None:
                shown = self._local(command.output).strip()
                pattern = ".*?".join(map(re.escape, shown.split("…")))
                assert re.fullmatch(pattern, output.strip(), re.S), f"{command.text}\nprinted {output}\nnot {shown}"
        assert done.returncode == 0, outputs[-1]

    def _add_program(self, block: Block, folder: str) -> None:
        """The programs of a page that are in one language build upon each other."""
        suffix, interpreter = _PROGRAMS[block.language]
        self._programs[suffix] = self._programs.get(suffix, "") + self._local(block.text)
        name = block.file or f"page{suffix}"
        path = self._checkout / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._programs[suffix])
        records = "usage/record" in block.text or "usage_record" in block.text
        text = f"cd {folder}; {shlex.quote(interpreter)} {name}; cd {self._checkout}"
        self._add(Command(text, None if not records else "…ecorded…rue…"))

    def _add(self, command: Command) -> None:
        number = len(self._commands)
        self._commands.append(command)
        self._lines.append(f"{{\n{self._local(command.text)}\n}} >{self._checkout}/{number}.out 2>&1")

    def _local(self, text: str) -> str:
        """`text` with the ports of this stack instead of the defaults."""
        return re.sub(r"\b(?:4566|4567|4700)\b", lambda found: self._ports.get(found[0], found[0]), text)

    def _output(self, number: int) -> str | None:
        path = self._checkout / f"{number}.out"
        return path.read_text() if path.exists() else None


def _checkout(folder: Path) -> Path:
    """A folder that looks like the checkout and has a `build` of its own."""
    checkout = folder / "checkout"
    (checkout / "build").mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name not in {"build", ".git"}:
            (checkout / path.name).symlink_to(path)
    return checkout
