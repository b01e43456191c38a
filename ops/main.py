"""The `metering` command: organizations, plans, usage, events and local tokens of a deployed stack.

Exit codes:
    0    success
    1    failure; stderr has one line for each reason
    2    the command line is wrong
    130  interrupted
    141  the reader closed the pipe (tools.output)
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

from ops import events, local_stack, names, tail
from ops.errors import CommandFailed, UsageWrong
from ops.number import seconds, whole_number
from tools import output

# Modules that call AWS or sign tokens take a third of a second to import. Each command imports only the modules that it
# needs, so that `metering events` reads the bus immediately.
if TYPE_CHECKING:
    from metering.model.plans import Plan
    from mypy_boto3_dynamodb import DynamoDBClient

    from ops.environments import Environment

_INTERRUPTED = 130


@output.command("metering")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns: the exit code.
    """
    # Read this position first: `metering events` shows the events delivered after this moment.
    local_json = local_stack.default_path()
    position = tail.end_of(local_stack.events_file(local_json))
    options = _parser().parse_args(arguments)
    options.local_json, options.position = local_json, position
    try:
        return _run(options)
    except CommandFailed as failed:
        # Not splitlines(): it also splits at characters that these messages do not use as line ends.
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
        raise CommandFailed(f"no connection to {failed.kwargs['endpoint_url']}: check that it is running.") from failed
    except NoRegionError as failed:
        raise CommandFailed("no AWS region is set: set AWS_REGION, or a region in your AWS profile.") from failed
    except ClientError as failed:
        error = failed.response["Error"]
        message = f"AWS answered {failed.operation_name} with {error['Code']}: {error['Message']}"
        raise CommandFailed(_one_sentence(message)) from failed
    except BotoCoreError as failed:
        raise CommandFailed(_one_sentence(f"cannot call AWS: {failed}")) from failed


def _put_organization(options: argparse.Namespace) -> int:
    from ops import organizations

    given = {name: value for name in organizations.OPTIONS if (value := getattr(options, name)) is not None}
    wanted = organizations.settings(given, options.limit, datetime.now(UTC))
    where = _environment(options)
    dynamodb = where.access.dynamodb()
    # Read the plans before the write, so that a failed read leaves nothing written.
    stored_plans = None
    if options.plan is not None and not organizations.has_plan(dynamodb, where.table, options.plan):
        from ops import plans

        stored_plans = plans.ids(dynamodb, where.table)
    done = organizations.put(dynamodb, where.table, options.name, options.status, wanted, if_exists=options.if_exists)
    change = "created" if done.created else "changed"
    changes = [] if done.created else done.changes()
    with output.working():
        if done.created or changes:
            text = f"{options.name} was {change} and is {done.stored['status']}."
        else:
            text = f"{options.name} has these settings already and is {done.stored['status']}."
        _print(options, {"change": change, **done.stored}, "\n".join([text, *(f"  {line}" for line in changes)]))
    if stored_plans is not None:
        print(
            f"metering: there is no plan {options.plan}. Until you apply this plan, {options.name} has access only to "
            f"features with a limit of its own. Stored plans: {', '.join(stored_plans) or 'none'}.",
            file=sys.stderr,
        )
    return 0


def _get_organization(options: argparse.Namespace) -> int:
    from ops import organizations

    where = _environment(options)
    found = organizations.get(where.access.dynamodb(), where.table, options.name)
    _print(options, found, "\n".join(_text_lines(found)))
    return 0


def _list_organizations(options: argparse.Namespace) -> int:
    from ops import organizations

    where = _environment(options)
    found = organizations.all_of(where.access.dynamodb(), where.table)
    columns = ("organizationId", "status", "planId", "subscriptionStatus")
    text = "\n".join("  ".join(output.one_line(str(one.get(column, "-"))) for column in columns) for one in found)
    _print(options, {"organizations": found}, text or "There are no organizations.")
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
                say(f"{loss}: confirm this at the terminal or with --yes.")
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
    _print(options, {"id": plan.id, **plan_file.to_file(plan)}, _as_file([plan]))
    return 0


def _list_plans(options: argparse.Namespace) -> int:
    from ops import plan_file, plans

    where = _environment(options)
    found = plans.read(where.access.dynamodb(), where.table)
    content = {"plans": {plan.id: plan_file.to_file(plan) for plan in found.values()}}
    _print(options, content, _as_file(found.values()))
    return 0


