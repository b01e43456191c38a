"""The function that records usage. Only this function writes usage records and counters."""

from pathlib import Path

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.environments import Environment
from infra.metering_function import MeteringFunction


class RecordFunction(MeteringFunction):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: Environment,
        bundle: Path,
        table: dynamodb.ITable,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            environment=environment,
            bundle=bundle,
            handler="metering.record_api.handler",
            timeout_s=15,
            memory_mib=environment.record_memory_mib,
            variables={
                "TABLE_NAME": table.table_name,
                **environment.token_variables,
                "RETENTION_DAYS": str(environment.usage_retention_days),
                "UNKNOWN_FEATURES": environment.unknown_features,
            },
            may=[
                # A transaction needs the permissions of its reads and writes, and no other. PutItem writes records.
                # UpdateItem adds to counters and announces their pages. GetItem reads organizations, and stored records
                # in transactions. Query sums the shards.
                iam.PolicyStatement(
                    actions=[
                        "dynamodb:PutItem",
                        "dynamodb:UpdateItem",
                        "dynamodb:GetItem",
                        "dynamodb:Query",
                    ],
                    resources=[table.table_arn],
                )
            ],
        )
