"""A Lambda execution environment on this machine: a function's bundle under AWS's own runtime client.

A process with nothing on its path but the runtime client, the bundle and Python's standard library.
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

# Far above what any start takes: who waits so long has a defect.
_START_TIMEOUT_S = 60.0

RUNTIME_CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")


class InitFailed(Exception):
    """The function's module could not be imported."""


class TimedOut(Exception):
    """The invocation had no outcome at its deadline, and its environment was killed."""


@dataclass
class ExecutionEnvironment:
    """One process that answers one invocation after the other."""

    process: subprocess.Popen[bytes]
    api: RuntimeApi
    log_file: Path
    spawned_s: float
    ready_s: float = 0.0

    def wait_until_ready(self) -> None:
        """Wait until the function's module is imported and the first event asked for.

        Raises:
            InitFailed: with the error's type and message.
        """
        deadline = self.spawned_s + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if (asked_s := self.api.asked(within_s=0.05)) is not None:
                self.ready_s = asked_s
                return
            if self.process.poll() is not None:
                failed = self.api.outcome(within_s=0.5)
                told = "" if failed is None else f"{failed.body['errorType']}: {failed.body['errorMessage']}"
                raise InitFailed(f"{told} {self.log()}")
        raise InitFailed(f"it took more than {_START_TIMEOUT_S:.0f} s: {self.log()}")

    def invoke(self, event: Any, timeout_s: float = 15.0) -> Outcome:
        """What the function makes of `event`.

        Raises:
            TimedOut: nothing, in that time; the process is gone then, as on Lambda.
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
    """An environment of `handler`, found on `path`, whose first folder is the function's bundle. Not waited for.

    It logs into `folder`.
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
            # -S: no site-packages, ours or anybody's.
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
    """Copy installed `distributions` into `folder`, which must not exist, and compile them: nothing else is in it.

    Raises:
        PackageNotFoundError: one is not installed.
    """
    for distribution in distributions:
        for file in files(distribution) or ():
            # What lies outside site-packages are commands.
            if ".." not in file.parts and file.suffix != ".pyc":
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
    bundle.compile_folder(folder, str(folder), sys.executable)
