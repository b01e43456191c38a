"""The answers match the model after any sequence of actions by organizations, operators and other services.

Two execution environments record and one answers queries. Each has its own cache of organizations and plans.
"""

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from metering import subscriptions
from metering.http.operations import FEATURE_CHECK, SUBSCRIPTION_GET, USAGE_GET, USAGE_LIST, USAGE_SUMMARY
from metering.inbound.organization_changes import SubscriptionDeps
from metering.model.organizations import SUBSCRIPTION_STATUSES
from metering.model.plans import Entitlement, Plan
from moto import mock_aws

from ops import organizations, plans
from tests.fuzz import model
from tests.fuzz.model import Answer, Memory, Recorded, Truth, Usage
from tests.fuzz.settings import CASES, FUZZ
from tests.testing.aws import SESSION
from tests.testing.payloads import batch_request, payload, query_request, record_request
from tests.testing.service import Clock, QueryFunction, RecordFunction, Reply
from tests.testing.table import create_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.verify

# Whole seconds, so that the model and the caches agree on the last of their 60 seconds.
START = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
_TABLES = itertools.count()

# `newcomer` does not exist until an action creates it.
ORGANIZATIONS = st.sampled_from(["demo-org", "demo-org", "demo-org", "acme", "newcomer"])
FEATURES = st.sampled_from(["api_calls", "api_calls", "api_calls", "seats", "unheard_of"])
PLANS = st.sampled_from(["free", "pro", "nobody-described-it"])
LIMITS = st.none() | st.sampled_from([0, 3, 5, 9, 15])
PLANNED = st.builds(
    Entitlement,
    limit=LIMITS,
    unit=st.none() | st.just("calls"),
    hard=st.booleans(),
    upgrade_url=st.none() | st.just("https://example.com/upgrade"),
)
# `unheard_of` is in no plan, but an organization may have its own limit for it.
DESCRIBED = st.dictionaries(FEATURES.filter(lambda name: name != "unheard_of"), PLANNED, min_size=1, max_size=3)
# Few keys, so that they come again: mostly with the same content, sometimes with a larger quantity.
KEYS = st.integers(0, 47).map("k-{}".format)


def _usage(organization: str, key: str, more: int) -> Usage:
    number = int(key.removeprefix("k-"))
    return Usage(
        organization, ("api_calls", "api_calls", "seats", "unheard_of")[number % 4], 1 + number % 7 + more, key
    )


USAGES = st.builds(_usage, ORGANIZATIONS, KEYS, st.sampled_from([0] * 15 + [1]))
IDS = st.uuids().map(str)
MOMENTS = st.integers(0, 40).map(lambda days: model.text(START + timedelta(days=days)))
ALL_FIELDS = {
    "subscriptionId": "sub-1",
    "planName": "Free for all",
    "currentPeriodStart": "2026-11-01T00:00:00.000Z",
    "currentPeriodEnd": "2026-12-01T00:00:00.000Z",
    "trialEndsAt": None,
    "cancelAtPeriodEnd": False,
}
FIELDS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={name: st.just(value) for name, value in ALL_FIELDS.items()}
) | st.builds(dict, trialEndsAt=MOMENTS, cancelAtPeriodEnd=st.booleans())


