"""The model of DynamoDB answers as an engine does, and rejects requests that no function or command sends.

`DIFFERENTIAL_RUNS=3000 pytest tests/simulation/test_model.py` makes 3,000 runs, each with its own seed.
"""

import copy
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from tests.faults.clock import SharedClock
from tests.faults.stream_reader import StreamReader
from tests.simulation.at_random import AtRandom
from tests.simulation.by_functions import ByFunctions
from tests.simulation.expressions import Invalid, NotModelled
from tests.simulation.sequential import Sequential
from tests.simulation.table import Key, key_of, validate, written
from tests.simulation.twin import Twin, ordered
from tests.testing import engine
from tests.testing.engine import Engine

pytestmark = pytest.mark.verify

RUNS = int(os.environ.get("DIFFERENTIAL_RUNS", "60"))
OPERATIONS = 50


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine.running(tmp_path_factory.mktemp("engine")) as engine_:
        yield engine_


def changes_by_key(records: list[dict[str, Any]]) -> dict[Key, list[Any]]:
    """The stream's changes of each item, in their order.

    dynoxide also makes a record of a write that changes nothing. DynamoDB does not, so these records are left out.
    Source: DynamoDB developer guide, "Change data capture for DynamoDB Streams".
    """
    changes = defaultdict(list)
    for record in records:
        change = record["dynamodb"]
        before, after = ordered(change.get("OldImage")), ordered(change.get("NewImage"))
        if before != after:
            changes[key_of(change["Keys"])].append((record["eventName"], before, after))
    return changes


def all_changes(stream: StreamReader) -> list[dict[str, Any]]:
    """The records in the stream now."""
    found: list[dict[str, Any]] = []
    while records := stream.read():
        found += records
    return found


def run(seed: int, on: Engine, world: SharedClock) -> Counter[tuple[str, str]]:
    """Check that random operations give the same answers, items and stream on the engine and on the model."""
    random = Random(seed)
    table, arn = on.create_table()
    model = Sequential()
    twin = Twin(on.dynamodb, model, random)
    makers = (ByFunctions(twin, table, random, model.stream), AtRandom(twin, table, random))
    # In some runs, only functions and commands write items.
    odd = random.choice((0.0, 0.2, 0.5))
    for operation in range(OPERATIONS):
        makers[random.random() < odd].carry_out()
        assert not twin.differences, f"seed {seed}, operation {operation}: {twin.differences[0]}"
    # The model covers every call of functions and commands on each other's items.
    if not odd:
        assert not [method for method, code in twin.asked if code == "not modelled"], f"seed {seed}"
    stored = {(item["pk"]["S"], item["sk"]["S"]): ordered(item) for item in on.items(table)}
    assert ordered(model.items) == stored, f"seed {seed}"
    ours, theirs = changes_by_key(model.stream), changes_by_key(all_changes(StreamReader(on, arn, world)))
    for key in ours | theirs:
        assert ours[key] == theirs[key], f"seed {seed}: {key}\n  model:  {ours[key]}\n  engine: {theirs[key]}"
    on.drop_table(table)
    return twin.asked


def test_the_model_answers_as_the_engine_does(running: Engine, tmp_path: Any) -> None:
    world = SharedClock(tmp_path / "world")
    asked: Counter[tuple[str, str]] = Counter()
    for seed in range(RUNS):
        asked += run(seed, running, world)
    # Every operation has succeeded, and has failed in every way that is possible without concurrent requests.
    assert {
        ("get_item", ""),
        ("query", ""),
        ("put_item", ""),
        ("put_item", "ConditionalCheckFailedException"),
        ("put_item", "ValidationException"),
        ("update_item", ""),
        ("update_item", "ConditionalCheckFailedException"),
        ("update_item", "ValidationException"),
        ("transact_write_items", ""),
        ("transact_write_items", "ConditionalCheckFailed"),
        ("transact_write_items", "ValidationError"),
        ("transact_write_items", "ValidationException"),
        ("transact_get_items", ""),
        ("transact_get_items", "ValidationException"),
    } <= asked.keys()


