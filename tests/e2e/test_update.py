"""An update from the last release to this checkout loses nothing, with stored data and active callers.

All these tests share a stack of their own. It is deployed as released and used, and the real `cdk deploy` updates it
while callers record.
"""

import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ops import local_stack, organizations, viewer
from ops.access import Access, to_emulator
from ops.local_stack import Stack
from tests.testing import months
from tests.testing.local_stack import LocalStack, ids
from tests.testing.payloads import example
from tests.testing.table import counted, records

if TYPE_CHECKING:
    from local.emulator import Keys
    from ops.environments import Outputs

_FEATURES = ("api_calls", "storage_gb", "seats")
_CALLERS = 2
_CLIENTS_PATIENCE_S = 15.0

# The usual 300 s, and the 300 s that `within_one_month` may wait.
pytestmark = [pytest.mark.verify, pytest.mark.timeout(300 + 300)]


@dataclass
class Caller:
    """A client that records one usage after another and sends each until it gets an answer."""

    stack: LocalStack
    organization: str
    sent: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """Each recorded usage, with the time of its answer."""
    refused: list[str] = field(default_factory=list)
    """The last answer to each usage that was not recorded."""

    def record_until(self, is_over: threading.Event) -> None:
        for number in itertools.count(1):
            if is_over.is_set():
                return
            body = example(
                idempotencyKey=f"k-{number}", quantity=number % 7 + 1, feature=_FEATURES[number % len(_FEATURES)]
            )
            answer = self._answer(body)
            if answer is not None and answer.status_code == 200:
                self.sent.append((time.monotonic(), body))
            else:
                self.refused.append("no answer" if answer is None else f"{answer.status_code} {answer.text}")
            is_over.wait(0.1)

    def _answer(self, body: dict[str, Any]) -> httpx.Response | None:
        """Send `body` with the same key until the answer is final or the client gives up.

        Returns: the last answer, or None if there was none.
        """
        give_up = time.monotonic() + _CLIENTS_PATIENCE_S
        while True:
            try:
                answer = self.stack.record(self.organization, body)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code != 429 and answer.status_code < 500:
                return answer
            if time.monotonic() > give_up:
                return answer
            time.sleep(0.2)


@dataclass(frozen=True)
class Updated:
    """The updated stack, and facts about it from before the update."""

    stack: LocalStack
    before: "Outputs"
    after: "Outputs"
    code: dict[str, str]
    """The hash of each function's code before the update."""
    totals: dict[str, dict[str, int]]
    """The last total that each organization got for each of its features."""
    growing: tuple[str, dict[str, int]]
    """The same for one more organization, which records more usage after the update."""
    callers: list[Caller]
    began: float
    ended: float


@pytest.fixture(scope="module", autouse=True)
def within_one_month() -> None:
    # Wait once, because all following tests ask again for totals from before the update. All of them took 160 s on a
    # busy machine.
    months.wait_for_room(300)


@pytest.fixture(scope="module")
def updated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Updated]:
    # Imported here, so that a run of other tests does not wait for the import of the CDK.
    from infra.environments import LOCAL
    from local import deployment
    from ops.environments import outputs_of
    from tests.released import releases

    work = tmp_path_factory.mktemp("update") / "local"
    with _emulator(work) as (access, keys, issuer_url, lock):
        releases.deploy(releases.newest(), access, issuer_url)
        before = outputs_of(access.cloudformation(), LOCAL.name)
        with viewer.subscription(access.events(), access.sqs(), before.bus) as queue:
            stack = _local_stack(access, keys, before, queue, issuer_url, work.with_suffix(".json"))
            totals = {organization: _use(stack, organization) for organization in _new_organizations(stack, 3)}
            (growing,) = _new_organizations(stack, 1)
            of_growing = _use(stack, growing)
            callers = [Caller(stack, organization) for organization in _new_organizations(stack, _CALLERS)]
            code = _code(access)
            with _recording(callers):
                began = time.monotonic()
                context = {
                    "environment": LOCAL.name,
                    "issuer": issuer_url,
                    "audience": local_stack.AUDIENCE,
                    "bundle": str(deployment.build_bundle()),
                }
                after = deployment.deploy(access, context, work, work / "deploy.log", lock)
                ended = time.monotonic()
            yield Updated(stack, before, after, code, totals, (growing, of_growing), callers, began, ended)


def test_the_update_replaces_the_code_of_every_function(updated: Updated) -> None:
    now = _code(updated.stack.access)
    assert updated.code.keys() <= now.keys()
    assert all(now[function] != updated.code[function] for function in updated.code)


def test_table_bus_queue_and_url_stay_the_same_ones(updated: Updated) -> None:
    assert updated.after == updated.before


def test_organizations_outlive_the_update(updated: Updated) -> None:
    for organization in updated.totals:
        kept = organizations.get(updated.stack.dynamodb, updated.before.table, organization)
        assert (kept["organizationId"], kept["status"]) == (organization, "active")


def test_a_key_from_before_the_update_is_replayed_with_the_total_of_before(updated: Updated) -> None:
    for organization, last in updated.totals.items():
        for body in _usages():
            replay = updated.stack.record(organization, body)
            assert (replay.status_code, replay.headers["idempotent-replayed"]) == (200, "true")
            assert replay.json()["currentUsage"] == last[body["feature"]]