class Sequences(RuleBasedStateMachine):
    """One table and every action on it. `seen` counts the outcomes."""

    def __init__(self, client: "DynamoDBClient", seen: Counter[str]) -> None:
        super().__init__()
        self.client, self.seen = client, seen
        self.table = f"sequences-{next(_TABLES)}"
        create_table(client, self.table)
        self.clock = Clock(START)
        self.ask = QueryFunction(client, self.clock, self.table)
        anything: Any = None
        metrics: Any = EphemeralMetrics()
        logger = Logger(service="sequences", level="ERROR")
        self.deps = SubscriptionDeps(client, self.table, anything, "", self.clock.now, logger, metrics)
        self.truth = Truth({"demo-org": model.Organization(), "acme": model.Organization()})
        self.recorded_usage = Recorded()
        self.memories = [Memory(self.truth), Memory(self.truth)]
        self.asking = Memory(self.truth)

    @initialize(rejects=st.booleans())
    def start(self, rejects: bool) -> None:
        self.rejects = rejects
        self.record_at = [
            RecordFunction(self.client, self.clock, self.table, reject_unknown_features=rejects) for _ in self.memories
        ]
        self.apply_a_plan("free", {"api_calls": Entitlement(limit=9, hard=True), "seats": Entitlement(limit=3)})
        self.hear_of_its_subscription("demo-org", "free", "ACTIVE", 0, ALL_FIELDS, "start")
        self.put_an_organization("acme", "inactive", 0)

    def teardown(self) -> None:
        self.client.delete_table(TableName=self.table)

    # --- recording

    @rule(usages=st.lists(USAGES, min_size=1, max_size=6))
    def record_here(self, usages: list[Usage]) -> None:
        for usage in usages:
            self._record(0, usage)

    @rule(usages=st.lists(USAGES, min_size=1, max_size=6))
    def record_there(self, usages: list[Usage]) -> None:
        for usage in usages:
            self._record(1, usage)

    def _record(self, environment: int, usage: Usage) -> None:
        answered = self.record_at[environment].reply(
            record_request(
                {"feature": usage.feature, "quantity": usage.quantity, "idempotencyKey": usage.key},
                claims={"org_id": usage.organization},
            )
        )
        memory = self.memories[environment]
        expected = self.recorded_usage.record(usage, memory, self.clock.at, rejects=self.rejects)
        self._compare(answered, expected)
        assert ("Idempotent-Replayed" in answered.headers) is expected.replayed
        self._see_recorded(usage, memory, expected)
        if answered.status == 200:
            self._agrees(usage, answered.body, expected.replayed)

    @rule(name=ORGANIZATIONS, usages=st.lists(USAGES, min_size=1, max_size=12), environment=st.sampled_from([0, 1]))
    def record_a_batch(self, name: str, usages: list[Usage], environment: int) -> None:
        self._record_together(environment, [replace(usage, organization=name) for usage in usages])

    def _record_together(self, environment: int, usages: list[Usage]) -> None:
        """Check that the records of a batch get the results that the model expects one by one."""
        members = [
            {"feature": usage.feature, "quantity": usage.quantity, "idempotencyKey": usage.key} for usage in usages
        ]
        answered = self.record_at[environment].reply(batch_request(members, claims={"org_id": usages[0].organization}))
        memory = self.memories[environment]
        self.recorded_usage.before_a_batch(usages, memory, self.clock.at, rejects=self.rejects)
        one_by_one = [
            self.recorded_usage.record(usage, memory, self.clock.at, rejects=self.rejects) for usage in usages
        ]
        if all(answer in model.OF_EVERYBODY for answer in one_by_one):
            self._compare(answered, one_by_one[0])
            self.seen[f"a batch: {answered.status}"] += 1
            return
        expected = [
            self.recorded_usage.after_a_batch(usage, answer, self.clock.at)
            for usage, answer in zip(usages, one_by_one, strict=True)
        ]
        assert answered.status == 200
        assert [_in_short(result) for result in answered.body["results"]] == expected
        statuses = Counter(status for status, _ in expected)
        assert Counter(answered.body["totals"]) == statuses
        self.seen.update(f"a batch: {status}" for status in statuses)

    def _agrees(self, usage: Usage, answered: Mapping[str, Any], replayed: bool) -> None:
        """Check that the queries agree with the answer of record, without the model."""
        assert ("eventId" in self.usage_get(usage.organization, usage.key)) is answered["recorded"]
        summary = self.usage_summary(usage.organization)
        (used,) = [each for each in summary["usage"] if each["feature"] == usage.feature] or [{"used": 0}]
        if not replayed:
            assert used["used"] == answered["currentUsage"]
        checked = self.feature_check(usage.organization, usage.feature)
        same_limit = answered.get("limit") == used.get("limit") and used["used"] == answered["currentUsage"]
        if same_limit and answered["recorded"] and checked["reason"] != "not_in_plan":
            assert (checked["reason"] == "limit_reached") is answered["limitReached"]
            assert checked["hasAccess"] is not answered["limitReached"]

    # --- queries

    @rule(name=ORGANIZATIONS, feature=FEATURES, key=KEYS, data=st.data())
    def ask_for_everything(self, name: str, feature: str, key: str, data: st.DataObject) -> None:
        present = model.period_of(self.clock.at)
        periods = sorted({"2026-10", present, *(period for _, period, _ in self.recorded_usage.totals)})
        self.ask_for_a_period(name, data.draw(st.sampled_from(periods)))
        self.feature_check(name, feature, 1 + int(key.removeprefix("k-")) % 16)
        self.usage_get(name, key)
        self.ask_for_the_subscription(name)
        # A list takes 256 queries.
        if key in ("k-0", "k-1", "k-2"):
            self.ask_for_the_list(name, None if key == "k-0" else feature, 7 if key == "k-1" else 1000)

    def ask_for_the_list(self, name: str, feature: str | None, page_size: int) -> None:
        parameters = {"pageSize": str(page_size)} | ({} if feature is None else {"feature": feature})
        expected = self.recorded_usage.listed(name, feature, self.asking, self.clock.at)
        listed: list[Any] = []
        while True:
            answered = self.ask.reply(query_request(USAGE_LIST, parameters, claims={"org_id": name}))
            if answered.status != 200:
                break
            listed += answered.body["records"]
            if "nextCursor" not in answered.body:
                answered = replace(
                    answered,
                    body={"records": sorted(map(_without_id, listed), key=lambda each: each["idempotencyKey"])},
                )
                break
            parameters["cursor"] = answered.body["nextCursor"]
        self._compare(answered, expected)
        self.seen["a list of several pages"] += len(listed) > page_size

    def ask_for_a_period(self, name: str, period: str) -> None:
        expected = self.recorded_usage.summary(name, period, self.asking, self.clock.at)
        answer = self._ask(name, USAGE_SUMMARY, expected, billingPeriod=period)
        expected = self.recorded_usage.summary(name, period, self.asking, self.clock.at, by_day=True)
        self._ask(name, USAGE_SUMMARY, expected, billingPeriod=period, by="day")
        self.seen["a past period"] += period < model.period_of(self.clock.at) and answer.get("usage", []) != []

    def ask_for_the_subscription(self, name: str) -> None:
        answer = self._ask(name, SUBSCRIPTION_GET, model.subscription(name, self.asking, self.clock.at))
        self.seen["a subscription"] += "planId" in answer

    def usage_summary(self, name: str) -> Any:
        now = self.clock.at
        return self._ask(name, USAGE_SUMMARY, self.recorded_usage.summary(name, model.period_of(now), self.asking, now))

    def feature_check(self, name: str, feature: str, quantity: int | None = None) -> Any:
        expected = self.recorded_usage.check(name, feature, self.asking, self.clock.at, quantity)
        self.seen[f"check: {expected.body.get('reason')}"] += 1
        parameters = {} if quantity is None else {"quantity": str(quantity)}
        return self._ask(name, FEATURE_CHECK, expected, feature=feature, **parameters)

    def usage_get(self, name: str, key: str) -> Any:
        expected = self.recorded_usage.usage(name, key, self.asking, self.clock.at)
        return self._ask(name, USAGE_GET, expected, idempotencyKey=key)

    def _ask(self, name: str, operation: Any, expected: Answer, **parameters: str) -> Any:
        answered = self.ask.reply(query_request(operation, parameters, claims={"org_id": name}))
        self._compare(answered, expected)
        return answered.body

    # --- operators and other services

    @rule(name=st.sampled_from(["free", "pro"]), features=DESCRIBED)
    def apply_a_plan(self, name: str, features: Mapping[str, Entitlement]) -> None:
        plan = Plan(name, name.title(), features)
        (change,) = plans.changes(plans.read(self.client, self.table, [name]), [plan])
        plans.write(self.client, self.table, change)
        plans.forget_unused_features(self.client, self.table)
        self.truth.plans[name] = plan

    @rule(feature=FEATURES.filter(lambda name: name != "unheard_of"), planned=PLANNED)
    def change_a_feature_and_wait(self, feature: str, planned: Entitlement) -> None:
        self.apply_a_plan("free", {**self.truth.plans["free"].features, feature: planned})
        self.time_passes(60)

    @rule(feature=st.sampled_from(["api_calls", "seats"]))
    def turn_hard_or_soft_and_wait(self, feature: str) -> None:
        planned = self.truth.plans["free"].features.get(feature, Entitlement(limit=5))
        self.change_a_feature_and_wait(feature, replace(planned, hard=not planned.hard))

    @rule(name=ORGANIZATIONS, status=st.sampled_from([None, "active", "inactive"]), seconds=st.sampled_from([0, 60]))
    def put_an_organization(self, name: str, status: organizations.Status | None, seconds: int) -> None:
        organizations.put(self.client, self.table, name, status)
        self.truth.put(name, **({} if status is None else {"active": status == "active"}))
        self.time_passes(seconds)

    @rule(name=ORGANIZATIONS, feature=FEATURES, limit=LIMITS | st.just("plan"))
    def set_its_own_limit(self, name: str, feature: str, limit: Any) -> None:
        self._put(name, {}, [f"{feature}={'unlimited' if limit is None else limit}"])
        self.truth.set_limits(name, {} if limit == "plan" else {feature: limit})
        if limit == "plan":
            limits = self.truth.organizations[name].limits
            self.truth.put(name, limits={each: own for each, own in limits.items() if each != feature})

    @rule(name=ORGANIZATIONS, plan=PLANS, status=st.sampled_from(SUBSCRIPTION_STATUSES))
    def set_its_subscription(self, name: str, plan: str, status: str) -> None:
        self._put(name, {"plan": plan, "subscription_status": status}, [])
        self.truth.set_subscription(name, {"planId": plan, "subscriptionStatus": status}, self.clock.at)

    def _put(self, name: str, given: Mapping[str, Any], limits: list[str]) -> None:
        wanted = organizations.settings(given, limits, self.clock.at)
        organizations.put(self.client, self.table, name, None, wanted)

    @rule(
        name=ORGANIZATIONS,
        plan=PLANS,
        status=st.sampled_from(SUBSCRIPTION_STATUSES),
        ago=st.sampled_from([0, 0, 0, 30, 3600]),
        fields=FIELDS,
        by=IDS,
    )
    def hear_of_its_subscription(
        self, name: str, plan: str, status: str, ago: int, fields: dict[str, Any], by: str
    ) -> None:
        at = self.clock.at - timedelta(seconds=ago)
        # The status may come in any case.
        spelled = status.lower() if ago else status
        members = {"newPlan": plan, "newStatus": spelled, "changedAt": model.text(at), **fields}
        self._deliver("billing.subscription.changed.json", by, name, members)
        named = {"planName": (plan, fields["planName"])} if "planName" in fields else {}
        self.truth.hear(name, {**fields, **named, "planId": plan, "subscriptionStatus": status}, at, by)

    def _deliver(self, file: str, event_id: str, name: str, members: Mapping[str, Any]) -> None:
        event = payload(file)
        event["detail"] |= {"id": event_id, "payload": {"organizationId": name, **members}}
        subscriptions.respond(event, self.deps)

    # --- time

    @rule(seconds=st.sampled_from([1, 29, 30, 59, 60, 61]))
    def time_passes(self, seconds: int) -> None:
        self.clock.pass_by(seconds=seconds)

    @rule(seconds=st.integers(-30, 30), months=st.sampled_from([1, 1, 1, 13]))
    def the_month_turns(self, seconds: int, months: int) -> None:
        month = self.clock.at.month - 1 + months
        first = START.replace(year=self.clock.at.year + month // 12, month=month % 12 + 1, day=1, hour=0)
        self.clock.at = max(self.clock.at, first + timedelta(seconds=seconds))

    # --- comparison

    def _compare(self, reply: Reply, expected: Answer) -> None:
        named = reply.body
        if reply.status != 200:
            named = {"code": reply.body["code"]}
        elif "eventId" in reply.body:
            named = _without_id(reply.body)
        assert (reply.status, named) == (expected.status, expected.body)

    def _see_recorded(self, usage: Usage, memory: Memory, expected: Answer) -> None:
        now, body = self.clock.at, expected.body
        self.seen[str(body.get("code", "replayed" if expected.replayed else "recorded"))] += 1
        if expected.status != 200:
            return
        if expected.replayed:
            _, recorded_at = self.recorded_usage.records[usage.organization, usage.key]
            self.seen["a replay from a past period"] += model.period_of(recorded_at) != model.period_of(now)
            return
        self.seen["refused by a hard limit"] += not body["recorded"]
        known, true = memory.feature(usage, now), Memory(self.truth).feature(usage, now)
        self.seen["a limit of before"] += (known and known.limit) != (true and true.limit)
        if known is not None and body["recorded"] and body["currentUsage"] > body.get("limit", math.inf):
            self.seen["beyond a hard limit that came too late" if known.hard else "beyond a soft limit"] += 1


def _without_id(record: Mapping[str, Any]) -> dict[str, Any]:
    # The event id is random, so the model has none.
    return {name: value for name, value in record.items() if name != "eventId"}


def _in_short(result: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """A result of a batch in the model's form: a problem is its code."""
    if "problem" in result:
        return result["status"], {"code": result["problem"]["code"]}
    return result["status"], {name: value for name, value in result.items() if name not in ("index", "status")}


# Shrinking a failing sequence takes minutes, so only `make fuzz` does it.
_PHASES = tuple(Phase) if "FUZZ_CASES" in os.environ else (Phase.generate,)
_LOOK = settings(FUZZ, max_examples=max(1, CASES // 10), stateful_step_count=30, phases=_PHASES)


@pytest.fixture
def client() -> "Iterator[DynamoDBClient]":
    with mock_aws():
        yield SESSION.client("dynamodb")


@pytest.mark.timeout(0)
def test_the_answers_are_those_of_the_model_after_any_sequence_of_operations(client: "DynamoDBClient") -> None:
    seen: Counter[str] = Counter()
    factory: Any = partial(Sequences, client, seen)
    run_state_machine_as_test(factory, settings=_LOOK)
    # The drawn sequences must include each of these.
    assert min(seen["recorded"], seen["replayed"], seen["refused by a hard limit"], seen["check: limit_reached"]) > 0
    assert min(seen[f"a batch: {status}"] for status in ("recorded", "replayed", "refused", "conflict")) > 0


def test_one_sequence_covers_every_promise(client: "DynamoDBClient") -> None:
    """Meet every promise that chance may miss. `seen` counts the cases, and the machine checks each answer."""
    seen: Counter[str] = Counter()
    machine = Sequences(client, seen)
    machine.start(rejects=True)
    number = itertools.count()

    def record(quantity: int, feature: str = "api_calls", name: str = "demo-org", key: str = "") -> None:
        usage = Usage(name, feature, quantity, key or f"{feature}-{quantity}-{next(number)}")
        machine.record_here([usage])
        machine.record_there([usage])

    record(1, name="newcomer")
    record(1, name="acme")
    record(1, "unheard_of")
    record(9, key="kept")
    record(8, key="kept")
    record(1)
    # The limit is raised, but the caches know it only after a minute.
    machine.apply_a_plan("free", {"api_calls": Entitlement(limit=15, hard=True), "seats": Entitlement(limit=3)})
    machine.time_passes(59)
    record(2, key="refused-first")
    machine.time_passes(1)
    record(2, key="refused-first")
    for quantity in (2, 1, 1):
        record(quantity, "seats")
    for name in ("demo-org", "newcomer"):
        machine.ask_for_the_list(name, None, 1)
        machine.ask_for_the_list(name, "seats", 1000)
    machine.turn_hard_or_soft_and_wait("seats")
    for quantity in (1, 4):
        record(quantity, "seats")
    machine.the_month_turns(seconds=-1, months=1)
    record(1)
    machine.time_passes(1)
    record(9, key="kept")
    for quantity in (4, 1, 3):
        record(quantity, "seats")
    machine.change_a_feature_and_wait("seats", Entitlement(limit=None, upgrade_url="https://example.com/upgrade"))
    record(7, "seats")
    machine.set_its_own_limit("demo-org", "seats", 5)
    machine.time_passes(61)
    record(7, "seats")
    for period in ("2026-11", "2026-12"):
        machine.ask_for_a_period("demo-org", period)
    machine.ask_for_the_subscription("demo-org")
    machine.set_its_subscription("demo-org", "free", "PAUSED")
    machine.time_passes(60)
    record(1)
    machine.the_month_turns(seconds=0, months=1)
    api_calls = [Usage("demo-org", "api_calls", *each) for each in ((8, "a"), (8, "b"), (7, "a"), (8, "a"), (8, "b"))]
    batch = [*api_calls, Usage("demo-org", "api_calls", 7, "b"), Usage("demo-org", "unheard_of", 1, "c")]
    for _ in range(2):
        machine.record_here(api_calls[:1])
        machine._record_together(1, batch)
    machine.put_an_organization("demo-org", "inactive", 60)
    machine._record_together(0, [*batch, Usage("demo-org", "seats", 1, "new")])
    for name in ("demo-org", "nobody"):
        machine._record_together(0, [Usage(name, "seats", 1, "new")])
    assert {kind for kind in PROMISED if not seen[kind]} == set()


PROMISED = {
    "recorded",
    "replayed",
    "refused by a hard limit",
    "beyond a soft limit",
    "beyond a hard limit that came too late",
    "a limit of before",
    "a replay from a past period",
    "a past period",
    "a subscription",
    "IDEMPOTENCY_KEY_REUSED",
    "VALIDATION_FAILED",
    "FORBIDDEN",
    "NOT_FOUND",
    "a batch: recorded",
    "a batch: replayed",
    "a batch: refused",
    "a batch: conflict",
    "a batch: invalid",
    "a batch: 403",
    "a batch: 404",
    "check: included",
    "check: limit_available",
    "check: limit_reached",
    "check: not_in_plan",
}
