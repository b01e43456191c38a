"""The Python that compiles the cloud's bundle: only one of Lambda's own version can.

Found by running it. A name on the PATH proves nothing: pyenv, for one, puts a `python3.13` there that fails.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping

from tools.setup import UV, tool_environment

VERSION = "3.13"

NOT_HERE = f"there is no Python {VERSION} here: install one, or set PYTHON313=/path/to/python{VERSION}"


class CompilerUnusable(Exception):
    """The message says which Python, and why."""


def find(environment: Mapping[str, str] = os.environ) -> str | None:
    """A Python of Lambda's version: the one that PYTHON313 names, or else any on this machine. None: there is none.

    Raises:
        CompilerUnusable: PYTHON313 names something else.
    """
    named = environment.get("PYTHON313", "").strip()
    if named:
        if _version(named) is None:
            raise CompilerUnusable(f"PYTHON313 is {named}, which is no Python {VERSION} that runs.")
        return named
    return next((python for python in _candidates(environment.get("PATH", os.defpath)) if _version(python)), None)


def version(python: str) -> str:
    """All that `python` says of its version.

    Raises:
        CompilerUnusable: it is not of Lambda's, or does not run.
    """
    found = _version(python)
    if found is None:
        raise CompilerUnusable(f"{python} is no Python {VERSION} that runs.")
    return found


def _candidates(path: str) -> Iterator[str]:
    yield sys.executable
    # Every folder, not the first: what fails in one hides what works in another.
    for folder in path.split(os.pathsep):
        for name in (f"python{VERSION}", "python3"):
            if (found := shutil.which(name, path=folder)) is not None:
                yield found
    # Those that uv keeps; it looks nowhere else then, and so does not stumble over one that fails.
    search = [str(UV), "python", "find", "--quiet", "--no-project", "--managed-python", VERSION]
    kept = subprocess.run(search, env=tool_environment(), capture_output=True, text=True, check=False)
    if kept.returncode == 0:
        yield kept.stdout.strip()


def _version(python: str) -> str | None:
    ask = "import sys; print('%d.%d' % sys.version_info[:2], sys.version)"
    try:
        said = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    short, _, whole = said.stdout.strip().partition(" ")
    return whole if said.returncode == 0 and short == VERSION else None