def test_a_write_that_changes_nothing_makes_no_stream_record() -> None:
    model = Sequential()
    item = {"pk": {"S": "features"}, "sk": {"S": "features"}, "known": {"SS": ["a", "b"]}}
    update = {"ExpressionAttributeNames": {"#known": "known"}, "ExpressionAttributeValues": {":v": {"SS": ["b"]}}}
    model.put_item(TableName="usage", Item=item)
    model.put_item(TableName="usage", Item={**item, "known": {"SS": ["b", "a"]}})
    model.update_item(TableName="usage", Key=_KEY, UpdateExpression="ADD #known :v", **update)
    model.update_item(TableName="usage", Key=_KEY, UpdateExpression="DELETE #known :v", **update)
    assert [record["eventName"] for record in model.stream] == ["INSERT", "MODIFY"]
    assert model.stream[1]["dynamodb"]["NewImage"]["known"] == {"SS": ["a"]}


_KEY: dict[str, Any] = {"pk": {"S": "features"}, "sk": {"S": "features"}}
_GET: dict[str, Any] = {"TableName": "usage", "Key": _KEY}


def updating(text: str, value: Any = None, condition_text: str | None = None, **members: Any) -> dict[str, Any]:
    """An update. Its expressions may use the name `#a` and the value `:v`."""
    texts = f"{text} {condition_text}"
    conditional = {} if condition_text is None else {"ConditionExpression": condition_text}
    names = {"ExpressionAttributeNames": {"#a": "total"}} if "#a" in texts else {}
    values = {"ExpressionAttributeValues": {":v": value or {"N": "1"}}} if ":v" in texts else {}
    return {**_GET, "UpdateExpression": text, **conditional, **names, **values, **members}


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("Scan", {"TableName": "usage"}),
        ("BatchGetItem", {"RequestItems": {"usage": {"Keys": [_KEY]}}}),
        ("DeleteItem", _GET),
        ("GetItem", {**_GET, "ReturnConsumedCapacity": "TOTAL"}),
        ("TransactWriteItems", {"TransactItems": [{"Delete": _GET}]}),
        (
            "TransactWriteItems",
            {"TransactItems": [{"ConditionCheck": {**_GET, "ConditionExpression": "attribute_exists(pk)"}}]},
        ),
        ("UpdateItem", updating("SET #a = :v", ReturnValues="ALL_OLD")),
        ("UpdateItem", updating("SET #a = #a + :v")),
        ("UpdateItem", updating("SET #a = list_append(#a, :v)")),
        ("UpdateItem", updating("SET #a[0] = :v")),
        ("UpdateItem", updating("SET total = :v")),
        ("UpdateItem", updating("SET #a = :v SET sk = :v")),
        ("UpdateItem", updating("set #a = :v")),
        ("UpdateItem", updating("")),
        ("UpdateItem", updating("SET #a = :v", None, "#a <> :v")),
        ("UpdateItem", updating("SET #a = :v", None, "NOT #a = :v")),
        ("UpdateItem", updating("SET #a = :v", None, "((#a = :v))")),
        ("UpdateItem", updating("SET #a = :v", None, "(#a = :v")),
        ("UpdateItem", updating("SET #a = :v", None, "size(#a) > :v")),
        ("UpdateItem", updating("SET #a = :v", None, "begins_with(#a, :v)")),
        ("UpdateItem", updating("SET #a = :v", None, "#a BETWEEN :v AND :v")),
        ("UpdateItem", updating("SET #a = :v", {"N": "1.5"})),
        ("UpdateItem", updating("SET #a = :v", {"N": "01"})),
        ("UpdateItem", updating("SET #a = :v", {"B": b"1"})),
        ("UpdateItem", updating("SET #a = :v", {"NS": ["1"]})),
    ],
)
def test_requests_that_no_function_or_command_sends_are_not_modelled(
    operation: str, parameters: dict[str, Any]
) -> None:
    with pytest.raises(NotModelled):
        validate(operation, parameters)


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("UpdateItem", updating("SET #a = :v", {"N": "1"}, ExpressionAttributeNames={"#a": "total", "#b": "unused"})),
        ("UpdateItem", updating("SET #a = :v", ExpressionAttributeValues={":v": {"N": "1"}, ":unused": {"N": "1"}})),
        ("UpdateItem", updating("SET #a = :v", ExpressionAttributeNames={"#b": "total"})),
        ("UpdateItem", updating("SET #a = :v", {"BOOL": True}, "#a < :v")),
        ("UpdateItem", updating("SET #a = :v, #a.#a = :v")),
        ("UpdateItem", updating("SET #a = :v REMOVE sk")),
        ("UpdateItem", updating("ADD #a :v", {"BOOL": True})),
        ("UpdateItem", updating("DELETE #a :v")),
        ("UpdateItem", updating("SET #a = :v", {"SS": []})),
        ("UpdateItem", updating(f"SET #a = :v{' ' * 4096}")),
        ("PutItem", {"TableName": "usage", "Item": {**_KEY, "sk": {"S": "s" * 1025}}}),
        ("GetItem", {"TableName": "usage", "Key": {"pk": {"S": "features"}}}),
        ("TransactWriteItems", {"TransactItems": [{"Update": updating("ADD #a :v")}] * 2}),
        ("TransactGetItems", {"TransactItems": [{"Get": _GET}] * 2}),
        ("TransactGetItems", {"TransactItems": []}),
        (
            "Query",
            {
                "TableName": "usage",
                "IndexName": "organizations-by-plan",
                "KeyConditionExpression": "planId = :v",
                "ExpressionAttributeValues": {":v": {"S": "pro"}},
                "ConsistentRead": True,
            },
        ),
    ],
)
def test_requests_that_dynamodb_rejects_for_any_items_are_invalid(operation: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        validate(operation, parameters)


def test_a_transaction_takes_a_hundred_items_and_no_more() -> None:
    gets = [{"Get": {"TableName": "usage", "Key": {**_KEY, "sk": {"S": str(number)}}}} for number in range(101)]
    validate("TransactGetItems", {"TransactItems": gets[:100]})
    with pytest.raises(Invalid):
        validate("TransactGetItems", {"TransactItems": gets})


def test_a_page_that_would_start_outside_its_query_is_rejected() -> None:
    model = Sequential()
    query = {"KeyConditionExpression": "pk = :v", "ExpressionAttributeValues": {":v": {"S": "plan#pro"}}}
    with pytest.raises(model.exceptions.ClientError) as refused:
        model.query(TableName="usage", ExclusiveStartKey=_KEY, **query)
    assert refused.value.response["Error"]["Code"] == "ValidationException"


@pytest.mark.parametrize("plan", [{"N": "1"}, {"S": ""}])
def test_an_item_with_a_plan_id_that_is_no_index_key_is_not_modelled(plan: dict[str, str]) -> None:
    item = {**_KEY, "planId": plan}
    with pytest.raises(NotModelled):
        written("Put", {"TableName": "usage", "Item": item}, None)
    with pytest.raises(NotModelled):
        written("Update", updating("SET planId = :v", plan), _KEY)


@pytest.mark.parametrize("text", ["REMOVE #a", "DELETE #a :v", "REMOVE #a.#a"])
def test_removing_from_an_absent_item_or_map_is_not_modelled(text: str) -> None:
    with pytest.raises(NotModelled):
        written("Update", updating(text, {"SS": ["x"]}), _KEY if text == "REMOVE #a.#a" else None)


def test_a_map_that_is_null_is_not_modelled() -> None:
    with pytest.raises(NotModelled):
        written("Update", updating("SET #a.#a = :v"), {**_KEY, "total": {"NULL": True}})


def test_an_item_is_not_changed_by_a_write_to_it() -> None:
    item = {**_KEY, "limits": {"M": {"api": {"N": "1"}}}, "total": {"N": "1"}}
    before = copy.deepcopy(item)
    names = {"#a": "total", "#l": "limits"}
    parameters = updating("SET #l.#a = :v ADD #a :v", ExpressionAttributeNames=names)
    after = written("Update", parameters, item)
    assert item == before
    assert after == {**_KEY, "limits": {"M": {"api": {"N": "1"}, "total": {"N": "1"}}}, "total": {"N": "2"}}


def test_an_action_of_a_known_form_is_not_checked_in_full_again() -> None:
    known: set[Any] = set()
    put: dict[str, Any] = {"TableName": "t", "Item": {"pk": {"S": "a"}, "sk": {"S": "b"}, "n": {"N": "1"}}}
    other = {"TableName": "t", "Item": {"pk": {"S": "c"}, "sk": {"S": "b"}, "n": {"N": "2"}}}
    for _ in range(2):
        validate("TransactWriteItems", {"TransactItems": [{"Put": put}, {"Put": other}]}, known)
        with pytest.raises(Invalid, match="one item"):
            validate("TransactWriteItems", {"TransactItems": [{"Put": put}, {"Put": put}]}, known)
        # Another attribute, another type and another expression are other forms.
        for changed in (
            put | {"Item": {**put["Item"], "n": {"X": "1"}}},
            put | {"ConditionExpression": "size(pk) > :n", "ExpressionAttributeValues": {":n": {"N": "1"}}},
        ):
            with pytest.raises((Invalid, NotModelled)):
                validate("PutItem", changed, known)