def _delete_plan(options: argparse.Namespace) -> int:
    from ops import plan_file, plans

    where = _environment(options)
    dynamodb = where.access.dynamodb()
    plan = plans.get(dynamodb, where.table, options.name)
    plans.check_unused(dynamodb, where.table, plan)
    with output.working():
        plans.delete(dynamodb, where.table, plan)
        # A crash before this line leaves features of no plan among the known features. The next run removes them.
        plans.forget_unused_features(dynamodb, where.table)
        content = {"change": "deleted", "id": plan.id, **plan_file.to_file(plan)}
        _print(options, content, f"{plan.id} was deleted.")
    return 0


def _as_file(plans: "Collection[Plan]") -> str:
    """The plan file of these plans, in characters that standard output prints unchanged, so that it can be applied."""
    from ops import plan_file

    text = plan_file.to_text(plans)
    return text if output.is_shown_as_it_is(text) else plan_file.to_text(plans, is_ascii=True)


def _get_usage(options: argparse.Namespace) -> int:
    from metering.http.records import record_output

    from ops import usage_records

    dynamodb, table = _table_of_known(options)
    record = record_output(usage_records.get(dynamodb, table, options.organization, options.key))
    shown = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in record.items()}
    _print(options, {**record}, "\n".join(_text_lines(shown)))
    return 0


def _list_usage(options: argparse.Namespace) -> int:
    from metering.http.records import record_output
    from metering.model.usage import RecordFilter

    from ops import usage_records

    wanted = RecordFilter(options.period, options.feature)
    dynamodb, table = _table_of_known(options)
    lead = '{"records": ['
    for usages in usage_records.listed(dynamodb, table, options.organization, wanted):
        for record in map(record_output, usages):
            if options.json:
                print(lead, json.dumps(record), sep="", end="")
                lead = ", "
            else:
                print(record["recordedAt"], record["feature"], record["quantity"], record["idempotencyKey"], sep="  ")
    if options.json:
        print("]}" if lead == ", " else '{"records": []}')
    return 0


def _export_usage(options: argparse.Namespace) -> int:
    from ops import export
    from ops.errors import SumsDiffer

    dynamodb, table = _table_of_known(options)
    with nullcontext(sys.stdout) if options.output is None else export.replacing(Path(options.output)) as out:
        summary = export.export(dynamodb, table, options.organization, options.period, options.format, out)
    print(f"metering: {summary.text()}", file=sys.stderr)
    if summary.differences:
        raise SumsDiffer("\n".join(summary.complaints()))
    return 0


def _show_usage(options: argparse.Namespace) -> int:
    from metering.model.periods import billing_period_of

    from ops import usage_view

    dynamodb, table = _table_of_known(options)
    period = options.period or billing_period_of(datetime.now(UTC))
    view = usage_view.read(dynamodb, table, options.organization, period)
    _print(options, view.content(), view.text())
    return 0


def _table_of_known(options: argparse.Namespace) -> "tuple[DynamoDBClient, str]":
    """The client and the table's name. The organization is stored, so that a typing error is no empty result."""
    from ops import organizations

    where = _environment(options)
    dynamodb = where.access.dynamodb()
    organizations.get(dynamodb, where.table, options.organization)
    return dynamodb, where.table


