"""Usage records, bucket by bucket: 256 buckets hold all records of an organization."""

from typing import TYPE_CHECKING, Any, NamedTuple

from metering.model.usage import RecordFilter, Usage
from metering.storage.failures import busy_when_unanswered
from metering.storage.usage_records import usage_from_item, usage_partition

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class BucketPart(NamedTuple):
    """The records that one query found, ordered by idempotency key."""

    usages: list[Usage]
    """The records that match the filter. They can have expired."""
    examined: int
    """The number of records that the query read, and that its cost depends on."""
    last_key: str | None
    """The last key that the query read, if the bucket can hold more records."""


def read_bucket(
    client: "DynamoDBClient",
    table: str,
    organization: str,
    bucket: int,
    after: str | None,
    wanted: RecordFilter,
    most: int,
) -> BucketPart:
    """Return the next records of a bucket, from the key behind `after` on, or from the first key on.

    One query reads at most 1 MB. Without a filter, it reads at most `most` records. With a filter, it reads records
    that it does not return, so `most` would end it too early. The query is consistent: it finds all usage that was
    acknowledged before this call.

    Raises:
        MalformedItem: a record cannot be read.
        StoreBusy: DynamoDB throttled the call or did not answer.
    Source: DynamoDB API reference, Query, Limit and LastEvaluatedKey.
    """
    partition = {"S": usage_partition(organization, bucket)}
    filters = {name: value for name, value in zip(("billingPeriod", "feature"), wanted, strict=True) if value}
    query: dict[str, Any] = {"ExpressionAttributeValues": {":pk": partition}}
    if filters:
        query["FilterExpression"] = " AND ".join(f"{name} = :{name}" for name in filters)
        query["ExpressionAttributeValues"] |= {f":{name}": {"S": value} for name, value in filters.items()}
    else:
        query["Limit"] = most
    if after is not None:
        query["ExclusiveStartKey"] = {"pk": partition, "sk": {"S": after}}
    with busy_when_unanswered():
        answer: Any = client.query(TableName=table, KeyConditionExpression="pk = :pk", ConsistentRead=True, **query)
    last = answer.get("LastEvaluatedKey")
    return BucketPart(
        [usage_from_item(item) for item in answer["Items"]],
        answer["ScannedCount"],
        None if last is None else last["sk"]["S"],
    )
