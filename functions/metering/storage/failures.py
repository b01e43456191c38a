"""The meaning of DynamoDB's failures: worth a retry, or not."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004 - botocore's own name

from metering.storage.signals import StoreBusy

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
        StoreBusy: a write may have been committed.
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
