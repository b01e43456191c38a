"""The API as a caller sees it: every operation by its route, on the function that serves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from metering.http.operations import FEATURE_CHECK

from tests.contract.tables import Operation
from tests.testing.payloads import query_request, record_request
from tests.testing.service import QueryFunction, RecordFunction, Reply, expect

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Headers: TypeAlias = Mapping[str, str | None]


@dataclass
class Api:
    record: RecordFunction
    query: QueryFunction

    def __call__(
        self, operation: Operation, members: Any, status: int = 200, headers: Headers | None = None, **claims: str
    ) -> Reply:
        """Call the operation as `reply` does and expect this status.

        Raises:
            StatusUnexpected: the reply has another status.
        """
        return expect(status, self.reply(operation, members, headers, **claims))

    def reply(self, operation: Operation, members: Any, headers: Headers | None = None, **claims: str) -> Reply:
        """Call the operation with these members, as `demo-org` with the right scope unless the claims differ."""
        claims = {"scope": operation.scope, **claims}
        if operation.kind == "command":
            return self.record.reply(
                record_request(members, headers=headers, claims=claims) | {"routeKey": operation.route}
            )
        return self.query.reply(
            query_request(FEATURE_CHECK, members, headers=headers, claims=claims) | {"routeKey": operation.route}
        )


@pytest.fixture
def api(dynamodb: "DynamoDBClient") -> Api:
    record = RecordFunction(dynamodb)
    return Api(record, QueryFunction(dynamodb, record.clock))
