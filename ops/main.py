"""The `metering` command: organizations, plans, events and local tokens of a deployed stack.

Exit codes: 0 done; 1 it did not happen, and a line on stderr for each reason says why; 2 the command line is wrong;
130 interrupted; 141 nobody reads what was to be listed (tools.output).
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from ops import events, local_stack, tail
from ops.errors import CommandFailed, UsageWrong
from ops.number import seconds, whole_number
from tools import output

# What talks to AWS or signs takes a third of a second to import. Where it is needed it is imported, so that
# `metering events` looks at the bus as soon as it is started.
if TYPE_CHECKING:
    from metering.model.plans import Plan

    from ops.environments import Environment

_INTERRUPTED = 130


@output.command("metering")
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
        return _run(options)
    except CommandFailed as failed:
        # Not splitlines(): it takes more characters for the end of a line than we end lines by.
        for line in str(failed).split("\n"):
            print(f"metering: {line}", file=sys.stderr)
        return failed.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED


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

    given = {name: value for name in organizations.OPTIONS if (value := getattr(options, name)) is not None}
    wanted = organizations.settings(given, options.limit, datetime.now(UTC))
    where = _environment(options)
    dynamodb = where.access.dynamodb()
    # Asked before the write: if it fails, nothing was done.
    lacks_plan = options.plan is not None and not organizations.has_plan(dynamodb, where.table, options.plan)
    done = organizations.put(dynamodb, where.table, options.name, options.status, wanted, if_exists=options.if_exists)
    change = "created" if done.created else "changed"
    with output.working():
        text = f"{options.name} was {change} and is {done.stored['status']}."
        _tell(options, {"change": change, **done.stored}, text)
    if lacks_plan:
        print(f"metering: there is no plan {options.plan} yet: it limits nothing until it is applied.", file=sys.stderr)
    return 0


def _get_organization(options: argparse.Namespace) -> int:
    from ops import organizations

    where = _environment(options)
    found = organizations.get(where.access.dynamodb(), where.table, options.name)
    _tell(options, found, "\n".join(_text_lines(found)))
    return 0


def _list_organizations(options: argparse.Namespace) -> int:
    from ops import organizations

    where = _environment(options)
    found = organizations.all_of(where.access.dynamodb(), where.table)
    columns = ("organizationId", "status", "planId", "subscriptionStatus")
    text = "\n".join("  ".join(output.one_line(str(one.get(column, "-"))) for column in columns) for one in found)
    _tell(options, {"organizations": found}, text or "There are no organizations.")
    return 0


def _apply_plans(options: argparse.Namespace) -> int:
    from ops import apply, plan_file

    def say(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    wanted = plan_file.read(Path(options.file))
    where = _environment(options)
    dynamodb = where.access.dynamodb()
    found = apply.preview(dynamodb, where.table, wanted, datetime.now(UTC), look_for_usage=not options.yes)
    with nullcontext() if options.dry_run else output.working():
        for line in found.lines():
            say(line)
        if options.dry_run:
            for loss in found.losses():
                say(f"{loss}: needs --yes, or a yes at the terminal.")
            say("Nothing was written: this was a dry run.")
        else:
            apply.confirm(found, sys.stdin, sys.stderr)
            apply.write(dynamodb, where.table, found.changes, say)
        if options.json:
            print(json.dumps(found.content(options.dry_run)))
    return 0


def _get_plan(options: argparse.Namespace) -> int:
    from ops import plan_file, plans

    where = _environment(options)
    plan = plans.get(where.access.dynamodb(), where.table, options.name)
    _tell(options, {"id": plan.id, **plan_file.to_file(plan)}, _as_file([plan]))
    return 0


def _list_plans(options: argparse.Namespace) -> int:
    from ops import plan_file, plans

    where = _environment(options)
    found = plans.read(where.access.dynamodb(), where.table)
    content = {"plans": {plan.id: plan_file.to_file(plan) for plan in found.values()}}
    _tell(options, content, _as_file(found.values()))
    return 0


def _as_file(plans: "Collection[Plan]") -> str:
    """A file that holds these plans, in characters that are printed as they are: what is shown can be applied."""
    from ops import plan_file

    text = plan_file.to_text(plans)
    return text if output.is_shown_as_it_is(text) else plan_file.to_text(plans, is_ascii=True)


def _token(options: argparse.Namespace) -> int:
    from metering.http.caller import ANY_ORGANIZATION

    from ops import organizations, tokens

    if not _is_local(options):
        raise UsageWrong(
            f"only the local stack's issuer is ours: ask the one of {output.one_line(options.env)} for a token."
        )
    stack = local_stack.read(options.local_json)
    try:
        key = tokens.load_key(local_stack.key_file(options.local_json).read_bytes())
    except OSError as failed:
        raise CommandFailed(f"cannot read the local issuer's key {failed.filename}: {failed.strerror}.") from failed
    if options.organization is not None:
        organizations.check(options.organization)
    scopes = [*(options.scope or tokens.SCOPES), *([ANY_ORGANIZATION] if options.any_organization else [])]
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
        return output.CUT
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


def _text_lines(content: dict[str, Any]) -> list[str]:
    """A line for each value, `name: value`, and `name.entry: value` for each entry of a mapping."""
    lines: list[str] = []
    for name, value in content.items():
        if isinstance(value, dict):
            lines += [f"{name}.{line}" for line in _text_lines(value)]
        else:
            shown = str(value).lower() if isinstance(value, bool) else output.one_line(str(value))
            lines.append(f"{name}: {shown}")
    return lines


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


class _Parser(argparse.ArgumentParser):
    """A parser whose messages are a line, whatever it repeats of the command line."""

    def error(self, message: str) -> NoReturn:
        super().error(output.one_line(message))


def _parser() -> argparse.ArgumentParser:
    everywhere = _Parser(add_help=False)
    everywhere.add_argument(
        "--env",
        metavar="NAME",
        default="local",
        help="the environment: `local`, the running local stack (default), or the one whose CloudFormation stacks "
        "are usage-metering-NAME-…, by your AWS credentials and region",
    )
    everywhere.add_argument("--json", action="store_true", help="print one JSON object")

    parser = _Parser(prog="metering", description="Operate a usage-metering stack.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    organizations = commands.add_parser("organizations", help="who may record usage")
    actions = organizations.add_subparsers(metavar="ACTION", required=True)
    put = actions.add_parser(
        "put", parents=[everywhere], help="create an organization, or change what is given and nothing else of it"
    )
    put.add_argument("name", metavar="NAME")
    put.add_argument(
        "--status", choices=["active", "inactive"], help="inactive: it may not record (a new one is active)"
    )
    put.add_argument("--if-exists", action="store_true", help="only change it: do not create it if it does not exist")
    put.add_argument("--plan", metavar="ID", help="its plan's id, as in the plans' file")
    put.add_argument("--plan-name", metavar="TEXT", help="its plan's name as its subscription tells it")
    put.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="FEATURE=LIMIT",
        help="its own limit before its plan's: a whole number, `unlimited`, or `plan` to have none of its own; may be "
        "repeated, up to 50 times",
    )
    put.add_argument("--subscription-id", metavar="ID")
    put.add_argument("--subscription-status", metavar="STATUS", help="TRIALING, ACTIVE, PAST_DUE, CANCELED or PAUSED")
    for option, what in (("start", "began"), ("end", "ends")):
        put.add_argument(
            f"--period-{option}",
            dest=f"current_period_{option}",
            metavar="TIME",
            help=f"when its subscription's period {what}, as 2026-11-01T00:00:00Z",
        )
    put.add_argument("--trial-ends-at", metavar="TIME", help="the same of its trial, or `none`")
    put.add_argument("--cancel-at-period-end", action=argparse.BooleanOptionalAction, help="whether it ends then")
    put.set_defaults(command=_put_organization)
    get = actions.add_parser("get", parents=[everywhere], help="what is stored about an organization")
    get.add_argument("name", metavar="NAME")
    get.set_defaults(command=_get_organization)
    listing = actions.add_parser(
        "list", parents=[everywhere], help="all organizations; reads the whole table, usage records included"
    )
    listing.set_defaults(command=_list_organizations)

    plans = commands.add_parser("plans", help="what there is to use, and how much of it")
    actions = plans.add_subparsers(metavar="ACTION", required=True)
    applying = actions.add_parser("apply", parents=[everywhere], help="bring the stored plans to what a file says")
    applying.add_argument("file", metavar="FILE", help="YAML, as docs/plans.example.yaml")
    applying.add_argument("--dry-run", action="store_true", help="only show what would change")
    applying.add_argument(
        "--yes",
        action="store_true",
        help="do not ask before a feature goes that has usage this period, nor look for such usage: that reads the "
        "whole table",
    )
    applying.set_defaults(command=_apply_plans)
    get = actions.add_parser("get", parents=[everywhere], help="a stored plan, as the file would have it")
    get.add_argument("name", metavar="ID")
    get.set_defaults(command=_get_plan)
    listing = actions.add_parser("list", parents=[everywhere], help="all stored plans, as the file would have them")
    listing.set_defaults(command=_list_plans)

    viewing = commands.add_parser(
        "events", parents=[everywhere], help="print delivered events, one JSON line each, until Ctrl-C"
    )
    viewing.add_argument("--all", action="store_true", help="from the local stack's start, not only from now on")
    viewing.add_argument("--count", type=whole_number(1), metavar="N", help="stop after N events")
    viewing.add_argument("--timeout", type=seconds, metavar="S", help="give up after S seconds, with exit code 1")
    viewing.set_defaults(command=_events)

    token = commands.add_parser("token", parents=[everywhere], help="print a token for the local stack")
    whom = token.add_mutually_exclusive_group(required=True)
    whom.add_argument("--organization", metavar="NAME", help="whom its bearer acts for")
    whom.add_argument(
        "--any-organization",
        action="store_true",
        help="its bearer names in the header Organization-Id whom it acts for",
    )
    token.add_argument(
        "--scope", action="append", metavar="SCOPE", help="may be repeated; default: usage:write and usage:read"
    )
    token.add_argument(
        "--expires-in",
        type=whole_number(),
        default=3600,
        metavar="S",
        help="seconds; below zero for an expired one (default 3600)",
    )
    token.set_defaults(command=_token)
    return parser


if __name__ == "__main__":
    sys.exit(main())
