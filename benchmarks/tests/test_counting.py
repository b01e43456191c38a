from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from benchmarks.counting import Call, Tally, count_dynamodb, count_events
from tests.testing.contention import failed

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.verify

KEY = {"pk": {"S": "a"}, "sk": {"S": "b"}}
# The bytes of pk, a, sk, b and the attribute's name.
_KEY_BYTES = 2 + 1 + 2 + 1 + 4


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def counted(dynamodb: "DynamoDBClient", tally: Tally) -> "DynamoDBClient":
    """A counted client, which tries each call up to twice."""
    client = boto3.client("dynamodb", config=Config(retries={"total_max_attempts": 2}))
    count_dynamodb(client, dynamodb, tally)
    return client


def item(size: int, pk: str = "a") -> Any:
    """An item of `size` bytes."""
    return {"pk": {"S": pk}, "sk": {"S": "b"}, "text": {"S": "x" * (size - _KEY_BYTES)}}


def put(size: int, pk: str = "a", **more: Any) -> Any:
    return {"Put": {"TableName": "usage", "Item": item(size, pk), **more}}


@pytest.mark.parametrize(("size", "units"), [(1024, 1), (1025, 2)])
def test_a_put_costs_the_size_of_its_item(counted: "DynamoDBClient", tally: Tally, size: int, units: int) -> None:
    counted.put_item(TableName="usage", Item=item(size))
    assert tally.calls == [Call("PutItem", write_units=units, written_items=1)]


def test_a_put_over_a_larger_item_costs_the_size_of_the_larger_item(counted: "DynamoDBClient", tally: Tally) -> None:
    counted.put_item(TableName="usage", Item=item(3000))
    counted.put_item(TableName="usage", Item=item(10))
    assert [call.write_units for call in tally.calls] == [3, 3]


@pytest.mark.parametrize("transactional", [False, True])
def test_an_items_entry_in_an_index_costs_a_unit_when_it_appears_and_when_it_goes(
    counted: "DynamoDBClient", tally: Tally, *, transactional: bool
) -> None:
    def write(expression: str, value: str = "") -> None:
        update: Any = {"TableName": "usage", "Key": KEY, "UpdateExpression": expression}
        if value:
            update["ExpressionAttributeValues"] = {":v": {"S": value}}
        if transactional:
            counted.transact_write_items(TransactItems=[{"Update": update}])
        else:
            counted.update_item(**update)

    write("SET note = :v", "x")
    write("SET listedIn = :v", "one")
    write("SET listedIn = :v", "one")
    write("SET listedIn = :v, planId = :v", "other")
    write("REMOVE listedIn")
    its_own = 2 if transactional else 1
    assert [call.write_units - its_own for call in tally.calls] == [0, 1, 0, 2 + 1, 1]


def test_an_update_costs_the_larger_of_before_and_after(counted: "DynamoDBClient", tally: Tally) -> None:
    update: Any = {"TableName": "usage", "Key": KEY}
    texts = {":text": {"S": "x" * 2000}}
    counted.update_item(**update, UpdateExpression="SET note = :text", ExpressionAttributeValues=texts)
    counted.update_item(**update, UpdateExpression="REMOVE note")
    counted.update_item(**update, UpdateExpression="REMOVE note")
    assert [call.write_units for call in tally.calls] == [2, 2, 1]


def test_a_deletion_costs_the_size_of_the_deleted_item(counted: "DynamoDBClient", tally: Tally) -> None:
    counted.put_item(TableName="usage", Item=item(2000))
    for _ in range(2):
        counted.delete_item(TableName="usage", Key=KEY)
    assert [call.write_units for call in tally.calls] == [2, 2, 1]


def test_a_transaction_costs_twice_its_writes(counted: "DynamoDBClient", tally: Tally) -> None:
    counted.transact_write_items(TransactItems=[put(1024), put(1025, "c")])
    assert tally.calls == [Call("TransactWriteItems", write_units=2 + 4, written_items=2)]


def test_a_failed_condition_costs_the_larger_of_the_stored_and_the_new_item(
    counted: "DynamoDBClient", tally: Tally
) -> None:
    counted.put_item(TableName="usage", Item=item(1500))
    for size in (10, 2500):
        with pytest.raises(counted.exceptions.ConditionalCheckFailedException):
            counted.put_item(TableName="usage", Item=item(size), ConditionExpression="attribute_not_exists(pk)")
    assert [call.write_units for call in tally.calls] == [2, 2, 3]
    assert tally.calls[1].error == "ConditionalCheckFailedException"


def test_a_cancelled_transaction_costs_as_much_as_a_committed_one(counted: "DynamoDBClient", tally: Tally) -> None:
    counted.put_item(TableName="usage", Item=item(1500))
    with pytest.raises(counted.exceptions.TransactionCanceledException):
        counted.transact_write_items(
            TransactItems=[put(10, ConditionExpression="attribute_not_exists(pk)"), put(2500, "c")]
        )
    cancelled = tally.calls[1]
    assert (cancelled.error, cancelled.write_units) == ("TransactionCanceledException", 2 * (2 + 3))


def test_every_attempt_is_counted_and_a_throttled_one_costs_nothing(counted: "DynamoDBClient", tally: Tally) -> None:
    answers = iter([failed("ThrottlingException")])
    counted.meta.events.register("before-send.dynamodb.GetItem", lambda **_: next(answers, None))
    counted.get_item(TableName="usage", Key=KEY, ConsistentRead=True)
    assert tally.calls == [Call("GetItem", error="ThrottlingException"), Call("GetItem", read_units=1)]


