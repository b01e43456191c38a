"""A process that initializes the functions once and forks an execution environment on request.

Initializing takes a third of a second, forking a few milliseconds, and the tests kill thousands of environments.
Forking also resembles restoring a snapshot: all environments start as copies of one process.

    driver ── (a socket: function, settings, and the environment's own socket) ── fork server
    driver ── (events in, answers out) ── environment

Run as `python -m tests.faults.fork_server CLOCK`. Standard input is the socket for the orders.
"""

import ctypes
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import botocore.session

from tests.faults.clock import Clock, SharedClock

if TYPE_CHECKING:
    from metering.inbound.organization_changes import SubscriptionDeps
    from metering.outbox.publishing import PublisherDeps
    from metering.outbox.thresholds import WatcherDeps
    from metering.record_api import Service
    from metering.usage.organization_cache import OrganizationCache

# Source: prctl(2).
_PR_SET_PDEATHSIG = 1

Respond: TypeAlias = Callable[[Any, Any], Any]


@dataclass
class Context:
    """Lambda's context of one invocation, on the driver's clock."""

    clock: Clock
    timeout_s: float
    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        # The lateness is the time that this invocation has used so far.
        return max(0, int((self.timeout_s - self.clock.late_s) * 1000))


@cache
def record_service() -> "Service":
    """The record function's service, built from environment variables as in its entry file."""
    from metering import record_api

    return record_api.service_from_environment()


@cache
def publisher_deps() -> "PublisherDeps":
    """The publisher's dependencies, built from environment variables as in its entry file."""
    from metering import publisher

    return publisher.deps_from_environment()


@cache
def watcher_deps() -> "WatcherDeps":
    """The watcher's dependencies, built from environment variables as in its entry file."""
    from metering import limit_watcher

    return limit_watcher.deps_from_environment()


@cache
def subscriptions_deps() -> "SubscriptionDeps":
    """The subscriptions function's dependencies, built from environment variables as in its entry file."""
    from metering import subscriptions

    return subscriptions.deps_from_environment()


def record(clock: Clock, directory: "Callable[..., OrganizationCache] | None" = None) -> Respond:
    """The record function on `clock`. `directory` replaces its organization cache."""
    from metering import record_api
    from metering.model.clocks import Clocks
    from metering.usage.counters import Counters
    from metering.usage.organization_cache import OrganizationCache

    service = record_service()
    client, table = service.deps.client, os.environ["TABLE_NAME"]
    clocks = Clocks(clock.now, clock.monotonic)
    known = (directory or OrganizationCache)(client, table, clocks)
    counters = Counters(client, table, clocks)
    deps = replace(service.deps, table=table, organizations=known, counters=counters)
    service = replace(service, deps=deps, now=clock.now, monotonic=clock.monotonic, sleep=clock.sleep)
    return lambda event, context: record_api.respond(event, context, service)


def publisher(clock: Clock) -> Respond:
    """The publisher function on `clock`."""
    from metering import publisher

    deps = replace(publisher_deps(), sleep=clock.sleep)
    return lambda event, context: publisher.respond(event, context, deps)


def watcher(clock: Clock) -> Respond:
    """The watcher function on `clock`."""
    from metering import limit_watcher

    watch = replace(watcher_deps(), table=os.environ["TABLE_NAME"], now=clock.now, noticed=set())
    return lambda event, context: limit_watcher.respond(event, context, watch)


def subscriptions(clock: Clock) -> Respond:
    """The subscriptions function on `clock`."""
    from metering import subscriptions

    deps = replace(subscriptions_deps(), table=os.environ["TABLE_NAME"], now=clock.now)
    return lambda event, _: subscriptions.respond(event, deps)


def operator(clock: Clock) -> Respond:
    """The operators' commands: `plans apply` with one plan, or `organizations put` with limits or a status."""
    from metering.model.plans import Entitlement, Plan

    from ops import apply, organizations

    client, table = record_service().deps.client, os.environ["TABLE_NAME"]

    def respond(event: Any, _: Any) -> None:
        if "plan" in event:
            features = {
                name: Entitlement(
                    limit=None if members["limit"] == "unlimited" else members["limit"],
                    hard=members["enforcement"] == "hard",
                    warn_at=tuple(members["warnAt"]),
                )
                for name, members in event["features"].items()
            }
            plan = Plan(event["plan"], event["plan"].title(), features)
            found = apply.preview(client, table, [plan], clock.now(), look_for_usage=False)
            apply.write(client, table, found.changes, lambda _: None)
        elif "status" in event:
            organizations.put(client, table, event["organization"], event["status"])
        else:
            limits = [f"{feature}={limit}" for feature, limit in event["limits"].items()]
            wanted = organizations.settings({}, limits, clock.now())
            organizations.put(client, table, event["organization"], wanted=wanted)

    return respond


def _over_our_wire(get_session: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `get_session`, so that clients of its sessions send each call to the WIRE_URL set at that time."""

    def redirect(request: Any, **_: Any) -> None:
        request.url = os.environ["WIRE_URL"] + urlsplit(request.url).path

    def get(*arguments: Any, **settings: Any) -> Any:
        session = get_session(*arguments, **settings)
        session.register("before-send", redirect)
        return session

    return get


def main() -> None:
    shared_clock = SharedClock(Path(sys.argv[1]))
    # All boto3 clients get their session here.
    botocore.session.get_session = _over_our_wire(botocore.session.get_session)
    # Initialize everything that the environments share.
    record_service()
    publisher_deps()
    watcher_deps()
    subscriptions_deps()
    importlib.import_module("ops.apply")
    importlib.import_module("ops.organizations")
    # The kernel then reaps ended children.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    orders = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, 1 << 16, 1)
        if not message:
            return  # The driver ended or was killed.
        order = json.loads(message)
        pid = os.fork()
        if pid == 0:
            _die_with_parent()
            orders.close()
            try:
                _live(order, socket.socket(fileno=descriptors[0]), shared_clock.clock(order["number"]))
            finally:
                os._exit(0)
        os.close(descriptors[0])
        orders.sendall(b"%d\n" % pid)


def _die_with_parent() -> None:
    """Make the kernel kill this process when its parent ends, even while busy.

    Only Linux can do this. On other systems the process ends when it is idle.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _live(order: dict[str, Any], driver: socket.socket, clock: Clock) -> None:
    """Answer one event after the other until the driver closes the socket."""
    os.environ.update(order["settings"])
    # botocore calls time.sleep itself between its retries.
    time.sleep = clock.sleep  # type: ignore[assignment] # time.sleep also accepts other number types
    module, _, name = order["function"].partition(":")
    respond = getattr(importlib.import_module(module), name)(clock)
    with driver, driver.makefile("rb") as events:
        for line in events:
            request = json.loads(line)
            try:
                answer = respond(request["event"], Context(clock, order["timeout_s"], request["invocation"]))
            except Exception as error:  # noqa: BLE001 - Lambda's runtime reports any error
                answer = {"errorType": type(error).__name__, "errorMessage": str(error)}
            driver.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    # Run the module under its own name, not as __main__, so that the environments find its cached services.
    importlib.import_module("tests.faults.fork_server").main()
