"""The function that answers queries. It reads the table and has no permission to write."""

from pathlib import Path

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.environments import Environment
from infra.metering_function import MeteringFunction


class QueryFunction(MeteringFunction):
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
            handler="metering.query_api.handler",
            timeout_s=15,
            memory_mib=environment.query_memory_mib,
            variables={"TABLE_NAME": table.table_name, **environment.token_variables},
            may=[
                # GetItem reads organizations, plans and records, also in transactions. Query sums the shards and lists
                # the records.
                iam.PolicyStatement(actions=["dynamodb:GetItem", "dynamodb:Query"], resources=[table.table_arn])
            ],
        )
