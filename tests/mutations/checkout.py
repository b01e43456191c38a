"""Copies of this checkout to break, and the first test that fails in one of them.

Each copy is in a temporary folder. The folder is removed with everything that its tests leave. The tests' processes end
with the run that started them.
"""

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import NamedTuple

from local import tether
from tools.setup import PYTHON, ROOT

# Setup installed these. The copies link to them, as no test changes them.
_INSTALLED = (
    ".uv",
    ".venv",
    ".venv-emulator",
    "infra/node_modules",
    "local/node_modules",
    "tests/faults/node_modules",
    "tests/browser/node_modules",
)


class NoVerdict(Exception):
    """The tests ended without showing whether they notice the mutation; the message says how."""


class Hung(NoVerdict):
    """The tests did not end in time, and no single test exceeded its own limit."""


class Stopped(Exception):
    """The run was interrupted."""


@dataclass(frozen=True)
class Stage:
    """Some of the tests."""

    name: str
    paths: tuple[str, ...]
    """In the order in which they run, as the first test that fails is named."""
    leaves_out: tuple[str, ...] = ()
    test_timeout_s: int = 300
    """A test that takes longer fails."""
    timeout_s: int = 540
    """If all tests together take longer, there is no verdict."""


class Simulated(NamedTuple):
    """The simulation's answer about a checkout."""

    seeds: int
    """The number of seeds that ran, including the one that broke a promise."""
    noticed: bool
    """Whether a seed broke a promise."""


@dataclass(frozen=True)
class Checkout:
    """A copy of this checkout in a folder of its own."""

    root: Path
    stop: threading.Event
    """Setting it ends the tests that run in the copy."""

    @contextmanager
    def changed(self, files: Mapping[Path, str]) -> Iterator[None]:
        """Give these files this text until the end of the block."""
        before = {path: path.read_text("utf-8") for path in files}
        _write(files)
        try:
            yield
        finally:
            _write(before)

    def first_failure(self, stage: Stage) -> str | None:
        """The first test of `stage` that fails, as `tests/…/test_it.py::test_it`; None if all pass.

        The test must fail again when it runs alone, because a slow machine also makes tests fail.

        Raises:
            NoVerdict: the tests could not run, or failed without naming one.
            Hung: the tests took too long.
            Stopped: the run was interrupted.
        """
        failed = self._first_failure(stage, stage.paths)
        return failed if failed and self._first_failure(stage, [failed]) else None

    def fails(self, test: str) -> bool:
        """Whether this test fails.

        Raises: as `first_failure`.
        """
        test_timeout_s = 60 if test.startswith("tests/unit/") else 300
        return self._first_failure(Stage(test, (test,), test_timeout_s=test_timeout_s), [test]) is not None

    def _first_failure(self, stage: Stage, paths: Sequence[str]) -> str | None:
        results = self.root.parent / "results.xml"
        results.unlink(missing_ok=True)
        command = [str(PYTHON), "-m", "pytest", "-q", "-x", *paths]
        command += [f"--ignore={path}" for path in stage.leaves_out]
        command += [f"--timeout={stage.test_timeout_s}", f"--basetemp={self.root.parent / 'pytest'}"]
        command += [f"--junitxml={results}", "-o", "junit_family=xunit1"]
        variables = {}
        if all(path.startswith("tests/unit/") for path in paths):
            # Unit tests need no other plugin, and the import of the others is a third of a single test's time.
            command += ["-p", "pytest_timeout"]
            variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        code = self._run(command, stage.timeout_s, **variables)
        if code is None:
            raise Hung(f"the tests of {stage.name} took longer than {stage.timeout_s} s, and none failed")
        if code == 0:
            return None
        failed = _first_failed(results) if code == 1 else None
        if failed is None:
            raise NoVerdict(f"pytest ended with exit code {code} in {stage.name}:\n{self._output()}")
        return failed

    def simulated(self, most_seeds: int, timeout_s: float, *, first: int = 0) -> Simulated:
        """Run the simulation from seed `first` on until a seed breaks a promise, or a limit is reached.

        Raises:
            NoVerdict: the simulation ended in another way.
            Stopped: the run was interrupted.
        """
        command = [str(PYTHON), "-m", "tests.simulation", "--seeds", str(first), str(first + most_seeds)]
        code = self._run([*command, "--stop-at-first", "--workers", "1", "--shrinking", "0"], timeout_s)
        output = self._output()
        if code == 0:
            return Simulated(most_seeds, noticed=False)
        if code is None:
            done = [int(seeds) for seeds in re.findall(r"^simulate: (\d+) seeds", output, re.MULTILINE)]
            return Simulated(max(done, default=0), noticed=False)
        found = re.search(r"^found after (\d+) seeds$", output, re.MULTILINE)
        if code != 1 or found is None:
            raise NoVerdict(f"the simulation ended with exit code {code}:\n{output}")
        return Simulated(int(found[1]), noticed=True)

    def assert_imports_its_own(self) -> None:
        """Check that Python, run in this copy, imports the copy's code and not the original checkout's.

        Raises:
            NoVerdict: it imports other code.
        """
        packages = "metering, infra, local, ops, tests"
        where = f"import {packages}; print(*(package.__file__ for package in ({packages})))"
        code = self._run([str(PYTHON), "-c", where], timeout_s=60)
        output = self._output()
        if code != 0 or not all(Path(file).is_relative_to(self.root) for file in output.split()):
            raise NoVerdict(f"the copy in {self.root} does not import its own code: {output}")

    def _run(self, command: Sequence[str], timeout_s: float, **variables: str) -> int | None:
        """Run the command in the copy, and end every process that it started.

        Returns: its exit code; None if it took too long.
        """
        deadline = time.monotonic() + timeout_s
        with (self.root.parent / "log").open("wb") as log:
            process = tether.start(command, self._environment() | variables, self.root, log, log.fileno())
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    if self.stop.wait(0.05):
                        raise Stopped
                return process.poll()
            finally:
                tether.end(process)

    def _environment(self) -> dict[str, str]:
        temporary = self.root.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        # Before the installed project, which is the original checkout.
        path = os.pathsep.join([str(self.root / "functions"), str(self.root)])
        return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary), "SHRINKING_S": "0"}

    def _output(self) -> str:
        lines = (self.root.parent / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-30:])


