"""Clients for an AWS: the user's own, or the emulated one of a local stack."""

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

# An operator waits at the terminal: better a clear error soon than a long silence. The read timeout is above the
# 20 s of the longest long poll.
_CLOUD = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
# Loopback is never reached through a proxy, and what does not answer there will not answer at the second try.
_LOCAL = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1}, proxies={})


@dataclass(frozen=True)
class Access:
    """Credentials, region and place of an AWS."""

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
    """By the user's own credentials and region, as the AWS command line finds them."""
    # Of the variables for a region, boto3 knows only the older AWS_DEFAULT_REGION.
    return Access(boto3.Session(region_name=os.environ.get("AWS_REGION") or None), _CLOUD)


def to_local(stack: "Stack") -> Access:
    return to_emulator(stack.endpoint, stack.region, stack.access_key_id, stack.secret_access_key)


def to_emulator(endpoint: str, region: str, access_key_id: str, secret_access_key: str) -> Access:
    """To the emulated AWS and nowhere else, whatever profile and configuration the user has."""
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
