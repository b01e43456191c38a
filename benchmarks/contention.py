"""The throughput of one busy counter on several shards, against one shard, with real processes and threads.

Each thread is an execution environment of the record function. It runs the recorder's real code on an exact engine. The
engine leaves conflicts out, so hooks on botocore's client add them. A transaction holds its counter's shard for a fixed
time, for all processes. Every other transaction on that shard gets TransactionConflict.

A transaction holds its shard for 6 ms, as in DynamoDB, or for 30 ms. With 6 ms, the machine's CPU soon limits the side
with several shards. With 30 ms, it does so later.

Each round measures both sides, and every other round swaps their order. One side records for a second with the deployed
policy. The other records for a second with a policy of one shard. Each uses a new counter that no execution environment
knows.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import boto3
from botocore.config import Config
from metering.model.clocks import Clocks
from metering.model.errors import Unavailable
from metering.model.periods import billing_period_of
from metering.model.usage import CounterId
from metering.storage import counter_pages
from metering.storage.counter_items import FIRST_SHARD, MAX_PAGES, SHARDS_PER_PAGE
from metering.storage.retry import RetryBudget
from metering.storage.usage_records import USAGE_PREFIX
from metering.usage.counters import Counters
from metering.usage.organization_cache import OrganizationCache
from metering.usage.recorder import Accepted, RecordDeps, RecordUsage, record_usages

from benchmarks.measure import spread
from local import emulator
from tests.testing import engine
from tests.testing.contention import cancelled
from tests.testing.table import put_organization

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TITLE = "contention: requests per second on one hot counter, against one shard"
_HELD_MS = (6, 30)
# About as in DynamoDB.
_REJECTED_AFTER_S = 0.004
# A request's retry budget in a function with a timeout of 15 s.
_DEADLINE_S = 7.5
_NOW = datetime(2026, 11, 23, tzinfo=UTC)
_COUNTER = CounterId("demo-org", billing_period_of(_NOW), "api_calls")

Shared: TypeAlias = Any  # when each shard becomes free; multiprocessing's array has no type that can be named here


@dataclass(frozen=True)
class Crowd:
    """The recorders: processes with `threads` each. A thread is an execution environment."""

    processes: int = 2
    threads: int = 16


@dataclass(frozen=True)
class Order:
    """One side of one round."""

    table: str
    """A new table for this side of this round."""
    round: int
    spreads: bool
    """Whether the deployed policy chooses the shards. Otherwise there is one shard."""
    begins_at_s: float
    """On the monotonic clock, which all processes share."""
    lasts_s: float
    held_s: float
    """How long a transaction holds its shard."""


@dataclass
class Tally:
    """The result of one order, for one environment or for all together."""

    in_time: int = 0
    """Requests that were answered before the end of the order's time."""
    answered: int = 0
    quantity: int = 0
    """The sum over all answered requests."""
    failed: int = 0
    tries: int = 0
    cpu_s: float = 0.0
    """The CPU time of the recording processes."""


def run(
    say: Callable[[str], None], *, rounds: int = 31, lasts_s: float = 1.0, crowd: Crowd | None = None
) -> dict[str, Any]:
    """Measure both sides, for each time that a transaction holds its shard.

    Returns: medians and quartiles over the rounds.
    Raises:
        RuntimeError: a counter, its records and the answers do not add up.
    """
    crowd = crowd or Crowd()
    with tempfile.TemporaryDirectory() as folder, engine.running(Path(folder)) as store:
        with _recording(crowd, store) as record:
            held = {
                f"held for {held_ms} ms": _measured(say, rounds, lasts_s, held_ms, store, record)
                for held_ms in _HELD_MS
            }
        return {"engine": store.name, **asdict(crowd), "rounds": rounds, **held}


def text(measured: dict[str, Any]) -> str:
    """Render the result of `run` as lines of a table."""
    lines = [
        f"{measured['processes']} processes with {measured['threads']} environments each, on {measured['engine']}",
        f"{'medians; records = counters = answered':<38}{'ratio':>20}{'requests/s':>12}{'at most':>9}{'tries':>7}"
        f"{'failed':>8}{'their cores':>13}{'machine busy':>14}",
    ]
    for name, held in measured.items():
        if not isinstance(held, dict):
            continue
        lower, upper = held["ratio"]["quartiles"]
        ratio = f"{held['ratio']['median']:.2f} ({lower:.2f} to {upper:.2f})"
        for side, against, most in (("spread", ratio, ""), ("one shard", "", f"{held['one_shard_serves_per_s']:.0f}")):
            one = held[side]
            shards = one["most_shards"]
            spreading = f"{name}, {'one shard' if shards == 1 else f'up to {shards} shards'}"
            lines.append(
                f"{spreading:<38}{against:>20}{one['requests_per_s']['median']:>12.0f}{most:>9}"
                f"{one['tries_per_request']:>7}{one['failed']:>8}{one['cores_of_the_recorders']['median']:>13}"
                f"{one['machine_busy']['median']:>14.0%}"
            )
    return "\n".join(lines)


