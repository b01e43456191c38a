"""The emulated AWS behind its proxy: a child process on loopback that writes only to its own folders."""

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
SECRET_ACCESS_KEY = "not-a-secret"  # noqa: S105 - the emulator accepts any text; the access key id is the secret

# A start usually takes half a second, but many times longer on a laptop under load.
_START_TIMEOUT_S = 60.0
# Below the ports that operating systems use for outgoing connections.
_PORTS = (20_000, 32_000)


@dataclass(frozen=True)
class Keys:
    """The secrets that the proxy accepts during one run of the emulator."""

    access_key_id: str
    """Allows every action, as an account's root user."""
    secret: str
    """The runner's secret for the control paths of the emulator and the proxy."""


def new_keys() -> Keys:
    """Create random keys."""
    # The emulator takes a key id of 12 digits for an account id.
    return Keys(f"LOCAL{secrets.token_hex(16).upper()}", secrets.token_hex(16))


def check_port_is_free(port: int) -> None:
    """Check that a server can listen on `port`.

    Raises:
        StartFailed: the port is in use or not allowed.
    """
    if (reason := _why_not(port)) is not None:
        raise StartFailed(f"port {port} {reason}: free this port, or choose another port with `make run PORT=…`.")


def free_port() -> int:
    """Find a port that is free now and that the kernel does not use for outgoing connections."""
    while True:
        port = SystemRandom().randrange(*_PORTS)
        if _why_not(port) is None:
            return port


def port_near(port: int) -> int:
    """Return `port` if it is free, otherwise another free port."""
    return port if port <= 65_535 and _why_not(port) is None else free_port()


def start(port: int, keys: Keys, work: Path, log: IO[bytes], lock: int) -> subprocess.Popen[bytes]:
    """Start the emulator on `port`, with its files in `work`: `state`, `tmp` and the functions' log `functions.log`.

    The emulator ends when the calling process ends.
    """
    state = work / "state"
    environment = {
        # The Lambda workers inherit these variables, so the user's variables are not among them.
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(state),
        # Each worker gets its own copy of the bundle here.
        "TMPDIR": str(work / "tmp"),
        "STATE_DIR": str(state),
        "S3_DATA_DIR": str(state / "s3"),
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "localhost",
        "MINISTACK_REGION": REGION,
        # Enforce IAM as AWS does, so that a missing grant fails here first. Only the key below allows every action. The
        # functions' workers get the credentials of their roles.
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        proxy.SECRET_VARIABLE: keys.secret,
        proxy.FUNCTIONS_LOG_VARIABLE: str(work / "functions.log"),
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        # Otherwise the emulator opens another port, on all addresses.
        "IOT_MTLS_ENABLED": "0",
        # At start, ministack removes the containers of every ministack on this machine. Keep it away from Docker.
        "DOCKER_HOST": f"unix://{state}/no-docker.sock",
    }
    return tether.start([setup.EMULATOR_PYTHON, "-I", Path(proxy.__file__)], environment, state, log, lock)


def wait_until_ready(emulator: subprocess.Popen[bytes], endpoint: str, keys: Keys, log: Path) -> None:
    """Wait until the emulator answers.

    Raises:
        StartFailed: the emulator ended, or did not answer in time.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _is_ready(endpoint, keys):
        if emulator.poll() is not None:
            raise StartFailed(f"the emulator ended with exit code {emulator.returncode}; see {log}.")
        if time.monotonic() >= deadline:
            raise StartFailed(f"the emulator did not answer within {_START_TIMEOUT_S:.0f} s; see {log}.")
        time.sleep(0.05)


def serve_api(endpoint: str, keys: Keys, api: str) -> None:
    """Let the proxy serve the HTTP API with the id `api` at the root of `endpoint`.

    Raises:
        StartFailed: the emulator does not answer.
    """
    try:
        _ask(endpoint, keys, f"{proxy.API_PATH}{api}")
    except OSError as failed:
        raise StartFailed(f"the emulator does not serve the API {api}: {failed}.") from failed


def is_listening(endpoint: str) -> bool:
    """Whether a server accepts connections at `endpoint`."""
    address = urlsplit(endpoint)
    try:
        with socket.create_connection((address.hostname, address.port or 80), timeout=1):
            return True
    except OSError:
        return False


def _why_not(port: int) -> str | None:
    # Both checks are needed: macOS lets a server bind loopback while another listens on all addresses.
    if is_listening(f"http://127.0.0.1:{port}"):
        return "is in use by another program"
    with socket.socket() as probe:
        # Ignore connections of an ended server, which can stay in TIME_WAIT for a minute.
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
    # Ignore the user's proxy settings, because this is loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"{endpoint}{path}", headers={proxy.SECRET_HEADER: keys.secret})  # noqa: S310
    with opener.open(request, timeout=5) as answer:
        return int(answer.status)