@contextmanager
def checkouts(number: int, stop: threading.Event) -> Iterator[list[Checkout]]:
    """`number` copies of the files that git tracks, as they are now, with links to what setup installed."""
    tracked = _tracked()
    with ExitStack() as folders:
        copies = []
        for _ in range(number):
            folder = folders.enter_context(tempfile.TemporaryDirectory(prefix="mutation-"))
            # Resolved, as macOS's temporary folder is a link and Python names imported files by their real path.
            root = Path(folder).resolve() / "checkout"
            for name in tracked:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
            for name in _INSTALLED:
                if (ROOT / name).exists():
                    (root / name).symlink_to(ROOT / name)
            copies.append(Checkout(root, stop))
            copies[-1].assert_imports_its_own()
        yield copies


def _write(files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        path.write_text(text, "utf-8")
        # Python reuses compiled code if the source has the same second and size, as after many mutations.
        Path(cache_from_source(str(path))).unlink(missing_ok=True)


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)  # noqa: S607
    # Git still lists a file whose deletion is not committed yet.
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def _first_failed(results: Path) -> str | None:
    """The first failed test in pytest's report; None if it names none, for example because an import failed."""
    if not results.is_file():
        return None
    for case in ET.parse(results).iter("testcase"):  # noqa: S314 - pytest wrote it
        error = case.find("error")
        if error is not None and error.get("message") == "collection failure":
            return None
        if error is not None or case.find("failure") is not None:
            # Drop the parameters: a generated test's parameters differ from run to run.
            return f"{case.get('file')}::{str(case.get('name')).split('[')[0]}"
    return None
