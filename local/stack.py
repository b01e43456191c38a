"""The whole stack of this checkout, running: issuer, emulator, deployed app, and everything it delivers on record.

What it makes is in one directory, whose files ops.local_stack explains. Beside those:

    local/emulator.log, local/deploy.log   kept when it ends, as are events.jsonl and functions.log
    local/{state,tmp,home,cdk.out}         the emulator's and the CDK's; deleted
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
# Its limits are soft: a newcomer's load test is not refused.
PLAN = "pro"

# What a killed run left takes this long to end at most: the tether's grace, and some.
LOCK_WAIT_S = 5.0

# Stopping takes a second or two. What takes longer is said, so that nobody wonders.
SILENCE_S = 3.0


@contextmanager
def running(directory: Path, port: int, say: Callable[[str], None]) -> Iterator[Stack]:
    """The stack, ready: deployed on `port`, with two organizations, and `directory / "local.json"` tells where.

    Every event delivered from now on is appended to its events file. `say` is told what is being done. At the end, and
    after any failure, nothing of it runs any more and only its logs and events remain.

    Raises:
        StartFailed: it could not be started.
    """
    local_json = directory.absolute() / "local.json"
    work = local_stack.folder(local_json)
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleanup:
        held = cleanup.enter_context(_held(local_json, say))
        # From here on whatever is found is of a run that was killed, and of which nothing runs any more.
        emulator.check_port_is_free(port)
        _remove(local_json, work)
        cleanup.callback(_remove_leavings, local_json, work, say)
        for folder in ("state", "tmp", "home"):
            (work / folder).mkdir(parents=True)

        endpoint = f"http://127.0.0.1:{port}"
        say(f"starting the emulator on port {port} and the token issuer …")
        key = issuer.make_key(local_stack.key_file(local_json))
        # The same ports each time, so that settings of services and tabs of browsers outlive a restart.
        page_port = emulator.port_near(port + 1)
        if page_port != port + 1:
            say(f"port {port + 1} is taken: the page and the tokens are on port {page_port} this time.")
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
            raise StartFailed(f"the emulator does not do its work: {failed} See {emulator_log}.") from failed

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
        say(f"tokens for a service (OAuth 2.0 client credentials): {stack.token_endpoint}")
        say(f"to read and try the API: {issuer_url}/")
        cleanup.callback(local_json.unlink, missing_ok=True)
        local_stack.write(stack, local_json)
        yield stack


def _subscribe(dynamodb: "DynamoDBClient", table: str, now: datetime) -> None:
    """Store the example plans, and each organization with a subscription to PLAN that lasts for the month of `now`."""
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
        say(f"another run has this directory; giving it {LOCK_WAIT_S:.0f} s to end …")

    try:
        with lock.held(local_stack.lock_file(local_json), LOCK_WAIT_S, say_waiting) as descriptor:
            yield descriptor
    except lock.Locked as held:
        try:
            stack = local_stack.read(local_json)
        except StackNotRunning:
            raise StartFailed(f"process {held} is starting or stopping the stack of this directory already.") from None
        raise StartFailed(f"it is running already, as process {stack.pid}: {stack.url}") from None


@contextmanager
def _recording(access: Access, bus: str, path: Path) -> Iterator[None]:
    """Append every event that `bus` delivers to `path`, each at once and whole."""
    path.touch(mode=0o600)
    sqs = access.sqs()
    is_over = threading.Event()

    def record(queue: str) -> None:
        with path.open("ab", buffering=0) as file:
            while not is_over.is_set():
                try:
                    lines = viewer.receive(sqs, queue, wait_s=1)
                except (BotoCoreError, ClientError):
                    # The emulator is ending, or was ended: who runs this sees that for itself.
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
def saying_if_slow(say: Callable[[str], None], what: str) -> Iterator[None]:
    """Say `what`, if the block takes more than SILENCE_S."""
    teller = threading.Timer(SILENCE_S, say, [what])
    teller.start()
    try:
        yield
    finally:
        teller.cancel()


def _end(emulating: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    with saying_if_slow(say, "waiting for the emulator and the functions' workers to end …"):
        tether.end(emulating)


def _remove_leavings(local_json: Path, work: Path, say: Callable[[str], None]) -> None:
    with saying_if_slow(say, f"removing what the emulator left in {work} …"):
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
            # Somebody who was ended just now wrote into it meanwhile.
            time.sleep(0.1)
