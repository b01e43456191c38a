"""`make run`: run the whole stack on this machine and print every delivered event, until Ctrl-C."""

import argparse
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from local import emulator, stack
from local.errors import StartFailed
from ops import local_stack, tail
from ops.local_stack import Stack
from ops.number import whole_number
from tools import output, setup

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXAMPLE = '{"feature":"api_calls","quantity":1,"idempotencyKey":"abc-123"}'


@output.command("local", works=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stack until a signal stops it.

    Returns: the exit code; 0 if the stack was ready before the signal.
    """
    given = _parser().parse_args(arguments)
    _stop_on_signals()
    if "MAKELEVEL" in os.environ:
        _stop_with_parent()
    started = time.monotonic()
    was_ready = False
    try:
        with stack.running(given.directory, given.port, _say) as running:
            print(curl_command(running), flush=True)
            print(f"ready: {running.url}", flush=True)
            was_ready = True
            _say(f"started in {time.monotonic() - started:.0f} s; printing events, Ctrl-C stops the stack")
            _print_events(running, given.directory / "local.json")
        _say(f"the emulator stopped unexpectedly; see {given.directory}/local/emulator.log.")
    except StartFailed as failed:
        _say(str(failed))
        return 1
    except OSError as failed:
        _say(f"cannot run the stack: {failed}.")
        return 1
    except KeyboardInterrupt:
        return 0 if was_ready else 130
    return 1


def curl_command(running: Stack) -> str:
    """The example call of the API contract, to paste into a shell in the checkout."""
    return " ".join(
        [
            "curl -sS",
            shlex.quote(f"{running.url}/saas/billing/usage/record/v1.0.0"),
            '-H "Authorization: Bearer $(.venv/bin/metering token --organization demo-org)"',
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(_EXAMPLE)}",
        ]
    )


def _print_events(running: Stack, local_json: Path) -> None:
    """Print every delivered event until the emulator ends."""
    look_at = time.monotonic()

    def has_ended() -> bool:
        nonlocal look_at
        if time.monotonic() < look_at:
            return False
        look_at = time.monotonic() + 1
        return not emulator.is_listening(running.endpoint)

    for line in tail.follow(local_stack.events_file(local_json), 0, has_ended):
        print(line, flush=True)


def _say(text: str) -> None:
    print(f"local: {text}", file=sys.stderr, flush=True)


def _stop_on_signals() -> None:
    # Set explicitly, because a shell starts background jobs with Ctrl-C ignored. SIGHUP stays ignored under nohup. A
    # second signal must not interrupt the cleanup.
    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
        _say("stopping …")
        raise KeyboardInterrupt

    for number in _STOPPING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def _stop_with_parent() -> None:
    # A killed make does not forward the signal.
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument(
        "--port", type=whole_number(1, 65535), default=4566, help="port of the API and the emulated AWS (default: 4566)"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=setup.ROOT / "build",
        help="directory for logs, keys and state (default: build/)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
