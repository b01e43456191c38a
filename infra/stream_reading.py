"""The reading of the table's stream by a function: what it may, and how Lambda delivers to it."""

from collections.abc import Sequence

import jsii
from aws_cdk import Duration, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.acknowledgment import acknowledge

# Where Lambda itself puts what failed; see failure_bucket.
_LAMBDAS_PREFIX = "aws/lambda"


class StreamReading(lambda_.EventSourceMapping):
    """Delivers the changes of items whose partition key begins with one of `prefixes`, in order, at least once.

    A DynamoDB stream should have at most two readers. Its logical id must never change: CloudFormation makes the new
    one before it deletes the old one, and Lambda refuses a second one for the same function and stream.
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
            # From the oldest: what changed before the event source was there is delivered too.
            starting_position=lambda_.StartingPosition.TRIM_HORIZON,
            # What TTL removes never wakes a function.
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
            # Bounded by age, not by a count (-1: no bound), which a short outage would use up. 20 of the stream's 24
            # hours: what is given up on is still in the stream when Lambda writes it to the bucket.
            retry_attempts=-1,
            max_record_age=Duration.hours(20),
            on_failure=_Bucket(failures),
        )


def may_read_stream(
    table: dynamodb.ITable, failures: s3.IBucket, *, puts: Sequence[str] = ()
) -> list[iam.PolicyStatement]:
    """What a reader's role needs: the stream, and the bucket for what failed; below `puts` its handler puts as well."""
    return [
        # Source: DynamoDB developer guide, "IAM policy to allow a Lambda function to access DynamoDB stream
        # records". Lambda refuses to create the event source if one of the four is missing.
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
        # Source: Lambda developer guide, on-failure destinations: S3 needs PutObject and ListBucket.
        iam.PolicyStatement(actions=["s3:ListBucket"], resources=[failures.bucket_arn]),
    ]


def acknowledge_object_wildcards(construct: Construct, failures: s3.IBucket, *, puts: Sequence[str] = ()) -> None:
    """Say why a reader's role has wildcards: one for each prefix that `may_read_stream` was given, and Lambda's own."""
    # cdk-nag names what another stack exports by the export.
    export = Stack.of(construct).resolve(Stack.of(failures).export_value(failures.bucket_arn))["Fn::ImportValue"]
    for prefix in (*puts, _LAMBDAS_PREFIX):
        acknowledge(
            construct,
            f"AwsSolutions-IAM5[Resource::{export}/{prefix}/*]",
            "An object is named after the failed record or batch, which nobody knows beforehand; the role may only "
            "put, and only below this prefix.",
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
        raise ValueError("the table has no stream to read")
    return table.table_stream_arn
