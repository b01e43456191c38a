"""Answers as botocore's client returns them: errors with their responses, and the pages of a query.

ClientError
├── ConditionalCheckFailedException   PutItem, UpdateItem; `Item` if the request asked for it and it exists
├── TransactionConflictException      PutItem, UpdateItem: a transaction holds the item
└── TransactionCanceledException      both transactions; `CancellationReasons`, one for each action
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from tests.simulation.table import ConditionFailed

NO_REASON: Mapping[str, Any] = {"Code": "None"}
CONFLICT: Mapping[str, Any] = {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}


class ConditionalCheckFailedException(ClientError):
    pass


class TransactionConflictException(ClientError):
    pass


class TransactionCanceledException(ClientError):
    pass


class Exceptions:
    """The errors in a client's `exceptions`."""

    ClientError = ClientError
    ConditionalCheckFailedException = ConditionalCheckFailedException
    TransactionConflictException = TransactionConflictException
    TransactionCanceledException = TransactionCanceledException


def error(operation: str, code: str, message: str = "", status: int = 400, **members: Any) -> ClientError:
    """The error that botocore raises for an answer with this code."""
    raised: type[ClientError] = getattr(Exceptions, code, ClientError)
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **members,
    }
    return raised(response, operation)


def invalid(operation: str, cause: Exception) -> ClientError:
    """The error of a request that is invalid, or that would make an item invalid."""
    return error(operation, "ValidationException", str(cause))


def condition_failed(operation: str, parameters: Mapping[str, Any], failed: ConditionFailed) -> ClientError:
    """The error of a single write whose condition does not hold."""
    shown = _shown(parameters, failed)
    return error(operation, "ConditionalCheckFailedException", "The conditional request failed", **shown)


def reason(parameters: Mapping[str, Any], cause: Exception) -> dict[str, Any]:
    """The cancellation reason of a transaction's action, for the error that `written` raised."""
    if isinstance(cause, ConditionFailed):
        message = "The conditional request failed"
        return {"Code": "ConditionalCheckFailed", "Message": message, **_shown(parameters, cause)}
    return {"Code": "ValidationError", "Message": str(cause)}


def cancelled(operation: str, reasons: Sequence[Mapping[str, Any]]) -> ClientError:
    """The error of a transaction that was cancelled for these reasons, one for each action."""
    codes = ", ".join(each["Code"] for each in reasons)
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    return error(operation, "TransactionCanceledException", message, CancellationReasons=list(reasons))


class Paginator:
    """A query's pages, as `get_paginator("query")` returns them."""

    def __init__(self, query: Callable[..., dict[str, Any]]) -> None:
        self._query = query

    def paginate(self, **parameters: Any) -> Iterator[dict[str, Any]]:
        page = self._query(**parameters)
        yield page
        while "LastEvaluatedKey" in page:
            page = self._query(**{**parameters, "ExclusiveStartKey": page["LastEvaluatedKey"]})
            yield page


def _shown(parameters: Mapping[str, Any], failed: ConditionFailed) -> dict[str, Any]:
    if failed.item is None or parameters.get("ReturnValuesOnConditionCheckFailure") != "ALL_OLD":
        return {}
    return {"Item": failed.item}
