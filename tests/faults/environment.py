"""Execution environments for the driver: processes that answer invocations until the driver kills them."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.faults.clock import Clock, SharedClock
from tests.faults.faults import Call
from tools.setup import ROOT

RECORD = "tests.faults.fork_server:record"
PUBLISHER = "tests.faults.fork_server:publisher"
WATCHER = "tests.faults.fork_server:watcher"
SUBSCRIPTIONS = "tests.faults.fork_server:subscriptions"
OPERATOR = "tests.faults.fork_server:operator"
# The timeouts that infra/ deploys. An operator waits longer.
TIMEOUT_S = {RECORD: 15.0, PUBLISHER: 60.0, WATCHER: 300.0, SUBSCRIPTIONS: 30.0, OPERATOR: 300.0}


# Real time. Invocations only wait in simulated time, so one that takes this long hangs.
PATIENCE_S = 60.0


class Died(Exception):
    """The process ended before it answered."""


class ForkServer:
    """The process that forks environments."""

    def __init__(self, orders: socket.socket, settings: Mapping[str, str]) -> None:
        self._orders = orders
        self._settings = dict(settings)
        self._lock = threading.Lock()

    def fork(
        self, number: int, function: str, timeout_s: float, settings: Mapping[str, str]
    ) -> tuple[int, socket.socket]:
        """Fork a new process of `function`.

        Returns: its process id and the socket to it.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            order = {
                "number": number,
                "function": function,
                "timeout_s": timeout_s,
                "settings": {**self._settings, **settings},
            }
            socket.send_fds(self._orders, [json.dumps(order).encode()], [theirs.fileno()])
            reply = self._orders.recv(64)
            if not reply:
                raise RuntimeError("The fork server ended. Look for the reason in its log.")
            return int(reply), ours


@contextmanager
def fork_server(shared_clock: Path, settings: Mapping[str, str], log: IO[bytes]) -> Iterator[ForkServer]:
    """Run a fork server until the end of the block. The processes that it forked end with it."""
    ours, theirs = socket.socketpair()
    environment = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "functions"), str(ROOT)]),
        **settings,
    }
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.fork_server", str(shared_clock)],
                cwd=ROOT,
                stdin=theirs.fileno(),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        try:
            yield ForkServer(ours, settings)
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            process.wait()


@dataclass
class _Invocation:
    label: str
    calls: int = 0


class Environment:
    """An execution environment of `function`. After its process died, the next invocation starts a new one."""

    def __init__(
        self,
        number: int,
        function: str,
        fork_server: ForkServer,
        shared_clock: SharedClock,
        settings: Mapping[str, str],
    ) -> None:
        self.number = number
        self.function = function
        self.timeout_s = TIMEOUT_S.get(function, TIMEOUT_S[RECORD])
        self.clock: Clock = shared_clock.clock(number)
        self._fork_server = fork_server
        self._settings = settings
        self._pid = 0
        self._socket: socket.socket | None = None
        self._invocation = _Invocation("")
        self._lock = threading.Lock()
        self.hung: list[str] = []
        """Invocations that were killed after `PATIENCE_S` of real time."""

    def invoke(self, event: Any, label: str) -> Any:
        """Invoke the function and return its answer, or the error that Lambda's runtime reports.

        Raises:
            Died: the process ended without an answer.
        """
        if self._socket is None:
            self._pid, self._socket = self._fork_server.fork(self.number, self.function, self.timeout_s, self._settings)
        self._invocation = _Invocation(label)
        self.clock.start_invocation()
        self._socket.settimeout(PATIENCE_S)
        try:
            return self._answer(self._socket, event, label)
        finally:
            self.clock.end_invocation()

    def _answer(self, own: socket.socket, event: Any, label: str) -> Any:
        with suppress(OSError):
            own.sendall(json.dumps({"event": event, "invocation": label}).encode() + b"\n")
            with own.makefile("rb") as answers:
                try:
                    if (line := answers.readline()).endswith(b"\n"):
                        return json.loads(line)
                except TimeoutError:
                    self.hung.append(label)
                    self.kill()
        own.close()
        self._socket = None
        raise Died

    def next_call(self, operation: str, parts: int = 0, counters: tuple[int, ...] = ()) -> Call:
        """Number and return the call that the current invocation makes now."""
        with self._lock:
            invocation = self._invocation
            call = Call(invocation.label, invocation.calls, operation, parts, counters)
            invocation.calls += 1
            return call

    def fall_behind(self, seconds: float) -> None:
        """Delay this environment by `seconds`, and kill its process after its timeout, as Lambda does."""
        self.clock.fall_behind(seconds)
        if self.clock.late_s >= self.timeout_s:
            self.kill()

    def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
