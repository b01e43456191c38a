from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from ops.environments import Outputs, outputs_of
from ops.errors import EnvironmentNotDeployed

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

DATA = {"Table": "the-table", "Bus": "the-bus", "FailureBucket": "the-bucket"}
SERVICE = {"Url": "https://a.example", "Queue": "https://q.example"}


def _answering(client: "CloudFormationClient", **stacks: dict[str, str]) -> Stubber:
    """A stub of CloudFormation that describes the stacks of the environment dev, in this order."""
    stubber = Stubber(client)
    for name, outputs in stacks.items():
        stack: dict[str, Any] = {"StackName": name, "CreationTime": 0, "StackStatus": "CREATE_COMPLETE"}
        stack["Outputs"] = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
        stubber.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": f"usage-metering-dev-{name}"})
    return stubber


@pytest.fixture
def client() -> "CloudFormationClient":
    return boto3.client("cloudformation", region_name="eu-west-1")


def test_an_environment_is_what_both_its_stacks_say(client: "CloudFormationClient") -> None:
    with _answering(client, data=DATA, service=SERVICE):
        assert outputs_of(client, "dev") == Outputs("the-table", "the-bus", "https://a.example", "https://q.example")


@pytest.mark.parametrize("missing", ["Table", "Bus", "Url", "Queue"])
def test_stacks_that_lack_an_output_are_not_ours(client: "CloudFormationClient", missing: str) -> None:
    data, service = ({key: kept[key] for key in kept if key != missing} for kept in (DATA, SERVICE))

    with _answering(client, data=data, service=service), pytest.raises(EnvironmentNotDeployed, match=missing):
        outputs_of(client, "dev")


def test_a_stack_that_does_not_exist_is_named_with_its_region(client: "CloudFormationClient") -> None:
    stubber = Stubber(client)
    stubber.add_client_error(
        "describe_stacks", "ValidationError", "Stack with id usage-metering-dev-data does not exist", 400
    )

    with stubber, pytest.raises(EnvironmentNotDeployed, match="usage-metering-dev-data in eu-west-1"):
        outputs_of(client, "dev")


def test_a_refusal_is_not_taken_for_a_missing_stack(client: "CloudFormationClient") -> None:
    stubber = Stubber(client)
    stubber.add_client_error("describe_stacks", "AccessDenied", "not authorized", 403)

    with stubber, pytest.raises(ClientError, match="not authorized"):
        outputs_of(client, "dev")