def test_a_call_with_a_lost_answer_costs_as_much_as_an_answered_one(counted: "DynamoDBClient", tally: Tally) -> None:
    lost = iter([ReadTimeoutError(endpoint_url="https://dynamodb")])

    def lose(**_: Any) -> None:
        for error in lost:
            raise error

    # Registered last, because moto executes the call at the same event.
    counted.meta.events.register_last("before-send", lose)
    counted.put_item(TableName="usage", Item=item(2000))
    assert [(call.error, call.write_units) for call in tally.calls] == [("ReadTimeoutError", 2), (None, 2)]


def test_a_call_that_fails_validation_costs_nothing(counted: "DynamoDBClient", tally: Tally) -> None:
    with pytest.raises(ClientError, match="ValidationException"):
        counted.update_item(TableName="usage", Key=KEY, UpdateExpression="SET")
    assert tally.calls == [Call("UpdateItem", error="ValidationException")]


def test_a_read_of_nothing_costs_one_unit(counted: "DynamoDBClient", tally: Tally) -> None:
    counted.get_item(TableName="usage", Key=KEY, ConsistentRead=True)
    counted.get_item(TableName="usage", Key=KEY)
    assert [call.read_units for call in tally.calls] == [1, 0.5]


def test_a_read_costs_the_whole_item_for_any_projection(
    counted: "DynamoDBClient", dynamodb: "DynamoDBClient", tally: Tally
) -> None:
    dynamodb.put_item(TableName="usage", Item=item(4097))
    counted.get_item(TableName="usage", Key=KEY, ConsistentRead=True, ProjectionExpression="sk")
    assert [call.read_units for call in tally.calls] == [2]


def test_a_query_costs_all_that_it_reads_rounded_once(
    counted: "DynamoDBClient", dynamodb: "DynamoDBClient", tally: Tally
) -> None:
    for number in range(10):
        dynamodb.put_item(TableName="usage", Item={**item(1000), "sk": {"S": str(number)}})
    query: Any = {
        "TableName": "usage",
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "a"}},
        "ProjectionExpression": "#sort",
        "ExpressionAttributeNames": {"#sort": "sk"},
    }
    counted.query(**query, ConsistentRead=True)
    counted.query(**query)
    # 10,000 bytes begin three times 4 KiB.
    assert [call.read_units for call in tally.calls] == [3, 1.5]


def test_a_transactional_read_costs_each_item_twice(
    counted: "DynamoDBClient", dynamodb: "DynamoDBClient", tally: Tally
) -> None:
    dynamodb.put_item(TableName="usage", Item=item(4097))
    keys = [KEY, {**KEY, "pk": {"S": "c"}}]
    counted.transact_get_items(TransactItems=[{"Get": {"TableName": "usage", "Key": key}} for key in keys])
    assert [call.read_units for call in tally.calls] == [4 + 2]


def test_a_call_with_an_unknown_cost_is_an_error(counted: "DynamoDBClient") -> None:
    with pytest.raises(NotImplementedError, match="Scan"):
        counted.scan(TableName="usage")


def test_changes_keep_both_images_and_a_write_without_effect_is_no_change(
    counted: "DynamoDBClient", tally: Tally
) -> None:
    for _ in range(2):
        counted.put_item(TableName="usage", Item=item(20))
    counted.transact_write_items(TransactItems=[put(30), put(40, "c")])
    first, second, third = tally.changes
    assert (first.key, first.before, first.after) == (KEY, {}, item(20))
    assert (second.before, second.after) == (item(20), item(30))
    assert (third.before, third.after) == ({}, item(40, "c"))


def test_taking_the_tally_empties_it(counted: "DynamoDBClient", tally: Tally) -> None:
    counted.put_item(TableName="usage", Item=item(20))
    taken = tally.take()
    assert (len(taken.calls), len(taken.changes)) == (1, 1)
    assert (tally.calls, tally.changes) == ([], [])


def test_events_are_counted_by_entry_and_size(dynamodb: Any, tally: Tally) -> None:
    del dynamodb  # AWS is mocked
    client = boto3.client("events", config=Config(retries={"total_max_attempts": 1}))
    count_events(client, tally)
    entry: Any = {"Source": "saas.billing", "DetailType": "billing.usage.recorded"}
    large = '{"text": "' + "x" * 70_000 + '"}'
    client.put_events(Entries=[entry | {"Detail": "{}"}, entry | {"Detail": large}])
    assert tally.calls == [Call("PutEvents", events=1 + 2)]


def test_events_that_the_bus_refuses_cost_nothing(dynamodb: Any, tally: Tally) -> None:
    del dynamodb
    client = boto3.client("events", config=Config(retries={"total_max_attempts": 1}))
    count_events(client, tally)
    entry: Any = {"Source": "saas.billing", "DetailType": "billing.usage.recorded"}
    # The second detail is not JSON.
    answer = client.put_events(Entries=[entry | {"Detail": "{}"}, entry | {"Detail": "{"}])
    assert answer["FailedEntryCount"] == 1
    client.meta.events.register("before-send.events", lambda **_: failed("ThrottlingException"))
    with pytest.raises(ClientError, match="ThrottlingException"):
        client.put_events(Entries=[entry | {"Detail": "{}"}])
    assert [(call.events, call.error) for call in tally.calls] == [(1, None), (0, "ThrottlingException")]
