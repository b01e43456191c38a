"""Run a scenario until all its work is done, the stream is delivered and the evidence is complete."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

from metering.storage.usage_records import usage_key

from tests.faults.evidence import Attempt, BatchAttempt, Change, Evidence, Snapshot
from tests.faults.stored import fact_in
from tests.faults.workload import UNTIL_ANSWERED
from tests.simulation.clients import Clients
from tests.simulation.delivery import Delivery
from tests.simulation.functions import builders, simulated_modules
from tests.simulation.oracle import Oracle
from tests.simulation.others import Others
from tests.simulation.scenario import Asking, Doing, Recording, Scenario, Sweeping, Use, Work
from tests.simulation.table import key_of
from tests.simulation.world import World

# Preparation happens this long before the run, so that all its cached values expire in between.
_BEFORE_S = 300.0
_OPERATION = -1
# A request waits at least this long for an item that another transaction holds.
_WAITED_FOR_S = 5.0


@dataclass(frozen=True)
class Run:
    """The result of running a scenario."""

    scenario: Scenario
    evidence: Evidence
    wrong: list[str]
    """Violations outside the evidence: answers that contradict the oracle, and attempts that failed without a fault."""
    injected: dict[str, str]
    """The faults, by the label of the call."""
    tally: Counter[str]
    trace: list[str]


def run(scenario: Scenario, *, allowed: Collection[str] | None = None, is_traced: bool = False) -> Run:
    """Run the scenario. With `allowed`, only the calls with these labels may fail."""
    world = World(scenario.seed, scenario.starts_at_s - _BEFORE_S, scenario.rates, allowed=allowed, is_traced=is_traced)
    execution = _Execution(world, scenario)
    with simulated_modules(world):
        execution.prepare()
        execution.perform()
        execution.ask_for_totals()
    wrong = [*execution.oracle.wrong, *execution.failed_without_fault()]
    return Run(scenario, execution.evidence(), wrong, world.injected, world.tally, world.trace or [])


class _Execution:
    """A run in progress."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self._world = world
        self._scenario = scenario
        functions = builders(scenario.retention_days, reject_unknown_features=scenario.reject_unknown_features)
        self._clients = Clients(world, functions)
        self._others = Others(world, functions)
        self._delivery = Delivery(world, functions)
        self._changes: list[Change] = []
        self._images: list[dict[str, object]] = []
        self._left = len(scenario.works)
        self.oracle = Oracle(world, scenario)
        world.store.on_record = self._take_record

    def prepare(self) -> None:
        """Run the actions in `Scenario.first`, without faults."""

        def do() -> None:
            for action in self._scenario.first:
                self._others.do(action)

        self._world.scheduler.start(do)
        self._world.scheduler.run()

    def perform(self) -> None:
        scenario, scheduler = self._scenario, self._world.scheduler
        self._world.is_calm = not scenario.works
        if scenario.is_sequential:
            self._clients.before = self.oracle.expect
            scheduler.start(self._one_by_one, scenario.starts_at_s)
        else:
            for work in scenario.works:
                scheduler.start(partial(self._do, work), scenario.starts_at_s + work.at_s)
        scheduler.run()
        if scenario.is_sequential:
            self.oracle.compare(self._clients.attempts, self._clients.batches)

    def ask_for_totals(self) -> None:
        """Replay the last recorded usage of each counter: the answer shows the counter's total."""
        world = self._world
        last: dict[tuple[str, str], Use] = {}
        sent = [*self._clients.attempts, *(each for batch in self._clients.batches for each in batch.attempts)]
        for attempt in sent:
            item = world.store.items.get(key_of(usage_key(attempt.organization, attempt.key)))
            fact = None if item is None else fact_in(item)
            # Sent again after its expiry, the usage would count again.
            if attempt.recorded and fact and fact.content == attempt.content and fact.expires_at_s > world.now_s + 60:
                mark = attempt.content.get("metadata", {}).get("mark")
                last[fact.organization, fact.feature] = Use(fact.key, fact.feature, fact.quantity, mark)
        for number, ((organization, _), use) in enumerate(sorted(last.items())):
            again = Recording(_OPERATION - number, 0.0, organization, (use,), is_batch=False, patience=UNTIL_ANSWERED)
            # By then, cached totals of several pages have expired.
            world.scheduler.start(partial(self._clients.record, again), world.now_s + 5)
        world.scheduler.run()

    def failed_without_fault(self) -> Iterator[str]:
        """The attempts without a final answer although no fault concerned them."""
        rates = self._scenario.rates
        if rates.crowd or rates.torn_s > _WAITED_FOR_S:
            return
        unlucky = {label.partition("/")[0] for label in self._world.injected}
        attempts: list[Attempt | BatchAttempt] = [*self._clients.attempts, *self._clients.batches]
        for attempt in attempts:
            is_open = attempt.status in (None, 503) or attempt.body.get("totals", {}).get("unavailable")
            if is_open and attempt.trace_id not in unlucky:
                yield f"{attempt.name} got no final answer although nothing had failed: {attempt.body}"

    def evidence(self) -> Evidence:
        world, clients = self._world, self._clients
        return Evidence(
            snapshots=[Snapshot(world.now_s, list(world.store.items.values()), settled=True)],
            events=world.bus.delivered,
            kept=world.failures.objects,
            unpublishable=world.bus.unpublishable,
            abandoned=self._others.given_up,
            hung=[],
            attempts=clients.attempts,
            done=self._others.log,
            queued=world.queue.messages,
            batches=clients.batches,
            changes=self._changes,
            images=self._images,
            asked=clients.asked,
            skew_s=self._scenario.rates.skew_s,
            index_lag_s=self._scenario.rates.index_lag_s,
            retention_s=self._scenario.retention_days * 86_400.0,
            rejects_unknown_features=self._scenario.reject_unknown_features,
        )

    def _one_by_one(self) -> None:
        for work in self._scenario.works:
            self._world.scheduler.sleep(work.at_s)
            self._do(work)

    def _do(self, work: Work) -> None:
        if isinstance(work, Recording):
            self._clients.record(work)
        elif isinstance(work, Asking):
            self._clients.ask(work)
        elif isinstance(work, Doing):
            self._others.do(work.action)
        elif isinstance(work, Sweeping):
            self._others.sweep()
        self._left -= 1
        if self._left == 0:
            # Without further faults, the stream delivers everything.
            self._world.is_calm = True

    def _take_record(self, record: dict[str, object]) -> None:
        change: dict[str, dict[str, dict[str, str]]] = record["dynamodb"]  # type: ignore[assignment]
        pk, sk = change["Keys"]["pk"]["S"], change["Keys"]["sk"]["S"]
        before, after = change.get("OldImage"), change.get("NewImage")
        if pk.startswith("counter#"):
            self._changes.append(Change(pk, sk, before, after))
        elif after is not None and pk.startswith(("usage#", "notice#")):
            self._images.append(dict(after))
        self._delivery.offer(record)
