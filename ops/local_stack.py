"""The running local stack, as the files in its directory describe it.

local.json               addresses and keys; exists from `ready` until the stack ends
local.lock               locked while any process of the stack runs
local/events.jsonl       every delivered event, one JSON line each
local/functions.log      the functions' output, one JSON line each
local/issuer-key.pem     the key that signs local tokens
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ops.errors import StackNotRunning

# The audience of local tokens, which the local stack's authorizer requires.
AUDIENCE = "usage-metering-local"

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stack:
    """A running local stack. The keys in local.json are these names in camel case."""

    url: str
    """The base URL of the API, without a slash at its end."""
    endpoint: str
    """The URL of the emulated AWS."""
    region: str
    access_key_id: str
    """Random. The emulated AWS checks only this key, so its holder can run code here. No other file has the key."""
    secret_access_key: str
    table: str
    bus: str
    queue_url: str
    """The stack's audit queue, which keeps every event until a consumer deletes it."""
    issuer: str
    token_endpoint: str
    """OAuth 2.0 client credentials. The client id is the organization, and any secret is accepted."""
    pid: int
    """The process id of `make run`'s runner."""


def default_path() -> Path:
    """The path in METERING_LOCAL, or else the local.json of `make run` in this checkout."""
    return Path(os.environ.get("METERING_LOCAL") or ROOT / "build" / "local.json")


def lock_file(local_json: Path) -> Path:
    return local_json.with_suffix(".lock")


def folder(local_json: Path) -> Path:
    return local_json.with_suffix("")


def events_file(local_json: Path) -> Path:
    return folder(local_json) / "events.jsonl"


def key_file(local_json: Path) -> Path:
    return folder(local_json) / "issuer-key.pem"


def write(stack: Stack, local_json: Path) -> None:
    """Write `local_json` atomically: a reader sees the whole file or none. Only the user can read it."""
    text = json.dumps({_camel(name): value for name, value in asdict(stack).items()}, indent=2)
    unfinished = local_json.with_suffix(".json.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    unfinished.replace(local_json)


def read(local_json: Path) -> Stack:
    """Read the stack that runs now.

    Raises:
        StackNotRunning: no stack runs, or a killed stack left its file.
    """
    try:
        content = json.loads(local_json.read_text())
        stack = Stack(**{field.name: content[_camel(field.name)] for field in fields(Stack)})
    except FileNotFoundError:
        raise StackNotRunning(
            "the local stack is not running: start it with `make run`, or name a deployment environment with --env."
        ) from None
    except OSError as failed:
        raise StackNotRunning(f"cannot read {local_json}: {failed.strerror}.") from failed
    except (ValueError, KeyError, TypeError) as failed:
        raise StackNotRunning(f"{local_json} was not written by a local stack: delete it.") from failed
    if not _is_alive(stack.pid) or _is_unlocked(lock_file(local_json)):
        raise StackNotRunning(
            f"the local stack is not running: process {stack.pid}, which wrote {local_json}, has ended. "
            "Start the stack with `make run`."
        )
    return stack


def is_running(stack: Stack, local_json: Path) -> bool:
    """Whether `stack` is still running there."""
    try:
        return read(local_json) == stack
    except StackNotRunning:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_unlocked(lock: Path) -> bool:
    # A killed runner keeps its process id until its parent reaps it, but it loses its lock immediately.
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
