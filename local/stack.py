"""The running stack of this checkout: token issuer, emulator, deployed app, and a record of every delivered event.

All its files are in one directory. ops.local_stack describes the files that other programs read. The others:

    local/emulator.log, local/deploy.log   kept at the end, as are events.jsonl and functions.log
    local/{state,tmp,home,cdk.out}         files of the emulator and the CDK, deleted at the end
"""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from local import api_page, deployment, emulator, issuer, lock, tether
from local.errors import StartFailed
from ops import local_stack, organizations, plan_file, plans, viewer
from ops.access import Access, to_emulator
from ops.errors import CommandFailed, StackNotRunning
from ops.local_stack import Stack
from tools.setup import ROOT

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ORGANIZATIONS = ("demo-org", "acme")
PLANS = ROOT / "docs" / "plans.example.yaml"
# A plan with soft limits, so that a newcomer's load test is not refused.
PLAN = "pro"

# The processes of a killed run end within the tether's grace, 3 s. This adds a margin.
LOCK_WAIT_S = 5.0

# A stop takes a second or two. Report a slower step, so that the user knows what is happening.
SILENCE_S = 3.0


@contextmanager
def running(directory: Path, port: int, say: Callable[[str], None]) -> Iterator[Stack]:
    """Run the stack on `port`, with two organizations, and describe it in `directory / "local.json"`.

    Appends every delivered event to the events file, and reports progress through `say`. At the end, and after any
    failure, all processes have ended and only logs and events remain.

    Raises:
        StartFailed: the stack did not start.
    """
    local_json = directory.absolute() / "local.json"
    work = local_stack.folder(local_json)
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleanup:
        held = cleanup.enter_context(_held(local_json, say))
        # This process has the lock, so all existing files are from a killed run whose processes have ended.
        emulator.check_port_is_free(port)
        _remove(local_json, work)
        cleanup.callback(_remove_leavings, local_json, work, say)
        for folder in ("state", "tmp", "home"):
            (work / folder).mkdir(parents=True)

        endpoint = f"http://127.0.0.1:{port}"
        say(f"starting the emulator on port {port} and the token issuer …")
        key = issuer.make_key(local_stack.key_file(local_json))
        # Use the same ports at each start, so that settings of services and browser tabs stay valid.
        page_port = emulator.port_near(port + 1)
        if page_port != port + 1:
            say(f"port {port + 1} is in use: the API page and the token issuer use port {page_port} this time.")
        issuer_url = cleanup.enter_context(api_page.serving(key, endpoint, page_port))
        keys = emulator.new_keys()
        emulator_log = work / "emulator.log"
        emulator_log.touch(mode=0o600)
        log = cleanup.enter_context(emulator_log.open("wb"))
        emulating = emulator.start(port, keys, work, log, held)
        cleanup.callback(_end, emulating, say)

        say("building the functions …")
        bundle = deployment.build_bundle()
        emulator.wait_until_ready(emulating, endpoint, keys, emulator_log)
        access = to_emulator(endpoint, emulator.REGION, keys.access_key_id, emulator.SECRET_ACCESS_KEY)

        say("deploying both stacks with `cdk deploy` …")
        context = {
            "environment": "local",
            "issuer": issuer_url,
            "audience": local_stack.AUDIENCE,
            "bundle": str(bundle),
        }
        deploy_log = work / "deploy.log"
        deploy_log.touch(mode=0o600)
        outputs = deployment.deploy(access, context, work, deploy_log, held)
        emulator.serve_api(endpoint, keys, deployment.api_id(outputs))

        say(f"creating the organizations {' and '.join(ORGANIZATIONS)} on the plan {PLAN} …")
        try:
            _subscribe(access.dynamodb(), outputs.table, datetime.now(UTC))
            cleanup.enter_context(_recording(access, outputs.bus, local_stack.events_file(local_json)))
        except (BotoCoreError, ClientError, CommandFailed) as failed:
            raise StartFailed(f"the emulator failed: {failed} See {emulator_log}.") from failed

        stack = Stack(
            url=endpoint,
            endpoint=endpoint,
            region=emulator.REGION,
            access_key_id=keys.access_key_id,
            secret_access_key=emulator.SECRET_ACCESS_KEY,
            table=outputs.table,
            bus=outputs.bus,
            queue_url=outputs.queue_url,
            issuer=issuer_url,
            token_endpoint=f"{issuer_url}{issuer.TOKEN_PATH}",
            pid=os.getpid(),
        )
        say(f"token endpoint (OAuth 2.0 client credentials): {stack.token_endpoint}")
        say(f"page to read and try the API: {issuer_url}/")
        cleanup.callback(local_json.unlink, missing_ok=True)
        local_stack.write(stack, local_json)
        yield stack


