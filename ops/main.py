"""The `metering` command: organizations, events and local tokens of a deployed stack.

Exit codes: 0 done; 1 it did not happen, and one sentence on stderr says why; 2 the command line is wrong.
"""

import argparse
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from types import FrameType
from typing import TYPE_CHECKING, Any

from ops import events, local_stack, tail
from ops.errors import CommandFailed, UsageWrong

# What talks to AWS or signs takes a third of a second to import. Where it is needed it is imported, so that
# `metering events` looks at the bus as soon as it is started.
if TYPE_CHECKING:
    from ops.environments import Environment

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Returns: the exit code.
    """
    # Read first of all: events that are delivered from this moment on are "since it started".
    local_json = local_stack.default_path()
    position = tail.end_of(local_stack.events_file(local_json))
    options = _parser().parse_args(arguments)
    options.local_json, options.position = local_json, position
    try:
        code = _run(options)
        sys.stdout.flush()
    except CommandFailed as failed:
        print(f"metering: {failed}", file=sys.stderr)
        return failed.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more while it flushes at the exit.
        _write_no_more()
        return 0
    except OSError as failed:
        print(f"metering: the output cannot be written: {failed.strerror}.", file=sys.stderr)
        _write_no_more()
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _write_no_more() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(options: argparse.Namespace) -> int:
    command: Callable[[argparse.Namespace], int] = options.command
    if command is _events and _is_local(options):
        return command(options)
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoRegionError

    try:
        return command(options)
    except EndpointConnectionError as failed:
        raise CommandFailed(f"nothing answers at {failed.kwargs['endpoint_url']}.") from failed
    except NoRegionError as failed:
        raise CommandFailed("no AWS region is chosen: set AWS_REGION, or one in your AWS profile.") from failed
    except ClientError as failed:
        error = failed.response["Error"]
        message = f"AWS refused {failed.operation_name}: {error['Code']}, {error['Message']}"
        raise CommandFailed(_one_sentence(message)) from failed
    except BotoCoreError as failed:
        raise CommandFailed(_one_sentence(f"AWS cannot be used: {failed}")) from failed


def _put_organization(options: argparse.Namespace) -> int:
    from ops import organizations

    where = _environment(options)
    organizations.put(where.access.dynamodb(), where.table, options.name, options.status)
    _tell(options, {"organizationId": options.name, "status": options.status}, f"{options.name} is {options.status}.")
    return 0


def _get_organization(options: argparse.Namespace) -> int:
    from ops import organizations

    where = _environment(options)
    found = organizations.get(where.access.dynamodb(), where.table, options.name)
    _tell(options, found, "\n".join(f"{name}: {value}" for name, value in found.items()))
    return 0


def _token(options: argparse.Namespace) -> int:
    from ops import tokens

    if not _is_local(options):
        raise UsageWrong(f"only the local stack's issuer is ours: ask the one of {options.env} for a token.")
    stack = local_stack.read(options.local_json)
    try:
        key = tokens.load_key(local_stack.key_file(options.local_json).read_bytes())
    except OSError as failed:
        raise CommandFailed(f"cannot read the local issuer's key {failed.filename}: {failed.strerror}.") from failed
    scopes = options.scope or tokens.SCOPES
    token = tokens.sign(key, stack.issuer, local_stack.AUDIENCE, options.organization, scopes, options.expires_in)
    _tell(options, {"token": token}, token)
    return 0


def _events(options: argparse.Namespace) -> int:
    _stop_on_signals()
    deadline = None if options.timeout is None else time.monotonic() + options.timeout

    def is_late() -> bool:
        return deadline is not None and time.monotonic() >= deadline

    def is_over() -> bool:
        return is_late() or events.is_unread(sys.stdout)

    try:
        with closing(_lines(options, deadline, is_over)) as lines:
            if events.show(lines, options.count):
                return 0
    except KeyboardInterrupt:
        # Without a count this is how one leaves; with one, what was waited for did not come.
        return 0 if options.count is None else _INTERRUPTED
    if is_late():
        raise CommandFailed(f"gave up after {options.timeout:g} s.")
    if events.is_unread(sys.stdout):
        return 0
    print("metering: the local stack has ended.", file=sys.stderr)
    return 0 if options.count is None else 1


def _lines(
    options: argparse.Namespace, deadline: float | None, is_over: Callable[[], bool]
) -> Generator[str, None, None]:
    if _is_local(options):
        stack = local_stack.read(options.local_json)
        position = 0 if options.all else options.position
        return events.delivered_locally(options.local_json, stack, position, is_over)
    if options.all:
        raise UsageWrong("only the local stack keeps its events: --all is not for an environment in the cloud.")
    return events.delivered(_environment(options), deadline, is_over)


def _is_local(options: argparse.Namespace) -> bool:
    return bool(options.env == "local")


def _environment(options: argparse.Namespace) -> "Environment":
    from ops import environments

    if _is_local(options):
        return environments.local_environment(local_stack.read(options.local_json))
    return environments.cloud_environment(options.env)


def _tell(options: argparse.Namespace, content: dict[str, Any], text: str) -> None:
    # DynamoDB's numbers are Decimals; those in our items are whole.
    print(json.dumps(content, default=int) if options.json else text)


def _one_sentence(message: str) -> str:
    return " ".join(message.split()).rstrip(".") + "."


def _stop_on_signals() -> None:
    # A shell starts a background job with Ctrl-C ignored, and a viewer in the cloud must remove what it made.
    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _parser() -> argparse.ArgumentParser:
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument(
        "--env",
        metavar="NAME",
        default="local",
        help="the environment: `local`, the running local stack (default), or the one whose CloudFormation stacks "
        "are usage-metering-NAME-…, by your AWS credentials and region",
    )
    everywhere.add_argument("--json", action="store_true", help="print one JSON object")

    parser = argparse.ArgumentParser(prog="metering", description="Operate a usage-metering stack.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    organizations = commands.add_parser("organizations", help="who may record usage")
    actions = organizations.add_subparsers(metavar="ACTION", required=True)
    put = actions.add_parser("put", parents=[everywhere], help="create an organization, or change its status")
    put.add_argument("name", metavar="NAME")
    put.add_argument("--status", choices=["active", "inactive"], default="active")
    put.set_defaults(command=_put_organization)
    get = actions.add_parser("get", parents=[everywhere], help="what is stored about an organization")
    get.add_argument("name", metavar="NAME")
    get.set_defaults(command=_get_organization)

    viewing = commands.add_parser(
        "events", parents=[everywhere], help="print delivered events, one JSON line each, until Ctrl-C"
    )
    viewing.add_argument("--all", action="store_true", help="from the local stack's start, not only from now on")
    viewing.add_argument("--count", type=_positive, metavar="N", help="stop after N events")
    viewing.add_argument("--timeout", type=_seconds, metavar="S", help="give up after S seconds, with exit code 1")
    viewing.set_defaults(command=_events)

    token = commands.add_parser("token", parents=[everywhere], help="print a token for the local stack")
    token.add_argument("--organization", required=True, metavar="NAME", help="whom its bearer acts for")
    token.add_argument(
        "--scope", action="append", metavar="SCOPE", help="may be repeated; default: usage:write and usage:read"
    )
    token.add_argument(
        "--expires-in",
        type=int,
        default=3600,
        metavar="S",
        help="seconds; below zero for an expired one (default 3600)",
    )
    token.set_defaults(command=_token)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError
    return number


_positive.__name__ = "whole number from 1"
_seconds.__name__ = "number of seconds"


if __name__ == "__main__":
    sys.exit(main())
