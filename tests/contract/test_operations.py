"""Every operation against its table: its route, its input, and its answer in each situation."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from metering.http import operations
from metering.model.organizations import Organization
from metering.model.plans import Entitlement, Plan

from tests.contract.conftest import Api
from tests.contract.schemas import bounds, breaking, check, optional_fields, plain, schema_of
from tests.contract.tables import (
    ALWAYS,
    BY_KEY,
    HERE_OR_AS_HEADER,
    LEAST,
    OPERATIONS,
    OPTIONAL,
    RECORD_OF_A_BATCH,
    REQUIRED,
    STATUSES,
    THOUGH_OPTIONAL,
    Field,
    Operation,
)
from tests.testing.contention import answer_with, failed
from tests.testing.payloads import example, record_request
from tests.testing.problems import assert_problem
from tests.testing.service import NOW
from tests.testing.subscribed import SUBSCRIBED
from tests.testing.table import items, put_on_plan
from tools import openapi

EVERYTHING = example(sourceId="req-7f3a", sourceType="request", metadata={"region": "eu-central-1"})


@dataclass(frozen=True)
class Situation:
    """A situation of `demo-org` when it calls an operation."""

    operation: str
    label: str
    has: frozenset[str]
    """Exactly the optional fields that the answer has."""
    features: Mapping[str, Entitlement] = field(default_factory=lambda: {"exports": Entitlement()})
    """The features of its plan."""
    organization: Organization = SUBSCRIBED
    before: Sequence[dict[str, Any]] = ()
    """The usage that it has recorded before."""
    members: Mapping[str, Any] | None = None
    busy: Sequence[str] = ()
    """The calls that DynamoDB throttles from then on."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """Some of the answer's values."""
    headers: Mapping[str, str] = field(default_factory=dict)


def has(*names: str) -> frozenset[str]:
    return frozenset(names)


def _batch(*records: Any) -> dict[str, Any]:
    return {"records": [*records]}