def _subscribe(dynamodb: "DynamoDBClient", table: str, now: datetime) -> None:
    """Store the example plans, and subscribe each organization to PLAN for the month of `now`."""
    for change in plans.changes({}, plan_file.read(PLANS)):
        plans.write(dynamodb, table, change)
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    subscription = {
        "plan": PLAN,
        "subscription_status": "ACTIVE",
        "current_period_start": start.isoformat(),
        "current_period_end": (start + timedelta(days=32)).replace(day=1).isoformat(),
    }
    for organization in ORGANIZATIONS:
        given = {**subscription, "subscription_id": f"sub-{organization}"}
        organizations.put(dynamodb, table, organization, "active", organizations.settings(given, [], now))


@contextmanager
def _held(local_json: Path, say: Callable[[str], None]) -> Iterator[int]:
    def say_waiting() -> None:
        say(f"another run uses this directory; waiting up to {LOCK_WAIT_S:.0f} s for it to end …")

    try:
        with lock.held(local_stack.lock_file(local_json), LOCK_WAIT_S, say_waiting) as descriptor:
            yield descriptor
    except lock.Locked as held:
        try:
            stack = local_stack.read(local_json)
        except StackNotRunning:
            raise StartFailed(
                f"process {held} is starting or stopping the stack in this directory: wait until it has finished."
            ) from None
        raise StartFailed(f"the stack is already running as process {stack.pid}: {stack.url}") from None


@contextmanager
def _recording(access: Access, bus: str, path: Path) -> Iterator[None]:
    """Append every event that `bus` delivers to `path`, each in one write as soon as it arrives."""
    path.touch(mode=0o600)
    sqs = access.sqs()
    is_over = threading.Event()

    def record(queue: str) -> None:
        with path.open("ab", buffering=0) as file:
            while not is_over.is_set():
                try:
                    lines = viewer.receive(sqs, queue, wait_s=1)
                except (BotoCoreError, ClientError):
                    # The emulator is ending or has ended. The runner also detects this.
                    is_over.wait(0.5)
                    continue
                file.write("".join(f"{line}\n" for line in lines).encode())

    with viewer.subscription(access.events(), sqs, bus) as queue:
        thread = threading.Thread(target=record, args=[queue], daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join(timeout=3)


@contextmanager
def saying_if_slow(say: Callable[[str], None], text: str) -> Iterator[None]:
    """Report `text` if the block takes longer than SILENCE_S."""
    timer = threading.Timer(SILENCE_S, say, [text])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(emulating: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    with saying_if_slow(say, "waiting for the emulator and the functions' workers to end …"):
        tether.end(emulating)


def _remove_leavings(local_json: Path, work: Path, say: Callable[[str], None]) -> None:
    with saying_if_slow(say, f"removing the emulator's files in {work} …"):
        _remove(
            local_json, local_stack.key_file(local_json), *(work / name for name in ("state", "tmp", "home", "cdk.out"))
        )


def _remove(*paths: Path) -> None:
    for path in paths:
        for _ in range(20):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            if not path.exists():
                break
            # A process that was ending has possibly written into the folder meanwhile.
            time.sleep(0.1)
