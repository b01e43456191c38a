"""A function's reads of the table's stream: the function's permissions, and how Lambda delivers records to it."""

from collections.abc import Sequence

import jsii
from aws_cdk import Duration, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.acknowledgment import acknowledge

# Lambda's own prefix for failed batches; see failure_bucket.
_LAMBDAS_PREFIX = "aws/lambda"


class StreamReading(lambda_.EventSourceMapping):
    """The delivery of changes to items whose partition key begins with one of `prefixes`, in order, at least once.

    A DynamoDB stream should have at most two readers. The logical id of this mapping must never change. CloudFormation
    would create the new mapping before it deletes the old one. Lambda accepts no second mapping for the same
    function and stream.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        function: lambda_.IFunction,
        table: dynamodb.ITable,
        prefixes: Sequence[str],
        batch_size: int,
        failures: s3.IBucket,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            target=function,
            event_source_arn=_stream_arn(table),
            # From the oldest record, so that changes from before this mapping existed are delivered too.
            starting_position=lambda_.StartingPosition.TRIM_HORIZON,
            # Removals by TTL never invoke a function.
            filters=[
                lambda_.FilterCriteria.filter(
                    {
                        "eventName": lambda_.FilterRule.or_("INSERT", "MODIFY"),
                        "dynamodb": {"Keys": {"pk": {"S": lambda_.FilterRule.begins_with(prefix)}}},
                    }
                )
                for prefix in prefixes
            ],
            batch_size=batch_size,
            parallelization_factor=1,
            report_batch_item_failures=True,
            bisect_batch_on_error=True,
            # Retries end by age. Their number has no limit (-1), because a short outage would use up a limit. After 20
            # of the stream's 24 hours, failed records are still in the stream when Lambda copies them to the bucket.
            retry_attempts=-1,
            max_record_age=Duration.hours(20),
            on_failure=_Bucket(failures),
        )


def may_read_stream(
    table: dynamodb.ITable, failures: s3.IBucket, *, puts: Sequence[str] = ()
) -> list[iam.PolicyStatement]:
    """Return the permissions of a reader's role: to read the stream, and to put failures into the bucket.

    `puts` are further prefixes in the bucket, for the reader's handler.
    """
    return [
        # Source: DynamoDB developer guide, "IAM policy to allow a Lambda function to access DynamoDB stream
        # records". Lambda does not create the event source if one of the four is missing.
        iam.PolicyStatement(
            actions=[
                "dynamodb:DescribeStream",
                "dynamodb:GetRecords",
                "dynamodb:GetShardIterator",
                "dynamodb:ListStreams",
            ],
            resources=[_stream_arn(table)],
        ),
        iam.PolicyStatement(
            actions=["s3:PutObject"],
            resources=[failures.arn_for_objects(f"{prefix}/*") for prefix in (*puts, _LAMBDAS_PREFIX)],
        ),
        # As an on-failure destination, S3 needs PutObject and ListBucket. Source: Lambda developer guide, on-failure
        # destinations.
        iam.PolicyStatement(actions=["s3:ListBucket"], resources=[failures.bucket_arn]),
    ]


def acknowledge_object_wildcards(construct: Construct, failures: s3.IBucket, *, puts: Sequence[str] = ()) -> None:
    """Acknowledge the wildcards of a reader's role: one for each prefix of `may_read_stream`, and Lambda's own."""
    # cdk-nag names another stack's resource by its export.
    export = Stack.of(construct).resolve(Stack.of(failures).export_value(failures.bucket_arn))["Fn::ImportValue"]
    for prefix in (*puts, _LAMBDAS_PREFIX):
        acknowledge(
            construct,
            f"AwsSolutions-IAM5[Resource::{export}/{prefix}/*]",
            "An object's name comes from the failed record or batch, so it is not known in advance. The role may only "
            "put objects, and only below this prefix.",
        )


@jsii.implements(lambda_.IEventSourceDlq)
class _Bucket:
    """A bucket as on-failure destination. The bucket receives the records; a queue would receive only their positions.

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
        raise ValueError("the table has no stream to read")
    return table.table_stream_arn