_SIDES = {"spread": True, "one shard": False}


def _measured(
    say: Callable[[str], None],
    rounds: int,
    lasts_s: float,
    held_ms: int,
    store: engine.Engine,
    record: Callable[[Order], Tally],
) -> dict[str, Any]:
    tallies: dict[str, list[Tally]] = {side: [] for side in _SIDES}
    busy: dict[str, list[float]] = {side: [] for side in _SIDES}
    shards: dict[str, int] = dict.fromkeys(_SIDES, 0)
    for number in range(rounds):
        say(f"contention, held for {held_ms} ms, round {number + 1} of {rounds}")
        for side in _SIDES if number % 2 else reversed(_SIDES):
            table, _ = store.create_table()
            put_organization(store.dynamodb, table, _COUNTER.organization, "active")
            order = Order(table, number, _SIDES[side], time.monotonic() + 0.05, lasts_s, held_ms / 1000)
            before = _machine_ticks()
            tally = record(order)
            busy[side].append(_busy_share(before, _machine_ticks()))
            tallies[side].append(tally)
            shards[side] = max(shards[side], _shards_of_exact(store, table, tally))
            store.drop_table(table)
    ratios = [
        ours.in_time / max(1, theirs.in_time)
        for ours, theirs in zip(tallies["spread"], tallies["one shard"], strict=True)
    ]
    return {
        "ratio": spread(ratios, 2),
        "one_shard_serves_per_s": round(1000 / held_ms, 1),
        **{
            side: {
                "requests_per_s": spread([tally.in_time / lasts_s for tally in found], 0),
                "tries_per_request": round(_sum(found, "tries") / max(1, _sum(found, "answered")), 2),
                "answered": _sum(found, "answered"),
                "failed": _sum(found, "failed"),
                "most_shards": shards[side],
                "cores_of_the_recorders": spread([tally.cpu_s / lasts_s for tally in found], 2),
                "machine_busy": spread(busy[side], 2),
            }
            for side, found in tallies.items()
        },
    }


def _shards_of_exact(store: engine.Engine, table: str, tally: Tally) -> int:
    """The number of shards that the counter may use now.

    Raises:
        RuntimeError: the counter, its records and the answers do not add up.
    """
    pages = counter_pages.first_page(store.dynamodb, table, _COUNTER).pages
    counted = sum(counter_pages.page_total(store.dynamodb, table, _COUNTER, page) for page in range(pages))
    stored = [int(item["quantity"]["N"]) for item in store.items(table) if item["pk"]["S"].startswith(USAGE_PREFIX)]
    # A failed request may have been recorded.
    exact = sum(stored) == tally.quantity if not tally.failed else sum(stored) >= tally.quantity
    if counted != sum(stored) or not exact or not tally.answered <= len(stored) <= tally.answered + tally.failed:
        raise RuntimeError(
            f"the sums differ. Answered requests: {tally.answered}, with a quantity of {tally.quantity}. "
            f"Failed requests: {tally.failed}. Records: {len(stored)}, with a quantity of {sum(stored)}. "
            f"The counter has {counted}."
        )
    first = counter_pages.first_page(store.dynamodb, table, _COUNTER)
    return first.shards if first.pages == 1 else first.pages * SHARDS_PER_PAGE


@contextmanager
def _recording(crowd: Crowd, store: engine.Engine) -> Iterator[Callable[[Order], Tally]]:
    """Run the recording processes until the end of the block.

    Yields: a function that has all of them carry out an order.
    """
    context = multiprocessing.get_context("spawn")
    held: Shared = context.Array("d", MAX_PAGES * SHARDS_PER_PAGE)
    with ExitStack() as stack:
        pipes = []
        for number in range(crowd.processes):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_carry_out,
                args=(theirs, number, crowd.threads, store.endpoint, store.keys.access_key_id, held),
                daemon=True,
            )
            process.start()
            theirs.close()
            stack.callback(process.join)
            stack.callback(process.terminate)
            ours.recv()
            pipes.append(ours)

        def record(order: Order) -> Tally:
            for pipe in pipes:
                pipe.send(order)
            return _together([pipe.recv() for pipe in pipes])

        yield record


