"""Random operations of the functions and commands themselves: their own code builds the calls."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

from metering.inbound import organization_changes
from metering.model.clocks import Clocks
from metering.model.errors import MeteringError
from metering.model.periods import billing_period_of, expiry
from metering.model.plans import Entitlement, Plan
from metering.model.usage import CounterId, RecordFilter, Usage
from metering.outbox import thresholds
from metering.storage import counter_pages, ledger
from metering.storage.ledger import Addition
from metering.storage.record_buckets import read_bucket
from metering.storage.usage_records import bucket_of, usage_key
from metering.usage.organization_cache import OrganizationCache

from ops import apply, organizations, plans
from ops.errors import CommandFailed
from tests.simulation.expressions import NotModelled

ORGANIZATIONS = ("acme", "acme-eu", "bolt")
# No two differ only in case: dynoxide's begins_with ignores case, and DynamoDB's does not.
FEATURES = ("api", "api.v2", "storage")
PLANS = ("free", "pro", "pro.v2")
KEYS = ("k1", "k2", "k#3", "k4", "k5")
PERIOD = "2026-11"
_START = datetime(2026, 11, 23, 12, tzinfo=UTC)
# Keys expire within a run.
_RETENTION = timedelta(seconds=10)


class Quiet:
    """A logger and metrics that keep nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class ByFunctions:
    """Carries out random operations with `client` on the table of this name.

    `changes` are the table's stream records so far, which the watcher reads.
    """

    def __init__(self, client: Any, table: str, random: Random, changes: list[dict[str, Any]]) -> None:
        self._client = client
        self._table = table
        self._random = random
        self._changes = changes
        self._watched = 0
        self._now = _START
        self._events = 0
        quiet: Any = Quiet()
        self._watcher_deps = thresholds.WatcherDeps(client, table, _RETENTION, lambda: self._now, quiet, quiet)
        self._subscription_deps = organization_changes.SubscriptionDeps(
            client, table, quiet, "", lambda: self._now, quiet, quiet
        )

    def carry_out(self) -> None:
        """Carry out a random operation. Errors about malformed items and concurrent changes are ignored."""
        self._now += timedelta(seconds=self._random.choice((0, 0, 1, 3, 0.5)))
        operations: tuple[Callable[[], object], ...] = (
            *[self._record] * 6,
            self._read_usages,
            self._read_terms,
            self._read_counter,
            self._read_buckets,
            self._announce,
            self._change_organization,
            self._change_organization,
            self._change_plan,
            self._change_plan,
            self._consume,
            self._consume,
            self._watch,
            self._watch,
        )
        try:
            self._random.choice(operations)()
        except (MeteringError, CommandFailed, self._client.exceptions.ClientError):
            pass
        except (NotModelled, KeyError, TypeError, ValueError, AttributeError):
            # The operation met an item that no function and no command writes.
            pass

    def _usage(self, key: str, feature: str, organization: str) -> Usage:
        self._events += 1
        return Usage(
            organization=organization,
            feature=feature,
            quantity=self._random.choice((1, 1, 2, 5, 1_000_000_000)),
            idempotency_key=key,
            fingerprint=f"1:{self._random.randrange(2)}",
            event_id=f"event-{self._events}",
            recorded_at=self._now,
            billing_period=billing_period_of(self._now),
            expires_at=expiry(self._now, _RETENTION),
            metadata=self._random.choice((None, '{"a":"ä"}')),
        )

    def _record(self) -> None:
        organization = self._random.choice(ORGANIZATIONS)
        keys = self._random.sample(KEYS, len(KEYS))
        additions = []
        for feature in self._random.sample(FEATURES, self._random.choice((1, 1, 2, 3))):
            usages = [self._usage(keys.pop(), feature, organization) for _ in range(self._random.choice((1, 1, 2)))]
            if len(keys) < 2:
                break
            limit = self._random.choice((None, None, 5, 20, 3_000_000_000))
            shard = 0 if limit is not None else self._random.choice((0, 0, 1, 7, 9))
            additions.append(Addition(usages[0].counter, usages, shard, limit, lifts_limit=self._random.random() < 0.3))
        ledger.commit_additions(self._client, self._table, additions)

    def _counter(self) -> CounterId:
        return CounterId(self._random.choice(ORGANIZATIONS), PERIOD, self._random.choice(FEATURES))

    def _read_usages(self) -> None:
        organization = self._random.choice(ORGANIZATIONS)
        keys = self._random.sample(KEYS, self._random.choice((1, 2, 4)))
        usages = [self._usage(key, FEATURES[0], organization) for key in keys]
        ledger.read_record(self._client, self._table, usage_key(organization, keys[0]), self._now)
        ledger.confirm(self._client, self._table, ledger.find_records(self._client, self._table, usages).stored)

    def _read_terms(self) -> None:
        organizations = OrganizationCache(self._client, self._table, Clocks(lambda: self._now, lambda: 0.0))
        organizations.known_features()
        organizations.find(self._random.choice(ORGANIZATIONS))
        organizations.find_now(self._random.choice(ORGANIZATIONS))

    def _read_counter(self) -> None:
        counter = self._counter()
        counter_pages.first_page(self._client, self._table, counter)
        counter_pages.page_total(self._client, self._table, counter, self._random.choice((1, 1, 2)))
        counter_pages.first_pages(self._client, self._table, counter.organization, PERIOD)

    def _read_buckets(self) -> None:
        wanted = RecordFilter(self._random.choice((None, PERIOD)), self._random.choice((None, *FEATURES)))
        organization, most = self._random.choice(ORGANIZATIONS), self._random.choice((1, 2, 100))
        for key in KEYS:
            last = self._random.choice((None, key, "k"))
            read_bucket(self._client, self._table, organization, bucket_of(key), last, wanted, most)

    def _announce(self) -> None:
        counter_pages.announce(self._client, self._table, self._counter(), self._random.choice((2, 3, 4)))

    def _change_organization(self) -> None:
        given: dict[str, Any] = {}
        if self._random.random() < 0.5:
            given["plan"] = self._random.choice(PLANS)
        if self._random.random() < 0.3:
            given["plan_name"] = self._random.choice(("Free", "Pro"))
        if self._random.random() < 0.3:
            given["trial_ends_at"] = self._random.choice(("none", "2026-12-01T00:00:00Z"))
        limited = self._random.sample(FEATURES, self._random.choice((0, 0, 1, 2)))
        limits = [f"{feature}={self._random.choice(('3', '20', 'unlimited', 'plan'))}" for feature in limited]
        wanted = organizations.settings(given, limits, self._now)
        status: Any = self._random.choice((None, "active", "inactive"))
        organizations.put(self._client, self._table, self._random.choice(ORGANIZATIONS), status, wanted)

    def _change_plan(self) -> None:
        stored = plans.read(self._client, self._table, PLANS)
        features = {
            feature: Entitlement(self._random.choice((None, 0, 5, 20)), hard=self._random.random() < 0.5)
            for feature in self._random.sample(FEATURES, self._random.randrange(4))
        }
        wanted = [Plan(self._random.choice(PLANS), self._random.choice(("Free", "Pro")), features)]
        if self._random.random() < 0.2:
            # As if another command had written the plan since.
            stored = {}
        apply.write(self._client, self._table, plans.changes(stored, wanted), lambda _: None)

    def _consume(self) -> None:
        organization = self._random.choice((*ORGANIZATIONS, f"new-{self._random.randrange(3)}"))
        self._events += 1
        moment = (self._now + timedelta(seconds=self._random.randrange(-60, 60))).isoformat()
        if self._random.random() < 0.3:
            key, payload = "org.created", {"createdAt": moment}
        else:
            key = "billing.subscription.changed"
            payload = {"changedAt": moment, "newPlan": self._random.choice(PLANS), "newStatus": "ACTIVE"}
            if self._random.random() < 0.5:
                payload["planName"] = "Pro, as they call it"
            if self._random.random() < 0.5:
                payload["trialEndsAt"] = cast("str", self._random.choice((None, moment)))
        detail = {
            "id": f"event-{self._events}",
            "key": key,
            "version": "1.0.0",
            "payload": {"organizationId": organization, **payload},
        }
        organization_changes.consume({"detail-type": key, "detail": detail}, self._subscription_deps)

    def _watch(self) -> None:
        records = self._changes[self._watched :][:20]
        self._watched += len(records)
        thresholds.check_limits(records, self._watcher_deps, lambda: 600.0)
