"""AWS clients for the user's own account or for the emulated AWS of a local stack."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from ops.local_stack import Stack

# An operator waits at the terminal, so calls fail early. The read timeout exceeds the longest long poll, 20 s.
_CLOUD = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
# Loopback needs no proxy. A server on loopback that does not answer the first try does not answer a second one either.
_LOCAL = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1}, proxies={})


@dataclass(frozen=True)
class Access:
    """An AWS endpoint with its credentials and region."""

    session: boto3.Session
    config: Config
    endpoint: str | None = None

    def dynamodb(self) -> "DynamoDBClient":
        return self.session.client("dynamodb", endpoint_url=self.endpoint, config=self.config)

    def events(self) -> "EventBridgeClient":
        return self.session.client("events", endpoint_url=self.endpoint, config=self.config)

    def sqs(self) -> "SQSClient":
        return self.session.client("sqs", endpoint_url=self.endpoint, config=self.config)

    def s3(self) -> "S3Client":
        return self.session.client("s3", endpoint_url=self.endpoint, config=self.config)

    def cloudformation(self) -> "CloudFormationClient":
        return self.session.client("cloudformation", endpoint_url=self.endpoint, config=self.config)


def to_cloud() -> Access:
    """Use the user's own credentials and region, found as the AWS CLI finds them."""
    # boto3 reads AWS_DEFAULT_REGION, but not the newer AWS_REGION.
    return Access(boto3.Session(region_name=os.environ.get("AWS_REGION") or None), _CLOUD)


def to_local(stack: "Stack") -> Access:
    return to_emulator(stack.endpoint, stack.region, stack.access_key_id, stack.secret_access_key)


def to_emulator(endpoint: str, region: str, access_key_id: str, secret_access_key: str) -> Access:
    """Use only the emulated AWS, and ignore the user's profile and configuration."""
    alone = botocore.session.Session(
        session_vars={"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}
    )
    session = boto3.Session(
        botocore_session=alone,
        region_name=region,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
    )
    return Access(session, _LOCAL, endpoint)