def _carry_out(
    pipe: "Connection[Tally | None, Order]", process: int, threads: int, endpoint: str, access_key_id: str, held: Shared
) -> None:
    session = boto3.Session(access_key_id, emulator.SECRET_ACCESS_KEY, region_name=emulator.REGION)
    config = Config(max_pool_connections=threads, retries={"total_max_attempts": 1}, proxies={})
    client = session.client("dynamodb", endpoint_url=endpoint, config=config)
    holding = _Holding(client, held)
    with ThreadPoolExecutor(threads) as pool:
        pipe.send(None)
        while True:
            order = pipe.recv()
            holding.held_s = order.held_s
            holding.tries.clear()
            cpu_began_s = time.process_time()
            tallies = [pool.submit(_record, order, client, f"{process}-{thread}") for thread in range(threads)]
            tally = _together([each.result() for each in tallies])
            tally.tries, tally.cpu_s = len(holding.tries), time.process_time() - cpu_began_s
            pipe.send(tally)


def _record(order: Order, client: "DynamoDBClient", name: str) -> Tally:
    """Record as one execution environment, one request after the other, until the order's time ends."""
    counters = Counters if order.spreads else _OneShard
    clocks = Clocks(lambda: datetime.now(UTC), time.monotonic)
    organizations = OrganizationCache(client, order.table, clocks)
    known = counters(client, order.table, clocks)
    deps = RecordDeps(client, order.table, organizations, known, timedelta(days=400))
    random = Random(f"{order.round} {name}")
    tally = Tally()
    ends_at_s = order.begins_at_s + order.lasts_s
    time.sleep(max(0.0, order.begins_at_s - time.monotonic()))
    while time.monotonic() < ends_at_s:
        key = f"{name}-{tally.answered + tally.failed}"
        quantity = random.randint(1, 9)
        command = RecordUsage(_COUNTER.organization, _COUNTER.feature, quantity, key, f"1:{key}", trace_id=key)
        budget = RetryBudget(time.monotonic() + _DEADLINE_S, time.monotonic, time.sleep, random)
        try:
            (outcome,) = record_usages([command], deps, budget, _NOW)
        except Unavailable as unavailable:
            outcome = unavailable
        if isinstance(outcome, Accepted) and outcome.current_usage is not None:
            tally.answered += 1
            tally.quantity += quantity
            tally.in_time += time.monotonic() <= ends_at_s
        else:
            tally.failed += 1
    return tally


class _OneShard(Counters):
    """A policy of one shard. It never spreads."""

    def shard(self, counter: CounterId, random: Random, busy: int | None = None) -> int:
        del counter, random, busy
        return FIRST_SHARD

    def shard_busy(self, counter: CounterId, shard: int, budget: RetryBudget, *, throttled: bool) -> bool:
        del counter, shard, budget, throttled
        return False


@dataclass
class _Holding:
    """Makes a client's transactions hold their shard, for all processes that share `until_s`."""

    client: "DynamoDBClient"
    until_s: Shared
    held_s: float = 0.0
    tries: list[None] = field(default_factory=list)
    """One entry for each try."""

    def __post_init__(self) -> None:
        events: Any = self.client.meta.events
        events.register("before-send.dynamodb.TransactWriteItems", self._acquire)
        events.register("response-received.dynamodb.TransactWriteItems", self._release)

    def _acquire(self, request: Any, **_: Any) -> Any:
        self.tries.append(None)
        items = json.loads(request.body)["TransactItems"]
        at = next(at for at, item in enumerate(items) if "Update" in item)
        shard = int(items[at]["Update"]["Key"]["sk"]["S"].rpartition("#")[2])
        with self.until_s.get_lock():
            now_s = time.monotonic()
            is_free = self.until_s[shard] <= now_s
            if is_free:
                request.context["held_until_s"] = self.until_s[shard] = now_s + self.held_s
        if is_free:
            return None
        time.sleep(_REJECTED_AFTER_S)
        return cancelled("TransactionConflict" if index == at else "None" for index in range(len(items)))

    def _release(self, context: dict[str, Any], **_: Any) -> None:
        # As in DynamoDB, the answer comes only when the shard is free again.
        time.sleep(max(0.0, context.get("held_until_s", 0.0) - time.monotonic()))


def _together(tallies: list[Tally]) -> Tally:
    return Tally(*(_sum(tallies, name) for name in asdict(Tally())))


def _sum(tallies: list[Tally], name: str) -> Any:
    return sum(getattr(tally, name) for tally in tallies)


def _machine_ticks() -> tuple[int, int]:
    """The idle time and the total time of the machine's cores, in ticks. Source: proc(5), /proc/stat."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def _busy_share(before: tuple[int, int], after: tuple[int, int]) -> float:
    return 1 - (after[0] - before[0]) / max(1, after[1] - before[1])