def _token(options: argparse.Namespace) -> int:
    from metering.http.caller import ANY_ORGANIZATION

    from ops import organizations, tokens

    if not _is_local(options):
        raise UsageWrong(
            f"`metering token` is for the local stack: ask the issuer of {output.one_line(options.env)} for a token."
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
    _print(options, {"token": token}, token)
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
        # Without a count, Ctrl-C is the normal end. With a count, fewer events arrived than requested.
        return 0 if options.count is None else _INTERRUPTED
    if is_late():
        raise CommandFailed(f"gave up after {options.timeout:g} s.")
    if events.is_unread(sys.stdout):
        return output.CUT
    print("metering: the local stack has stopped.", file=sys.stderr)
    return 0 if options.count is None else 1


def _lines(
    options: argparse.Namespace, deadline: float | None, is_over: Callable[[], bool]
) -> Generator[str, None, None]:
    if _is_local(options):
        stack = local_stack.read(options.local_json)
        position = 0 if options.all else options.position
        return events.delivered_locally(options.local_json, stack, position, is_over)
    if options.all:
        raise UsageWrong("--all works with the local stack only: on AWS, this command shows new events only.")
    return events.delivered(_environment(options), deadline, is_over)


def _is_local(options: argparse.Namespace) -> bool:
    return bool(options.env == "local")


def _environment(options: argparse.Namespace) -> "Environment":
    from ops import environments

    if _is_local(options):
        return environments.local_environment(local_stack.read(options.local_json))
    return environments.cloud_environment(options.env)


def _print(options: argparse.Namespace, content: dict[str, Any], text: str) -> None:
    # boto3 returns numbers as Decimal; those in our items are whole.
    print(json.dumps(content, default=int) if options.json else text)


def _text_lines(content: dict[str, Any]) -> list[str]:
    """One line for each value: `name: value`, or `name.entry: value` for an entry of a mapping."""
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
    # A shell starts a background job with Ctrl-C ignored, but on AWS this command must remove its rule and queue.
    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


class _Parser(argparse.ArgumentParser):
    """A parser that prints each error in one line, even if it quotes line breaks of the command line."""

    def error(self, message: str) -> NoReturn:
        super().error(output.one_line(message))


def _parser() -> argparse.ArgumentParser:
    environment = _Parser(add_help=False)
    environment.add_argument(
        "--env",
        metavar="NAME",
        default="local",
        help="deployment environment. `local` is the running local stack (default). Any other name selects the "
        "CloudFormation stacks usage-metering-NAME-… in your AWS account and region.",
    )
    everywhere = _Parser(add_help=False, parents=[environment])
    everywhere.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    parser = _Parser(prog="metering", description="Operate a usage-metering deployment.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    organizations = commands.add_parser("organizations", help="create, change and show organizations")
    actions = organizations.add_subparsers(metavar="ACTION", required=True)
    put = actions.add_parser(
        "put",
        parents=[everywhere],
        help="create or change an organization",
        description="Create an organization, or change an existing one. Settings without an option stay unchanged.",
    )
    put.add_argument("name", metavar="NAME", help="name of the organization")
    put.add_argument(
        "--status",
        choices=["active", "inactive"],
        help="an inactive organization cannot record usage (default for a new organization: active)",
    )
    put.add_argument("--if-exists", action="store_true", help="fail instead of creating the organization")
    put.add_argument("--plan", metavar="ID", help="id of its plan, as in the plan file")
    put.add_argument("--plan-name", metavar="TEXT", help="name of its plan, as its subscription gives it")
    put.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="FEATURE=LIMIT",
        help="limit that replaces its plan's limit: a whole number, `unlimited`, or `plan` to use the plan's limit "
        "again. Repeat it up to 50 times",
    )
    put.add_argument("--subscription-id", metavar="ID", help="id of its subscription")
    put.add_argument("--subscription-status", metavar="STATUS", help="TRIALING, ACTIVE, PAST_DUE, CANCELED or PAUSED")
    for option, example in (("start", "2026-11-01T00:00:00Z"), ("end", "2026-12-01T00:00:00Z")):
        put.add_argument(
            f"--period-{option}",
            dest=f"current_period_{option}",
            metavar="TIME",
            help=f"{option} of its current subscription period, such as {example}",
        )
    put.add_argument("--trial-ends-at", metavar="TIME", help="end of its trial, or `none` for no trial")
    put.add_argument(
        "--cancel-at-period-end",
        action=argparse.BooleanOptionalAction,
        help="whether its subscription ends with the current period",
    )
    put.set_defaults(command=_put_organization)
    get = actions.add_parser("get", parents=[everywhere], help="show an organization")
    get.add_argument("name", metavar="NAME", help="name of the organization")
    get.set_defaults(command=_get_organization)
    listing = actions.add_parser(
        "list",
        parents=[everywhere],
        help="show all organizations",
        description="Show all organizations. An organization that was created in the last seconds can be missing.",
    )
    listing.set_defaults(command=_list_organizations)

    plans = commands.add_parser("plans", help="apply, show and delete plans")
    actions = plans.add_subparsers(metavar="ACTION", required=True)
    applying = actions.add_parser(
        "apply",
        parents=[everywhere],
        help="create or change plans from a file",
        description="Create or change the stored plans as FILE describes them. Other stored plans stay unchanged. "
        "Ask before a plan loses a feature that its organizations used in this billing period.",
    )
    applying.add_argument("file", metavar="FILE", help="plan file in YAML, such as docs/plans.example.yaml")
    applying.add_argument("--dry-run", action="store_true", help="show the changes and write nothing")
    applying.add_argument(
        "--yes",
        action="store_true",
        help="remove features without asking; also skips the search for their usage",
    )
    applying.set_defaults(command=_apply_plans)
    get = actions.add_parser("get", parents=[everywhere], help="show a stored plan in the plan file's format")
    get.add_argument("name", metavar="ID", help="id of the plan")
    get.set_defaults(command=_get_plan)
    listing = actions.add_parser("list", parents=[everywhere], help="show all stored plans in the plan file's format")
    listing.set_defaults(command=_list_plans)
    delete = actions.add_parser(
        "delete",
        parents=[everywhere],
        help="delete a plan that no organization is on",
        description="Delete a plan. The command fails while an organization is on the plan. Another command "
        "or an event can put an organization on the plan at the same time. That organization stays on the deleted "
        "plan. It then has access only to features with a limit of its own, until you apply the plan again.",
    )
    delete.add_argument("name", metavar="ID", help="id of the plan")
    delete.set_defaults(command=_delete_plan)

    _add_usage(commands.add_parser("usage", help="show, list and export usage"), everywhere)

    viewing = commands.add_parser(
        "events",
        parents=[environment],
        help="print events as the bus delivers them",
        description="Print each event that the bus delivers as one JSON line, until Ctrl-C.",
    )
    viewing.add_argument(
        "--json", action="store_true", help="no effect: this command always prints one JSON object per event"
    )
    viewing.add_argument(
        "--all", action="store_true", help="also print earlier events of the local stack, since its start"
    )
    viewing.add_argument("--count", type=whole_number(1), metavar="N", help="stop after N events")
    viewing.add_argument("--timeout", type=seconds, metavar="S", help="stop after S seconds with exit code 1")
    viewing.set_defaults(command=_events)

    token = commands.add_parser(
        "token",
        parents=[everywhere],
        help="print an access token for the local stack",
        description="Print an access token for the API of the running local stack. The stack's own issuer signs it.",
    )
    whom = token.add_mutually_exclusive_group(required=True)
    whom.add_argument("--organization", metavar="NAME", help="organization that the caller acts for")
    whom.add_argument(
        "--any-organization",
        action="store_true",
        help="the caller names the organization in the header Organization-Id",
    )
    token.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="scope of the token; can be repeated (default: usage:write and usage:read)",
    )
    token.add_argument(
        "--expires-in",
        type=whole_number(),
        default=3600,
        metavar="S",
        help="lifetime in seconds; a negative number makes an expired token (default: 3600)",
    )
    token.set_defaults(command=_token)
    return parser