def test_a_key_from_before_the_update_still_conflicts_with_other_content(updated: Updated) -> None:
    for organization in updated.totals:
        reused = updated.stack.record(organization, _usages()[0] | {"quantity": 999})
        assert (reused.status_code, reused.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_no_request_fails_while_the_stack_is_updated(updated: Updated) -> None:
    assert [caller.refused for caller in updated.callers] == [[]] * _CALLERS


def test_callers_recorded_before_while_and_after_the_stack_was_updated(updated: Updated) -> None:
    for caller in updated.callers:
        at = [moment for moment, _ in caller.sent]
        assert any(moment < updated.began for moment in at)
        assert sum(updated.began < moment < updated.ended for moment in at) >= 10
        assert any(moment > updated.ended for moment in at)


def test_no_record_no_count_and_no_event_is_lost_by_the_update(updated: Updated) -> None:
    for caller in updated.callers:
        sent = {body["idempotencyKey"]: body["quantity"] for _, body in caller.sent}
        _assert_all_there(updated.stack, caller.organization, sent)
    for organization in updated.totals:
        _assert_all_there(updated.stack, organization, {body["idempotencyKey"]: body["quantity"] for body in _usages()})


def test_new_usage_adds_to_the_totals_of_before(updated: Updated) -> None:
    organization, totals = updated.growing
    for feature, total in totals.items():
        body = example(idempotencyKey=f"after-{feature}", feature=feature, quantity=5)
        answer = updated.stack.record(organization, body)
        assert (answer.status_code, answer.json()["currentUsage"]) == (200, total + 5)
        assert "idempotent-replayed" not in answer.headers


def _assert_all_there(stack: LocalStack, organization: str, sent: dict[str, int]) -> None:
    """Check that the usage in `sent` is stored, counted and published, each with one id."""
    stored = records(stack.dynamodb, stack.table, organization)
    assert {item["sk"]["S"]: int(item["quantity"]["N"]) for item in stored} == sent
    assert counted(stack.dynamodb, stack.table, organization) == (sum(sent.values()), len(sent))
    events = stack.events(organization, at_least=len(sent), settle_s=0)
    # An event may come more than once, always with the same id.
    assert ids(events).keys() == {item["eventId"]["S"] for item in stored}
    published = {event["detail"]["id"]: event["detail"]["payload"]["quantity"] for event in events}
    assert sum(published.values()) == sum(sent.values())


def _usages() -> list[dict[str, Any]]:
    """The usage of each organization before the update."""
    return [
        example(idempotencyKey=f"before-{number}", feature=feature, quantity=number + 1, metadata={"n": number})
        for number, feature in enumerate(_FEATURES * 2)
    ]


def _new_organizations(stack: LocalStack, number: int) -> list[str]:
    return [stack.new_organization() for _ in range(number)]


def _use(stack: LocalStack, organization: str) -> dict[str, int]:
    """Record `_usages`, one of them twice.

    Returns: the last total of each feature.
    """
    totals: dict[str, int] = {}
    for body in _usages():
        answer = stack.record(organization, body)
        assert answer.status_code == 200, answer.text
        totals[body["feature"]] = answer.json()["currentUsage"]
    replay = stack.record(organization, _usages()[0])
    assert replay.headers["idempotent-replayed"] == "true"
    return totals


@contextmanager
def _recording(callers: list[Caller]) -> Iterator[None]:
    """Let all `callers` record before, during and after the block."""
    is_over = threading.Event()
    with ThreadPoolExecutor(len(callers)) as pool:
        running = [pool.submit(caller.record_until, is_over) for caller in callers]
        try:
            _wait_for_answers(callers, 3)
            yield
            _wait_for_answers(callers, 3)
        finally:
            is_over.set()
        for caller in running:
            caller.result()


def _wait_for_answers(callers: list[Caller], more: int) -> None:
    """Wait until each caller has `more` answers than now."""

    def answers() -> list[int]:
        return [len(caller.sent) + len(caller.refused) for caller in callers]

    goals = [count + more for count in answers()]
    while any(count < goal for count, goal in zip(answers(), goals, strict=True)):
        time.sleep(0.05)


@contextmanager
def _emulator(work: Path) -> Iterator[tuple[Access, "Keys", str, int]]:
    """An empty emulator: its access, its keys, a token issuer's URL, and the lock for starting a stack."""
    from local import emulator, issuer, tether

    for folder in ("state", "tmp", "home"):
        (work / folder).mkdir(parents=True)
    port = emulator.free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with ExitStack() as cleanup:
        key = issuer.make_key(local_stack.key_file(work.with_suffix(".json")))
        issuer_url = cleanup.enter_context(issuer.serving(key))
        log = cleanup.enter_context((work / "emulator.log").open("wb"))
        lock = os.open(work / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        cleanup.callback(os.close, lock)
        keys = emulator.new_keys()
        process = emulator.start(port, keys, work, log, lock)
        cleanup.callback(tether.end, process)
        emulator.wait_until_ready(process, endpoint, keys, work / "emulator.log")
        access = to_emulator(endpoint, emulator.REGION, keys.access_key_id, emulator.SECRET_ACCESS_KEY)
        yield access, keys, issuer_url, lock


def _local_stack(
    access: Access, keys: "Keys", outputs: "Outputs", queue: str, issuer: str, local_json: Path
) -> LocalStack:
    from local import deployment, emulator

    endpoint = access.endpoint or ""
    emulator.serve_api(endpoint, keys, deployment.api_id(outputs))
    return LocalStack(
        Stack(
            url=endpoint,
            endpoint=endpoint,
            region=emulator.REGION,
            access_key_id=keys.access_key_id,
            secret_access_key=emulator.SECRET_ACCESS_KEY,
            table=outputs.table,
            bus=outputs.bus,
            queue_url=queue,
            issuer=issuer,
            token_endpoint=f"{issuer}/token",
            pid=os.getpid(),
        ),
        local_json,
    )


def _code(access: Access) -> dict[str, str]:
    client: Any = access.session.client("lambda", endpoint_url=access.endpoint, config=access.config)
    found = client.list_functions()["Functions"]
    return {function["Handler"]: function["CodeSha256"] for function in found}
