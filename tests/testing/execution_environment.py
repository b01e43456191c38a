"""A Lambda execution environment on this machine: a function's bundle under AWS's runtime client.

It is a process whose path holds only the runtime client, the bundle and Python's standard library.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from typing import Any

from tests.testing import runtime_api
from tests.testing.runtime_api import Outcome, RuntimeApi
from tools import bundle

# Much longer than any start takes. A start that takes longer has a defect.
_START_TIMEOUT_S = 60.0

RUNTIME_CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")


class InitFailed(Exception):
    """The function's module could not be imported."""


class TimedOut(Exception):
    """The invocation did not end before its deadline, and its environment was killed."""


@dataclass
class ExecutionEnvironment:
    """One process, which answers one invocation after the other."""

    process: subprocess.Popen[bytes]
    api: RuntimeApi
    log_file: Path
    spawned_s: float
    ready_s: float = 0.0

    def wait_until_ready(self) -> None:
        """Wait until the function's module is imported and the runtime asks for its first event.

        Raises:
            InitFailed: the import failed or took too long; the message holds the error's type and message.
        """
        deadline = self.spawned_s + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if (asked_s := self.api.asked(within_s=0.05)) is not None:
                self.ready_s = asked_s
                return
            if self.process.poll() is not None:
                failed = self.api.outcome(within_s=0.5)
                error = "" if failed is None else f"{failed.body['errorType']}: {failed.body['errorMessage']}"
                raise InitFailed(f"{error} {self.log()}")
        raise InitFailed(f"Initialization took more than {_START_TIMEOUT_S:.0f} s. Its log: {self.log()}")

    def invoke(self, event: Any, timeout_s: float = 15.0) -> Outcome:
        """Invoke the function with `event` and return the outcome.

        Raises:
            TimedOut: the function did not answer in time, and the process was killed, as on Lambda.
        """
        self.api.offer(event, timeout_s)
        outcome = self.api.outcome(within_s=timeout_s)
        if outcome is None:
            self.kill()
            raise TimedOut(f"Task timed out after {timeout_s:.2f} seconds: {self.log()}")
        return outcome

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")


@contextmanager
def started(
    handler: str, path: Sequence[Path], variables: Mapping[str, str], folder: Path
) -> Iterator[ExecutionEnvironment]:
    """Start an environment of `handler` without waiting until it is ready, and kill it after the block.

    `path` holds the folders of modules; the first one is the function's bundle. The log goes to `folder`.
    """
    with runtime_api.serving() as api:
        settings = {
            # Source: Lambda developer guide, "Defined runtime environment variables".
            "_HANDLER": handler,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "AWS_LAMBDA_FUNCTION_NAME": "usage-metering",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "LAMBDA_TASK_ROOT": str(path[0]),
            "LANG": "en_US.UTF-8",
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "TZ": ":UTC",
            # The function's folder is read-only on Lambda.
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        }
        log_file = folder / f"{api.address.rpartition(':')[2]}.log"
        with log_file.open("wb") as log:
            spawned_s = time.monotonic()
            # -S leaves out all site-packages folders.
            process = subprocess.Popen(
                [sys.executable, "-S", "-m", "awslambdaric", handler],
                cwd=path[0],
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        environment = ExecutionEnvironment(process, api, log_file, spawned_s)
        try:
            yield environment
        finally:
            environment.kill()


def install(distributions: Sequence[str], folder: Path) -> None:
    """Copy the installed `distributions` into a new `folder` and compile them.

    `folder` must not exist yet, so that it holds nothing else.

    Raises:
        PackageNotFoundError: a distribution is not installed.
    """
    for distribution in distributions:
        for file in files(distribution) or ():
            # Files outside site-packages are commands.
            if ".." not in file.parts and file.suffix != ".pyc":
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
    bundle.compile_folder(folder, str(folder), sys.executable)
