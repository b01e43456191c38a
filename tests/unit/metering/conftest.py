from typing import TYPE_CHECKING

import pytest

from tests.service import RecordFunction

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture
def function(dynamodb: "DynamoDBClient") -> RecordFunction:
    return RecordFunction(dynamodb)