def _add_usage(usage: argparse.ArgumentParser, everywhere: argparse.ArgumentParser) -> None:
    actions = usage.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, command: Callable[[argparse.Namespace], int], **texts: Any) -> argparse.ArgumentParser:
        made = actions.add_parser(name, parents=[everywhere], **texts)
        made.add_argument("--organization", metavar="NAME", required=True, help="name of the organization")
        made.set_defaults(command=command)
        return made

    def period(made: argparse.ArgumentParser, text: str, *, required: bool = False) -> None:
        made.add_argument("--period", type=names.billing_period, metavar="PERIOD", required=required, help=text)

    showing = action("show", _show_usage, help="show the usage of a billing period, with limits and days")
    period(showing, "billing period, such as 2026-11 (default: the current one)")
    getting = action("get", _get_usage, help="show the usage record of an idempotency key")
    getting.add_argument("key", type=names.idempotency_key, metavar="KEY", help="idempotency key")
    listing = action("list", _list_usage, help="list usage records, in no order in time")
    period(listing, "only records of this billing period, such as 2026-11")
    listing.add_argument("--feature", type=names.feature, metavar="FEATURE", help="only records of this feature")
    exporting = action(
        "export",
        _export_usage,
        help="write all usage records of a billing period, and compare their sums with the counters",
        description="Write all usage records of a billing period, and compare their sums with the counters. The exit "
        "code is 1 if they differ. A summary goes to standard error and, as JSONL, into the last line.",
    )
    period(exporting, "billing period, such as 2026-11", required=True)
    exporting.add_argument("--format", choices=["csv", "jsonl"], default="csv", help="format (default: csv)")
    exporting.add_argument("--output", metavar="FILE", help="file to write or replace (default: standard output)")


if __name__ == "__main__":
    sys.exit(main())
