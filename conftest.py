"""Settings and fixtures for all tests. Unit tests run against moto in this process and reach no network."""

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

# The functions read these once, at import, as they do in Lambda.
os.environ.update(
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
    AWS_DEFAULT_REGION="eu-central-1",
    AWS_EC2_METADATA_DISABLED="true",
    TABLE_NAME="usage",
    BUS_NAME="metering",
    FAILURE_BUCKET="failures",
    REJECTED_QUEUE_URL="https://sqs.eu-central-1.amazonaws.com/123456789012/rejected",
    POWERTOOLS_SERVICE_NAME="usage-metering",
    POWERTOOLS_METRICS_NAMESPACE="UsageMetering",
)
os.environ.pop("AWS_PROFILE", None)

import pytest

# Shared test code has assertions too. Let pytest explain their failures.
pytest.register_assert_rewrite("tests.testing", "tests.e2e.steps", "tests.fuzz.closed")

from botocore.config import Config
from hypothesis import settings
from moto import mock_aws
from moto.dynamodb import responses

from tests.testing import months, workers
from tests.testing.aws import SESSION
from tests.testing.local_stack import LocalStack
from tests.testing.reads import held_consistent
from tests.testing.table import create_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# No deadline, because an example's duration depends on the machine's load. Other settings stay as in the current
# profile, which on CI is Hypothesis's own.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# TransactGetItems accepts 100 items since 2022, but moto still has the earlier limit.
vars(responses)["TRANSACTION_MAX_ITEMS"] = 100


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> workers.Together:
    return workers.Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in workers.SHARED.keys() & getattr(item, "fixturenames", ()):
            if workers.group(item.nodeid) != fixture:
                raise pytest.UsageError(f"{item.nodeid} uses `{fixture}`: add the test to tests/testing/workers.py.")
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: workers.order(item.nodeid))


@pytest.fixture(autouse=True)
def within_one_month() -> None:
    """Keep each test on real time within one billing period. Modules with longer tests have their own fixture."""
    # The longest other test took 25 s on two busy processors.
    months.wait_for_room(60)


@pytest.fixture
def dynamodb() -> Iterator["DynamoDBClient"]:
    """A separate DynamoDB for each test, with the table. Not for threads, because moto loses their commits.

    Fails the test if a function or command makes a read that is not consistent.
    """
    with mock_aws():
        # One try per call, because botocore's own retries wait in real time.
        client = SESSION.client("dynamodb", config=Config(retries={"total_max_attempts": 1}))
        create_table(client, "usage")
        with held_consistent(client):
            yield client


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The whole local stack, deployed once for this test run, on its own free port."""
    # Imported here, so that unit tests do not wait for the CDK's import.
    from local import emulator
    from local.stack import running

    directory = tmp_path_factory.mktemp("stack")
    with running(directory, emulator.free_port(), logging.getLogger("stack").info) as running_stack:
        yield LocalStack(running_stack, directory / "local.json")
