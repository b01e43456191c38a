"""Find the Python that compiles the cloud bundle. It must have Lambda's Python version.

Runs each candidate, because a name on the PATH proves nothing: pyenv puts a `python3.13` there that may fail.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping

from tools.setup import UV, tool_environment

VERSION = "3.13"

NOT_HERE = f"there is no Python {VERSION} on this machine, so install one or set PYTHON313=/path/to/python{VERSION}"


class CompilerUnusable(Exception):
    """The message says which Python cannot compile the bundle, and why."""


def find(environment: Mapping[str, str] = os.environ) -> str | None:
    """Find a Python of Lambda's version: the one in PYTHON313, or else any on this machine.

    Returns: its path, or None if there is none.
    Raises:
        CompilerUnusable: PYTHON313 is not a working Python of this version.
    """
    named = environment.get("PYTHON313", "").strip()
    if named:
        if _version(named) is None:
            raise CompilerUnusable(f"PYTHON313 is {named}, which is not a working Python {VERSION}.")
        return named
    return next((python for python in _candidates(environment.get("PATH", os.defpath)) if _version(python)), None)


def version(python: str) -> str:
    """The full version text of `python`.

    Raises:
        CompilerUnusable: `python` has another version than Lambda, or does not run.
    """
    found = _version(python)
    if found is None:
        raise CompilerUnusable(f"{python} is not a working Python {VERSION}.")
    return found


def _candidates(path: str) -> Iterator[str]:
    yield sys.executable
    # Search every folder of the PATH, because a broken Python in one can hide a working one in another.
    for folder in path.split(os.pathsep):
        for name in (f"python{VERSION}", "python3"):
            if (found := shutil.which(name, path=folder)) is not None:
                yield found
    # Search the Pythons that uv manages. --managed-python keeps uv away from a broken Python elsewhere.
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