def _results(*results: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a batch with these results. A result's problem appears as its status and code."""
    statuses = [result["status"] for result in results]
    return {
        "results": [{"index": index, **result} for index, result in enumerate(results)],
        "totals": {status: statuses.count(status) for status in STATUSES},
    }


_STANDS = ("results.currentUsage", "results.limitReached")
_PROBLEM = ("results.problem", "results.problem.operation")
_LIMIT_USAGE = ("used", "limit", "remaining", "resetsAt")

SITUATIONS = [
    # --- usage.record
    Situation("usage.record", "no limit", has(), answer={"recorded": True, "currentUsage": 1, "limitReached": False}),
    Situation(
        "usage.record",
        "below a limit",
        has("limit"),
        {"api_calls": Entitlement(limit=2)},
        answer={"recorded": True, "currentUsage": 1, "limitReached": False, "limit": 2},
    ),
    Situation(
        "usage.record",
        "at a soft limit",
        has("limit"),
        {"api_calls": Entitlement(limit=1)},
        answer={"recorded": True, "limitReached": True},
    ),
    Situation(
        "usage.record",
        "it does not fit a hard limit",
        has("limit"),
        {"api_calls": Entitlement(limit=3, hard=True)},
        members=example(quantity=4),
        answer={"recorded": False, "currentUsage": 0, "limitReached": True, "limit": 3},
    ),
    Situation(
        "usage.record",
        "a replay",
        has(),
        before=[example(), example(idempotencyKey="other", quantity=5)],
        answer={"recorded": True, "currentUsage": 6},
        headers={"Idempotent-Replayed": "true"},
    ),
    # --- usage.record-batch
    Situation(
        "usage.record-batch",
        "no limit",
        has(*_STANDS),
        members=_batch(example(), example(idempotencyKey="another", quantity=5)),
        answer=_results(*[{"status": "recorded", "currentUsage": 6, "limitReached": False}] * 2),
    ),
    Situation(
        "usage.record-batch",
        "at a soft limit",
        has(*_STANDS, "results.limit"),
        {"api_calls": Entitlement(limit=1)},
        answer=_results({"status": "recorded", "currentUsage": 1, "limitReached": True, "limit": 1}),
    ),
    Situation(
        "usage.record-batch",
        "one does not fit a hard limit",
        has(*_STANDS, "results.limit"),
        {"api_calls": Entitlement(limit=3, hard=True)},
        members=_batch(
            example(idempotencyKey="a", quantity=2),
            example(idempotencyKey="b", quantity=2),
            example(idempotencyKey="c"),
        ),
        answer=_results(
            {"status": "recorded", "currentUsage": 3, "limitReached": True, "limit": 3},
            {"status": "refused", "currentUsage": 3, "limitReached": True, "limit": 3},
            {"status": "recorded", "currentUsage": 3, "limitReached": True, "limit": 3},
        ),
    ),
    Situation(
        "usage.record-batch",
        "a replay",
        has(*_STANDS),
        before=[example(), example(idempotencyKey="other", quantity=5)],
        members=_batch(example(), example(idempotencyKey="new"), example(idempotencyKey="new")),
        answer=_results(
            {"status": "replayed", "currentUsage": 7, "limitReached": False},
            {"status": "recorded", "currentUsage": 7, "limitReached": False},
            {"status": "replayed", "currentUsage": 7, "limitReached": False},
        ),
    ),
    Situation(
        "usage.record-batch",
        "same keys, other content",
        has(*_STANDS, *_PROBLEM),
        before=[example()],
        members=_batch(
            example(quantity=2), example(idempotencyKey="new"), example(idempotencyKey="new", feature="exports")
        ),
        answer=_results(
            {"status": "conflict", "problem": (422, "IDEMPOTENCY_KEY_REUSED")},
            {"status": "recorded", "currentUsage": 2, "limitReached": False},
            {"status": "conflict", "problem": (422, "IDEMPOTENCY_KEY_REUSED")},
        ),
    ),
    Situation(
        "usage.record-batch",
        "records that break the model",
        has(*_STANDS, *_PROBLEM, "results.problem.issues"),
        members=_batch(7, example(idempotencyKey=...), example(quantity="1"), example()),
        answer=_results(
            *[{"status": "invalid", "problem": (422, "VALIDATION_FAILED")}] * 3,
            {"status": "recorded", "currentUsage": 1, "limitReached": False},
        ),
    ),
    Situation(
        "usage.record-batch",
        "inactive",
        has(*_STANDS, *_PROBLEM),
        organization=replace(SUBSCRIBED, active=False),
        before=[example()],
        members=_batch(example(idempotencyKey="new"), example()),
        answer=_results(
            {"status": "invalid", "problem": (403, "FORBIDDEN")},
            {"status": "replayed", "currentUsage": 1, "limitReached": False},
        ),
    ),
    Situation(
        "usage.record-batch",
        "the store does not record in time",
        has(*_PROBLEM, "results.problem.retryAfter"),
        busy=["TransactWriteItems"],
        answer=_results({"status": "unavailable", "problem": (503, "SERVICE_UNAVAILABLE")}),
    ),
    Situation(
        "usage.record-batch",
        "the store does not tell the total in time",
        has("results.limit"),
        {"api_calls": Entitlement(limit=1)},
        busy=["Query"],
        answer=_results({"status": "recorded", "limit": 1}),
    ),
    # --- usage.summary
    Situation(
        "usage.summary",
        "nothing used",
        has(),
        answer={
            "billingPeriod": "2026-11",
            "periodStart": "2026-11-01T00:00:00.000Z",
            "periodEnd": "2026-12-01T00:00:00.000Z",
            "usage": [],
        },
    ),
    Situation("usage.summary", "used without a limit", has(), before=[example()]),
    Situation(
        "usage.summary",
        "a limit",
        has("usage.limit", "usage.percentage"),
        {"api_calls": Entitlement(limit=3)},
        before=[example()],
        answer={"usage": [{"feature": "api_calls", "used": 1, "limit": 3, "percentage": 33.3}]},
    ),
    Situation(
        "usage.summary", "a unit", has("usage.unit"), {"api_calls": Entitlement(unit="calls")}, before=[example()]
    ),
    Situation(
        "usage.summary",
        "by day",
        has("usage.days"),
        before=[example(quantity=2)],
        members={"by": "day"},
        answer={"usage": [{"feature": "api_calls", "used": 2, "days": [{"date": "2026-11-23", "used": 2}]}]},
    ),
    *(
        Situation("usage.summary", f"asked for {asked}", has(), members=asked, answer={"billingPeriod": period})
        for asked, period in (
            ({"billingPeriod": "2024-01"}, "2024-01"),
            ({"period": "2024-01"}, "2024-01"),
            ({"billingPeriod": "current"}, "2026-11"),
            ({"period": "current"}, "2026-11"),
        )
    ),
    # --- feature.check
    Situation(
        "feature.check",
        "no limit",
        has("reason"),
        {"api_calls": Entitlement(upgrade_url="https://example.com/upgrade")},
        answer={"hasAccess": True, "reason": "included"},
    ),
    Situation(
        "feature.check",
        "below a limit",
        has("reason", *_LIMIT_USAGE),
        {"api_calls": Entitlement(limit=2, upgrade_url="https://example.com/upgrade")},
        before=[example()],
        answer={"hasAccess": True, "reason": "limit_available", "used": 1, "limit": 2, "remaining": 1},
    ),
    Situation(
        "feature.check",
        "a quantity that just fits",
        has("reason", *_LIMIT_USAGE),
        {"api_calls": Entitlement(limit=5)},
        before=[example(quantity=2)],
        members={"feature": "api_calls", "quantity": "3"},
        answer={"hasAccess": True, "reason": "limit_available", "resetsAt": "2026-12-01T00:00:00.000Z"},
    ),
    Situation(
        "feature.check",
        "a quantity that does not fit",
        has("reason", "upgradeUrl", *_LIMIT_USAGE),
        {"api_calls": Entitlement(limit=5, upgrade_url="https://example.com/upgrade")},
        before=[example(quantity=2)],
        members={"feature": "api_calls", "quantity": "4"},
        answer={"hasAccess": False, "reason": "limit_reached", "used": 2, "limit": 5, "remaining": 3},
    ),
    Situation(
        "feature.check",
        "at a limit",
        has("reason", "upgradeUrl", *_LIMIT_USAGE),
        {"api_calls": Entitlement(limit=1, upgrade_url="https://example.com/upgrade")},
        before=[example()],
        answer={"hasAccess": False, "reason": "limit_reached", "upgradeUrl": "https://example.com/upgrade"},
    ),
    Situation(
        "feature.check",
        "at a limit that leads nowhere",
        has("reason", *_LIMIT_USAGE),
        {"api_calls": Entitlement(limit=1)},
        before=[example(quantity=3)],
        answer={"hasAccess": False, "reason": "limit_reached", "used": 3, "limit": 1, "remaining": 0},
    ),
    Situation("feature.check", "of no plan", has("reason"), answer={"hasAccess": False, "reason": "not_in_plan"}),
    *(
        Situation(
            "feature.check",
            f"{status} subscription",
            has("reason"),
            {"api_calls": Entitlement()},
            replace(SUBSCRIBED, subscription_status=status),
            answer={"hasAccess": False, "reason": "not_in_plan"},
        )
        for status in ("CANCELED", "PAUSED")
    ),
    # --- subscription.get
    *(
        Situation(
            "subscription.get",
            status,
            has(),
            organization=replace(SUBSCRIBED, subscription_status=status),
            answer={"organizationId": "demo-org", "status": status},
        )
        for status in ("TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "PAUSED")
    ),
    Situation(
        "subscription.get",
        "a trial",
        has("trialEndsAt"),
        organization=replace(SUBSCRIBED, trial_ends_at=NOW + timedelta(days=3)),
        answer={"trialEndsAt": "2026-11-26T00:20:04.123Z"},
    ),
    # --- usage.get
    Situation("usage.get", "recorded with the least", has(), before=[example()], answer=example()),
    Situation(
        "usage.get",
        "recorded with everything",
        has("sourceId", "sourceType", "metadata"),
        before=[EVERYTHING],
        answer=EVERYTHING,
    ),
    # --- usage.list
    Situation("usage.list", "nothing recorded", has(), answer={"records": []}),
    Situation(
        "usage.list",
        "recorded with everything",
        has("records.sourceId", "records.sourceType", "records.metadata"),
        before=[EVERYTHING],
        members={"billingPeriod": "2026-11", "feature": "api_calls"},
    ),
    Situation(
        "usage.list",
        "more follow",
        has("nextCursor"),
        before=[example(), example(idempotencyKey="another")],
        members={"pageSize": 1},
    ),
]
each_situation = pytest.mark.parametrize(
    "situation", SITUATIONS, ids=lambda situation: f"{situation.operation}: {situation.label}"
)
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.key)


def _arrange(api: Api, situation: Situation) -> None:
    client, plan = api.record.client, Plan("pro", "Professional", situation.features)
    put_on_plan(client, "usage", SUBSCRIBED, plan)
    for recorded in situation.before:
        api(BY_KEY["usage.record"], recorded)
    put_on_plan(client, "usage", situation.organization, plan)
    # After a minute the cached organization and plan have expired.
    api.record.clock.pass_by(minutes=1)
    for call in situation.busy:
        answer_with(client, call, [failed("ThrottlingException")] * 1000)


# --- the operations --------------------------------------------------------------------------------------------------


def test_every_operation_is_served_and_no_other() -> None:
    served = {
        (each.key, each.kind, f"{each.method} {each.path}", each.scope) for each in operations.OPERATIONS.values()
    }
    assert served == {(each.key, each.kind, each.route, each.scope) for each in OPERATIONS}
    documented = {
        f"{method.upper()} {path}" for path, methods in openapi.document()["paths"].items() for method in methods
    }
    assert documented == {each.route for each in OPERATIONS}


@each_operation
def test_a_route_is_the_key_with_its_dots_as_slashes(operation: Operation) -> None:
    method = {"command": "POST", "query": "GET"}[operation.kind]
    assert operation.route == f"{method} /{operation.key.replace('.', '/')}/v1.0.0"


@each_operation
@pytest.mark.parametrize("form", ["{}", "openid {}", "[openid {}]"])
def test_an_operation_needs_its_scope_as_text_or_in_a_list(api: Api, operation: Operation, form: str) -> None:
    other = {"usage:read": "usage:write", "usage:write": "usage:read"}[operation.scope]
    assert api.reply(operation, LEAST[operation.name], scope=form.format(operation.scope)).status != 403
    api(operation, LEAST[operation.name], 403, scope=form.format(other))


@each_operation
def test_an_operation_acts_for_the_organization_of_the_header_where_the_token_allows_any(
    api: Api, operation: Operation
) -> None:
    scope = f"{operation.scope} usage:any-organization"
    put_on_plan(api.record.client, "usage", replace(SUBSCRIBED, id="acme"), Plan("pro", "Professional"))
    for headers, status in (({}, 400), ({"Organization-Id": "nobody"}, 404)):
        api(operation, LEAST[operation.name], status, headers=headers, scope=scope)
    status = 404 if operation.name == "usage.get" else 200
    api(operation, LEAST[operation.name], status, headers={"Organization-Id": "acme"}, scope=scope)
    api(operation, LEAST[operation.name], 403, headers={"Organization-Id": "acme"}, scope=operation.scope)


# --- answers ---------------------------------------------------------------------------------------------------------


@each_situation
def test_an_answer_has_the_tables_fields_and_no_others(api: Api, situation: Situation) -> None:
    operation = BY_KEY[situation.operation]
    _arrange(api, situation)
    reply = api(operation, LEAST[operation.name] if situation.members is None else situation.members)
    assert reply.headers == {"Content-Type": "application/json", **situation.headers}
    check(reply.body, schema_of(operation.output))
    assert _optional_in(reply.body, operation.output) == situation.has
    assert {**_with_short_problems(reply.body), **situation.answer} == _with_short_problems(reply.body)


@each_operation
def test_every_optional_field_is_seen_present_and_absent(operation: Operation) -> None:
    situations = [each.has for each in SITUATIONS if BY_KEY[each.operation] == operation]
    assert situations
    always = {each.name for each in operation.output if each.when == THOUGH_OPTIONAL}
    assert frozenset().union(*situations) == optional_fields(operation.output)
    assert frozenset(situations[0]).intersection(*situations) == always


@pytest.mark.parametrize(("operation", "name"), [("feature.check", "reason"), ("subscription.get", "status")])
def test_every_value_of_an_enumeration_is_seen(operation: str, name: str) -> None:
    (values,) = (each.schema["enum"] for each in BY_KEY[operation].output if each.name == name)
    assert {each.answer.get(name) for each in SITUATIONS if each.operation == operation} - {None} == set(values)


def test_every_status_of_a_record_is_seen() -> None:
    seen = [each.answer["totals"] for each in SITUATIONS if each.operation == "usage.record-batch"]
    assert {status for totals in seen for status in totals if totals[status]} == set(STATUSES)


def _with_short_problems(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer with each problem in its results as status and code."""
    if "results" not in answer:
        return dict(answer)
    return {**answer, "results": [_in_short(result) for result in answer["results"]]}


def _in_short(result: Mapping[str, Any]) -> dict[str, Any]:
    if "problem" not in result:
        return dict(result)
    return {**result, "problem": (result["problem"]["status"], result["problem"]["code"])}


# The organization's field behind each required field of a subscription. The organization's id is always known.
_KNOWN_BY = {
    "id": "subscription_id",
    "planId": "plan",
    "planName": "plan_name",
    "status": "subscription_status",
    "currentPeriodStart": "current_period_start",
    "currentPeriodEnd": "current_period_end",
    "cancelAtPeriodEnd": "cancel_at_period_end",
}


_SUBSCRIPTION = BY_KEY["subscription.get"]
_NEVER_UNKNOWN = {"organizationId", "cancelAtPeriodEnd"}
_ALWAYS_TOLD = [each.name for each in _SUBSCRIPTION.output if each.when == ALWAYS and each.name not in _NEVER_UNKNOWN]


@pytest.mark.parametrize("name", _ALWAYS_TOLD)
def test_a_subscription_is_not_found_until_each_required_field_is_known(api: Api, name: str) -> None:
    named = replace(SUBSCRIBED, plan="nobody-described-it", plan_name="Professional")
    unknown: Any = {_KNOWN_BY[name]: None}
    put_on_plan(api.record.client, "usage", replace(named, **unknown), None)
    assert_problem(api(_SUBSCRIPTION, {}, 404), 404, "NOT_FOUND", "not_found")
    put_on_plan(api.record.client, "usage", named, None)
    assert name in api(_SUBSCRIPTION, {}).body


# --- input -----------------------------------------------------------------------------------------------------------


def _inputs(operations: Iterable[Operation]) -> list[tuple[Operation, Field]]:
    return [(operation, each) for operation in operations for each in operation.input]


def _named(argument: Any) -> str | None:
    if isinstance(argument, Operation):
        return argument.key
    return argument.name if isinstance(argument, Field) else None


NEEDED = [(operation, each) for operation, each in _inputs(OPERATIONS) if each.when in REQUIRED]
BOUNDED = [(operation, each) for operation, each in _inputs(OPERATIONS) if list(bounds(each.schema))]


@pytest.mark.parametrize(("operation", "taken"), NEEDED, ids=_named)
def test_a_missing_required_field_is_an_issue(api: Api, operation: Operation, taken: Field) -> None:
    # The key may come in the header instead of the body, so the model cannot require it.
    malformed = taken.when == HERE_OR_AS_HEADER
    status, code = (400, "BAD_REQUEST") if malformed else (422, "VALIDATION_FAILED")
    without = {name: value for name, value in LEAST[operation.name].items() if name != taken.name}
    reply = api(operation, without, status)
    assert_problem(reply, status, code)
    assert [(issue["path"], issue["code"]) for issue in reply.body["issues"]] == [(taken.name, "missing")]
    assert items(api.record.client, "usage", "usage#") == []


def test_the_idempotency_key_may_be_the_header_instead(api: Api) -> None:
    (key,) = (each for each in BY_KEY["usage.record"].input if each.when == HERE_OR_AS_HEADER)
    for value in ("abc-123", '"abc-123"', '"abc-123,abc-123"'):
        event = record_request(example(**{key.name: ...}), headers={"Idempotency-Key": value})
        api.record(event)
    # A comma belongs to a key that is quoted, or in the body.
    assert api(BY_KEY["usage.record"], example(idempotencyKey="abc-123,abc-123")).body["currentUsage"] == 2
    keys = [item["sk"]["S"] for item in items(api.record.client, "usage", "usage#demo-org#")]
    assert sorted(keys) == ["abc-123", "abc-123,abc-123"]


@pytest.mark.parametrize(("operation", "taken"), _inputs(OPERATIONS), ids=_named)
def test_a_field_of_another_type_or_beyond_its_bounds_is_an_issue(api: Api, operation: Operation, taken: Field) -> None:
    for value in _sendable(operation, taken, breaking(taken)):
        reply = api(operation, {**LEAST[operation.name], taken.name: value}, 422)
        assert_problem(reply, 422, "VALIDATION_FAILED")
        assert [issue["path"] for issue in reply.body["issues"]] == [taken.name], value
    assert items(api.record.client, "usage", "usage#") == []


@pytest.mark.parametrize(("operation", "taken"), BOUNDED, ids=_named)
def test_a_field_at_its_bounds_is_accepted(api: Api, operation: Operation, taken: Field) -> None:
    for number, value in enumerate(_sendable(operation, taken, bounds(taken.schema))):
        own_key = {"idempotencyKey": f"k-{number}"} if operation.kind == "command" else {}
        api(operation, {**LEAST[operation.name], **own_key, taken.name: value})


def test_a_batch_of_the_fewest_and_of_the_most_records_is_taken(api: Api) -> None:
    (records,) = BY_KEY["usage.record-batch"].input
    for number in (records.schema["minItems"], records.schema["maxItems"]):
        several = _batch(*(example(idempotencyKey=f"{number}-{index}") for index in range(number)))
        reply = api(BY_KEY["usage.record-batch"], several)
        assert reply.body["totals"]["recorded"] == number


@pytest.mark.parametrize("taken", RECORD_OF_A_BATCH, ids=lambda taken: taken.name)
def test_an_invalid_field_of_a_record_is_an_issue_and_its_neighbours_are_recorded(api: Api, taken: Field) -> None:
    wrong = [example(idempotencyKey=f"bad-{at}") | {taken.name: value} for at, value in enumerate(breaking(taken))]
    if taken.when == ALWAYS:
        wrong.append(example(idempotencyKey="bad") | {taken.name: ...})
    wrong = [{name: value for name, value in each.items() if value is not ...} for each in wrong]
    reply = api(BY_KEY["usage.record-batch"], _batch(example(idempotencyKey="first"), *wrong, example()))
    _, *results, last = reply.body["results"]
    assert [each["status"] for each in results] == ["invalid"] * len(wrong)
    for result, each in zip(results, wrong, strict=True):
        assert [issue["path"] for issue in result["problem"]["issues"]] == [taken.name], each
    assert last["currentUsage"] == 2
    assert len(items(api.record.client, "usage", "usage#")) == 2


@pytest.mark.parametrize("taken", [each for each in RECORD_OF_A_BATCH if list(bounds(each.schema))], ids=_named)
def test_a_field_of_a_record_at_its_bounds_is_accepted(api: Api, taken: Field) -> None:
    records = [example(idempotencyKey=f"k-{at}") | {taken.name: value} for at, value in enumerate(bounds(taken.schema))]
    assert api(BY_KEY["usage.record-batch"], _batch(*records)).body["totals"]["recorded"] == len(records)


@each_operation
def test_the_required_fields_are_enough(api: Api, operation: Operation) -> None:
    assert LEAST[operation.name].keys() == {each.name for each in operation.input if each.when != OPTIONAL}
    put_on_plan(api.record.client, "usage", SUBSCRIBED, Plan("pro", "Professional", {"api_calls": Entitlement()}))
    api(BY_KEY["usage.record"], example())
    api(operation, LEAST[operation.name])


@each_operation
@pytest.mark.parametrize("name", ["organizationId", "organization", "Feature", "quantities"])
def test_an_unknown_field_is_an_issue_with_its_name(api: Api, operation: Operation, name: str) -> None:
    reply = api(operation, {**LEAST[operation.name], name: "acme"}, 422)
    assert_problem(reply, 422, "VALIDATION_FAILED")
    assert [(issue["path"], issue["code"]) for issue in reply.body["issues"]] == [(name, "extra_forbidden")]


def _sendable(operation: Operation, taken: Field, values: Iterable[Any]) -> Iterator[Any]:
    """The values as the operation's requests can hold them: a query string holds only text, also for a number."""
    if operation.kind == "command":
        yield from values
    elif taken.schema["type"] == "string":
        yield from (value for value in values if isinstance(value, str))
    else:
        yield from (value if isinstance(value, str) else json.dumps(value) for value in values)


# --- the published document ------------------------------------------------------------------------------------------


@each_operation
def test_the_document_says_what_the_table_says(operation: Operation) -> None:
    document = json.loads(openapi.DOCUMENT.read_text())
    method, _, path = operation.route.partition(" ")
    described = document["paths"][path][method.lower()]
    assert (described["operationId"], described["security"]) == (operation.key, [{"oauth2": [operation.scope]}])
    answer = described["responses"]["200"]["content"]["application/json"]["schema"]
    assert plain(answer, document) == plain(schema_of(operation.output), document)
    expected = plain(schema_of(operation.input), document)
    if operation.kind == "command":
        taken = described["requestBody"]["content"]["application/json"]["schema"]
        # These fields are required in the body. The key may come in the header.
        expected["required"] = sorted(each.name for each in operation.input if each.when == ALWAYS)
        assert plain(taken, document) == expected
        return
    asked = [each for each in described["parameters"] if each["in"] == "query"]
    assert {each["name"]: plain(each["schema"], document) for each in asked} == expected["properties"]
    assert sorted(each["name"] for each in asked if each["required"]) == expected["required"]


def _optional_in(answer: Any, output: Iterable[Field], within: str = "") -> set[str]:
    """The optional fields in an answer and in all its parts."""
    found: set[str] = set()
    for each in output:
        if each.name not in answer:
            continue
        if f"{within}{each.name}" in optional_fields([each], within):
            found.add(f"{within}{each.name}")
        parts = answer[each.name] if isinstance(answer[each.name], list) else [answer[each.name]]
        for part in parts if each.parts else []:
            found |= _optional_in(part, each.parts, f"{within}{each.name}.")
    return found
