"""The function that notices when usage reaches a threshold of its limit."""

from pathlib import Path

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct
from metering.storage.counter_items import COUNTER_PREFIX
from metering.storage.organization_items import BY_PLAN, ORGANIZATION_PREFIX
from metering.storage.plan_items import PLAN_PREFIX

from infra.environments import Environment
from infra.metering_function import MeteringFunction
from infra.stream_reading import StreamReading, acknowledge_object_wildcards, may_read_stream


class WatcherFunction(MeteringFunction):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: Environment,
        bundle: Path,
        table: dynamodb.ITable,
        failures: s3.IBucket,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            environment=environment,
            bundle=bundle,
            handler="metering.limit_watcher.handler",
            # A changed plan leads to a check of every organization on it.
            timeout_s=300,
            memory_mib=environment.publisher_memory_mib,
            variables={
                "TABLE_NAME": table.table_name,
                "RETENTION_DAYS": str(environment.usage_retention_days),
            },
            may=[
                *may_read_stream(table, failures),
                iam.PolicyStatement(
                    actions=["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem"], resources=[table.table_arn]
                ),
                iam.PolicyStatement(actions=["dynamodb:Query"], resources=[f"{table.table_arn}/index/{BY_PLAN}"]),
            ],
        )
        acknowledge_object_wildcards(self, failures)
        StreamReading(
            self,
            "Stream",
            function=self.function,
            table=table,
            prefixes=[COUNTER_PREFIX, ORGANIZATION_PREFIX, PLAN_PREFIX],
            batch_size=environment.watcher_batch_size,
            failures=failures,
        )
