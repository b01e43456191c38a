"""DynamoDB's failures, divided into those that are worth a retry and the rest."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004 - botocore's own name

from metering.storage.signals import StoreBusy

# The errors that are "OK to retry". Source: DynamoDB developer guide, "Error handling with DynamoDB".
_BUSY = {
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionInProgressException",
}
# The same errors as cancellation reasons. Source: DynamoDB API reference, TransactWriteItems, CancellationReasons.
BUSY_REASONS = {"ProvisionedThroughputExceeded", "ThrottlingError"}
CONFLICT = "TransactionConflict"


@contextmanager
def busy_when_unanswered() -> Iterator[None]:
    """Turn a throttled call, a failure of the server and a lost connection into StoreBusy.

    Raises:
        StoreBusy: the call can succeed later. It is unknown whether a write was committed.
        ClientError: the call itself is wrong or denied.
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
