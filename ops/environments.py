"""The resources of a deployment environment, read from the outputs of its two CloudFormation stacks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from ops.access import Access, to_cloud, to_local
from ops.errors import EnvironmentNotDeployed

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

    from ops.local_stack import Stack


@dataclass(frozen=True)
class Environment:
    """A deployed service and the access to its data."""

    name: str
    access: Access
    table: str
    bus: str


@dataclass(frozen=True)
class Outputs:
    """The outputs of a deployment environment's stacks."""

    table: str
    bus: str
    url: str
    queue_url: str


def local_environment(stack: "Stack") -> Environment:
    return Environment("local", to_local(stack), stack.table, stack.bus)


def cloud_environment(name: str) -> Environment:
    """The deployment environment `name` of the user's AWS account.

    Raises: EnvironmentNotDeployed, and botocore's errors if a call to AWS fails.
    """
    access = to_cloud()
    outputs = outputs_of(access.cloudformation(), name)
    return Environment(name, access, outputs.table, outputs.bus)


def outputs_of(cloudformation: "CloudFormationClient", environment: str) -> Outputs:
    """Read the outputs of both stacks of `environment`.

    Raises: EnvironmentNotDeployed.
    """
    data = _outputs(cloudformation, f"usage-metering-{environment}-data")
    service = _outputs(cloudformation, f"usage-metering-{environment}-service")
    try:
        return Outputs(data["Table"], data["Bus"], service["Url"], service["Queue"])
    except KeyError as missing:
        raise EnvironmentNotDeployed(
            f"the stacks of environment {environment!r} lack the output {missing}: deploy the current version."
        ) from missing


def _outputs(cloudformation: "CloudFormationClient", stack: str) -> Mapping[str, str]:
    try:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as refused:
        # CloudFormation reports an unknown stack with the code of any malformed request, so the message decides.
        if "does not exist" in refused.response["Error"]["Message"]:
            region = cloudformation.meta.region_name
            raise EnvironmentNotDeployed(
                f"there is no stack {stack} in {region}: deploy it or check the region."
            ) from refused
        raise
    return {output["OutputKey"]: output["OutputValue"] for output in found[0].get("Outputs", [])}
