from typing import TYPE_CHECKING

import pytest

from tests.testing.service import QueryFunction, RecordFunction

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture
def function(dynamodb: "DynamoDBClient") -> RecordFunction:
    return RecordFunction(dynamodb)


@pytest.fixture
def ask(dynamodb: "DynamoDBClient", function: RecordFunction) -> QueryFunction:
    """The query function on the table and the clock of `function`."""
    return QueryFunction(dynamodb, function.clock)
