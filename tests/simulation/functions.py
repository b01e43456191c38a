"""The functions and commands, built as their entry files build them, with an environment's clients and clocks.

record, query, publisher, watcher, subscriptions    as infra/ deploys them
operator                                            `plans apply` of one plan, `organizations put`
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, TypeAlias

from metering import limit_watcher, publisher, query_api, record_api, subscriptions
from metering.http.caller import TokenRules
from metering.http.endpoint import Service
from metering.inbound import organization_changes
from metering.model.clocks import Clocks
from metering.model.plans import Entitlement, Plan
from metering.outbox import publishing, thresholds
from metering.usage import listing, recorder
from metering.usage.counters import Counters
from metering.usage.organization_cache import OrganizationCache
from metering.usage.queries import QueryDeps
from metering.usage.recorder import RecordDeps

from infra.environments import LOCAL
from ops import apply, organizations
from tests.faults.bus import BUS
from tests.simulation import threads
from tests.simulation.client import Bucket, DynamoDB, Events, Messages
from tests.simulation.environment import Environment
from tests.simulation.world import TABLE, World

Respond: TypeAlias = Callable[[Any, Any], Any]
Build: TypeAlias = Callable[[Environment], Respond]

# As infra/ deploys them; an operator's command may take longer.
TIMEOUT_S = {
    "record": 15.0,
    "query": 15.0,
    "publisher": 60.0,
    "watcher": 300.0,
    "subscriptions": 30.0,
    "operator": 300.0,
}
AT_ONCE = 16


class _Silent:
    """A logger or metrics that keeps unforeseen errors only."""

    def __init__(self, world: World) -> None:
        self._world = world

    def error(self, message: str, exc_info: BaseException | None = None, **_: Any) -> None:
        if exc_info is not None:
            self._world.errors.append(f"{message}: {exc_info!r}")
            self._world.say(f"error: {exc_info!r}")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _nothing


def _nothing(*_: Any, **__: Any) -> None:
    return None


@contextmanager
def simulated_modules(world: World) -> Iterator[None]:
    """Give the functions' modules simulated ids and threads until the end of the block."""
    threads.use(world.scheduler)
    ids = SimpleNamespace(uuid4=world.next_id, UUID=uuid.UUID)
    changes: list[tuple[Any, str, Any]] = [
        (recorder, "uuid", ids),
        (thresholds, "uuid", ids),
        (publishing, "ThreadPoolExecutor", threads.Pool),
        (publishing, "Semaphore", threads.Semaphore),
        (listing, "ThreadPoolExecutor", threads.Pool),
    ]
    real = [getattr(module, name) for module, name, _ in changes]
    for module, name, ours in changes:
        setattr(module, name, ours)
    try:
        yield
    finally:
        for (module, name, _), theirs in zip(changes, real, strict=True):
            setattr(module, name, theirs)


def builders(retention_days: int, *, reject_unknown_features: bool) -> Mapping[str, Build]:
    """The builders of the functions and of the operator's commands, with these settings of the deployed environment."""
    retention = timedelta(days=retention_days)

    def record(environment: Environment) -> Respond:
        client: Any = DynamoDB(environment, is_crowded=True)
        deps = RecordDeps(
            client,
            TABLE,
            OrganizationCache(client, TABLE, _clocks(environment)),
            Counters(client, TABLE, _clocks(environment)),
            retention,
            reject_unknown_features,
        )
        service = _service(deps, environment)
        return lambda event, context: record_api.respond(event, context, service)

    def watch(environment: Environment) -> Respond:
        client: Any = DynamoDB(environment)
        silent: Any = _Silent(environment.world)
        watched = thresholds.WatcherDeps(client, TABLE, retention, environment.now, silent, silent)
        return lambda event, context: limit_watcher.respond(event, context, watched)

    return {
        "record": record,
        "query": _query,
        "publisher": _publisher,
        "watcher": watch,
        "subscriptions": _subscriptions,
        "operator": _operator,
    }


def _clocks(environment: Environment) -> Clocks:
    return Clocks(environment.now, environment.monotonic)


def _service(deps: Any, environment: Environment) -> Any:
    silent: Any = _Silent(environment.world)
    return Service(
        deps=deps,
        rules=TokenRules(),
        now=environment.now,
        monotonic=environment.monotonic,
        sleep=environment.sleep,
        random=environment.random,
        logger=silent,
        metrics=silent,
    )


def _query(environment: Environment) -> Respond:
    client: Any = DynamoDB(environment)
    service = _service(QueryDeps(client, TABLE, OrganizationCache(client, TABLE, _clocks(environment))), environment)
    return lambda event, context: query_api.respond(event, context, service)


def _publisher(environment: Environment) -> Respond:
    events: Any = Events(environment)
    bucket: Any = Bucket(environment)
    silent: Any = _Silent(environment.world)
    deps = publishing.PublisherDeps(
        events=events,
        bus=BUS,
        source="saas.billing",
        failures=bucket,
        failure_bucket="failures",
        at_once=AT_ONCE,
        sleep=environment.sleep,
        random=environment.random,
        logger=silent,
        metrics=silent,
    )
    return lambda event, context: publisher.respond(event, context, deps)


def _subscriptions(environment: Environment) -> Respond:
    client: Any = DynamoDB(environment)
    queue: Any = Messages(environment)
    silent: Any = _Silent(environment.world)
    deps = organization_changes.SubscriptionDeps(client, TABLE, queue, "rejected", environment.now, silent, silent)
    return lambda event, _: subscriptions.respond(event, deps)


def _operator(environment: Environment) -> Respond:
    client: Any = DynamoDB(environment)

    def respond(event: Any, _: Any) -> None:
        if "plan" in event:
            found = apply.preview(client, TABLE, [_plan(event)], environment.now(), look_for_usage=False)
            apply.write(client, TABLE, found.changes, lambda _: None)
        else:
            limits = [f"{feature}={limit}" for feature, limit in event.get("limits", {}).items()]
            wanted = organizations.settings({}, limits, environment.now())
            organizations.put(client, TABLE, event["organization"], event.get("status"), wanted)

    return respond


def _plan(event: Mapping[str, Any]) -> Plan:
    features = {
        name: Entitlement(
            limit=None if members["limit"] == "unlimited" else members["limit"],
            hard=members["enforcement"] == "hard",
            warn_at=tuple(members["warnAt"]),
        )
        for name, members in event["features"].items()
    }
    return Plan(event["plan"], event["plan"].title(), features)


BATCH_SIZES = {"publisher": LOCAL.publisher_batch_size, "watcher": LOCAL.watcher_batch_size}
