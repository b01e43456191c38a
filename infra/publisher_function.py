"""The function that makes events of stored usage, and the reading of the stream that feeds it."""

from pathlib import Path

import jsii
from aws_cdk import Duration, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct
from metering.events import UNPUBLISHABLE
from metering.items import USAGE_PREFIX

from infra.acknowledgment import acknowledge
from infra.environments import Environment
from infra.metering_function import MeteringFunction

# Where the publisher's handler and Lambda itself put what failed; see failure_bucket.
_FAILURE_PREFIXES = (UNPUBLISHABLE, "aws/lambda")


class PublisherFunction(MeteringFunction):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: Environment,
        bundle: Path,
        table: dynamodb.ITable,
        bus: events.IEventBus,
        failures: s3.IBucket,
    ) -> None:
        stream_arn = _stream_arn(table)
        super().__init__(
            scope,
            construct_id,
            environment=environment,
            bundle=bundle,
            handler="metering.publisher.handler",
            timeout_s=60,
            memory_mib=environment.publisher_memory_mib,
            variables={
                "BUS_NAME": bus.event_bus_name,
                "EVENT_SOURCE": environment.event_source,
                "FAILURE_BUCKET": failures.bucket_name,
            },
            may=[
                # Source: DynamoDB developer guide, "IAM policy to allow a Lambda function to access DynamoDB stream
                # records". Lambda refuses to create the event source if one of the four is missing.
                iam.PolicyStatement(
                    actions=[
                        "dynamodb:DescribeStream",
                        "dynamodb:GetRecords",
                        "dynamodb:GetShardIterator",
                        "dynamodb:ListStreams",
                    ],
                    resources=[stream_arn],
                ),
                iam.PolicyStatement(actions=["events:PutEvents"], resources=[bus.event_bus_arn]),
                iam.PolicyStatement(
                    actions=["s3:PutObject"],
                    resources=[failures.arn_for_objects(f"{prefix}/*") for prefix in _FAILURE_PREFIXES],
                ),
                # Source: Lambda developer guide, on-failure destinations: S3 needs PutObject and ListBucket.
                iam.PolicyStatement(actions=["s3:ListBucket"], resources=[failures.bucket_arn]),
            ],
        )
        self._acknowledge_object_wildcards(failures)
        self._read(stream_arn, environment=environment, failures=failures)

    def _read(self, stream_arn: str, *, environment: Environment, failures: s3.IBucket) -> None:
        lambda_.EventSourceMapping(
            self,
            "Stream",
            target=self.function,
            event_source_arn=stream_arn,
            # From the oldest: usage recorded before the event source was there is published too.
            starting_position=lambda_.StartingPosition.TRIM_HORIZON,
            # New usage is a new item, or one in the place of an expired one. Counters, organizations and what TTL
            # removes never wake the function.
            filters=[
                lambda_.FilterCriteria.filter(
                    {
                        "eventName": lambda_.FilterRule.or_("INSERT", "MODIFY"),
                        "dynamodb": {"Keys": {"pk": {"S": lambda_.FilterRule.begins_with(USAGE_PREFIX)}}},
                    }
                )
            ],
            batch_size=environment.stream_batch_size,
            parallelization_factor=1,
            report_batch_item_failures=True,
            bisect_batch_on_error=True,
            # Bounded by age, not by a count (-1: no bound), which a short outage of the bus would use up. 20 of the
            # stream's 24 hours: what is given up on is still in the stream when Lambda writes it to the bucket.
            retry_attempts=-1,
            max_record_age=Duration.hours(20),
            on_failure=_Bucket(failures),
        )

    def _acknowledge_object_wildcards(self, failures: s3.IBucket) -> None:
        # cdk-nag names what another stack exports by the export.
        export = Stack.of(self).resolve(Stack.of(failures).export_value(failures.bucket_arn))["Fn::ImportValue"]
        for prefix in _FAILURE_PREFIXES:
            acknowledge(
                self,
                f"AwsSolutions-IAM5[Resource::{export}/{prefix}/*]",
                "An object is named after the failed record or batch, which nobody knows beforehand; the role may "
                "only put, and only below this prefix.",
            )


@jsii.implements(lambda_.IEventSourceDlq)
class _Bucket:
    """A bucket as on-failure destination: it keeps the records themselves, where a queue gets only their positions.

    CDK's own `S3OnFailureDestination` would let the function read and delete everything in the bucket.
    """

    def __init__(self, bucket: s3.IBucket) -> None:
        self._bucket = bucket

    def bind(
        self,
        target: lambda_.IEventSourceMapping,  # noqa: ARG002 - the interface's
        target_handler: lambda_.IFunction,  # noqa: ARG002 - the interface's
    ) -> lambda_.DlqDestinationConfig:
        return lambda_.DlqDestinationConfig(destination=self._bucket.bucket_arn)


def _stream_arn(table: dynamodb.ITable) -> str:
    if table.table_stream_arn is None:
        raise ValueError("the table has no stream to publish from")
    return table.table_stream_arn
