"""What DynamoDB's failures mean to us."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004 - botocore's own name

from metering.errors import ItemsHeld, StoreBusy
from metering.items import Item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Source: DynamoDB developer guide, "Error handling with DynamoDB": the errors that are "OK to retry".
_BUSY = {
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionInProgressException",
}
# The same inside a cancelled transaction. Source: DynamoDB API reference, TransactWriteItems, CancellationReasons.
BUSY_REASONS = {"ProvisionedThroughputExceeded", "ThrottlingError"}
CONFLICT = "TransactionConflict"


@contextmanager
def busy_when_unanswered() -> Iterator[None]:
    """Let a call through; a throttle, a server's failure and a lost connection come out as StoreBusy.

    Raises:
        StoreBusy: whether a write landed is not known.
        ClientError: the call itself is wrong or refused.
    """
    try:
        yield
    except (ConnectionError, HTTPClientError) as error:
        raise StoreBusy("DynamoDB did not answer") from error
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if error.response["Error"]["Code"] in _BUSY or status >= 500:
            raise StoreBusy("DynamoDB is throttling or failing") from error
        raise


def read_together(
    client: "DynamoDBClient", table: str, keys: Sequence[Item], projection: str | None = None
) -> list[Item | None]:
    """The items at these keys, 1 to 100 and each once, as they were stored at one moment; None where there is none.

    Serializable with transactions: no read sees a part of one.

    Raises:
        ItemsHeld: a transaction holds some of them; ask again.
        StoreBusy: throttled or unanswered.
    Source: DynamoDB developer guide, "DynamoDB transactions", isolation levels; API reference, TransactGetItems.
    """
    more: Any = {} if projection is None else {"ProjectionExpression": projection}
    gets: Any = [{"Get": {"TableName": table, "Key": key, **more}} for key in keys]
    try:
        with busy_when_unanswered():
            responses = client.transact_get_items(TransactItems=gets)["Responses"]
    except client.exceptions.TransactionCanceledException as cancelled:
        codes = [reason.get("Code") for reason in cancelled.response["CancellationReasons"]]
        held = [position for position, code in enumerate(codes) if code == CONFLICT or code in BUSY_REASONS]
        if not held:
            raise
        raise ItemsHeld(held) from cancelled
    return [response.get("Item") for response in responses]
