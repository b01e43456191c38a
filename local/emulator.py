"""The emulated AWS behind its proxy: a child process, on loopback, that writes nowhere but into its own folders."""

import os
import secrets
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import IO
from urllib.parse import urlsplit

from local import proxy, tether
from local.errors import StartFailed
from tools import setup

REGION = "us-east-1"
SECRET_ACCESS_KEY = "not-a-secret"  # noqa: S105 - the emulator takes any: the access key id is what is secret

# Usually half a second; a laptop under load may need many times that.
_START_TIMEOUT_S = 60.0
# Below what systems use for outgoing connections.
_PORTS = (20_000, 32_000)


@dataclass(frozen=True)
class Keys:
    """What one run of the emulator opens its proxy for."""

    access_key_id: str
    """May do everything, as an account's root user."""
    secret: str
    """Of the process that runs it: for the emulator's and the proxy's own paths."""


def new_keys() -> Keys:
    """Keys that nobody can guess."""
    # Not of 12 digits, which would be an account of its own.
    return Keys(f"LOCAL{secrets.token_hex(16).upper()}", secrets.token_hex(16))


def check_port_is_free(port: int) -> None:
    """Make sure that `port` can be listened on.

    Raises:
        StartFailed: it cannot.
    """
    if (reason := _why_not(port)) is not None:
        raise StartFailed(f"port {port} {reason}: free it, or choose another one with `make run PORT=…`.")


def free_port() -> int:
    """A port that nobody listens on at the moment, and that the kernel gives to nobody's outgoing connection."""
    while True:
        port = SystemRandom().randrange(*_PORTS)
        if _why_not(port) is None:
            return port


def port_near(port: int) -> int:
    """`port`, the same at each start; another one where somebody else has that."""
    return port if port <= 65_535 and _why_not(port) is None else free_port()


def start(port: int, keys: Keys, work: Path, log: IO[bytes], lock: int) -> subprocess.Popen[bytes]:
    """Start the emulator on `port`, with the folders `state` and `tmp` of `work` and functions' log `functions.log`.

    It ends with the process that called this.
    """
    state = work / "state"
    environment = {
        # Its Lambda workers inherit this: what a function must not see of the user's environment stays out.
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(state),
        # Workers get a copy of the bundle each.
        "TMPDIR": str(work / "tmp"),
        "STATE_DIR": str(state),
        "S3_DATA_DIR": str(state / "s3"),
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "localhost",
        "MINISTACK_REGION": REGION,
        # What a role does not allow is refused, as on AWS: a grant that is missing fails here first. Only the key below
        # may do everything; the functions' workers get their roles' own.
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        proxy.SECRET_VARIABLE: keys.secret,
        proxy.FUNCTIONS_LOG_VARIABLE: str(work / "functions.log"),
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        # A listener of its own, on a port of its own and on every address.
        "IOT_MTLS_ENABLED": "0",
        # At its start it removes every container that some emulator like it has ever made: not ours to decide.
        "DOCKER_HOST": f"unix://{state}/no-docker.sock",
    }
    return tether.start([setup.EMULATOR_PYTHON, "-I", Path(proxy.__file__)], environment, state, log, lock)


def wait_until_ready(emulator: subprocess.Popen[bytes], endpoint: str, keys: Keys, log: Path) -> None:
    """Return when the emulator answers.

    Raises:
        StartFailed: it ended, or does not answer.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _is_ready(endpoint, keys):
        if emulator.poll() is not None:
            raise StartFailed(f"the emulator ended with exit code {emulator.returncode}; see {log}.")
        if time.monotonic() >= deadline:
            raise StartFailed(f"the emulator does not answer within {_START_TIMEOUT_S:.0f} s; see {log}.")
        time.sleep(0.05)


def serve_api(endpoint: str, keys: Keys, api: str) -> None:
    """Have the HTTP API with the id `api` served at the root of `endpoint`.

    Raises:
        StartFailed: the emulator does not answer.
    """
    try:
        _ask(endpoint, keys, f"{proxy.API_PATH}{api}")
    except OSError as failed:
        raise StartFailed(f"the emulator does not serve the API {api}: {failed}.") from failed


def is_listening(endpoint: str) -> bool:
    """Whether something takes connections at `endpoint`."""
    address = urlsplit(endpoint)
    try:
        with socket.create_connection((address.hostname, address.port or 80), timeout=1):
            return True
    except OSError:
        return False


def _why_not(port: int) -> str | None:
    # Both questions are needed: on a Mac one can listen on loopback where another listens on every address.
    if is_listening(f"http://127.0.0.1:{port}"):
        return "is in use by another program"
    with socket.socket() as probe:
        # Connections of a server that has just ended may linger for a minute and do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as refused:
            return f"cannot be used ({refused.strerror})"
    return None


def _is_ready(endpoint: str, keys: Keys) -> bool:
    try:
        return _ask(endpoint, keys, "/_ministack/ready") == 200
    except OSError:
        return False


def _ask(endpoint: str, keys: Keys, path: str) -> int:
    # Without the proxies that the user may have set: this is loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"{endpoint}{path}", headers={proxy.SECRET_HEADER: keys.secret})  # noqa: S310
    with opener.open(request, timeout=5) as answer:
        return int(answer.status)
