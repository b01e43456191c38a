"""The function that publishes events of stored usage and of reached limits."""

from pathlib import Path

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct
from metering.outbox.events import UNPUBLISHABLE
from metering.storage.notice_items import NOTICE_PREFIX
from metering.storage.usage_records import USAGE_PREFIX

from infra.environments import Environment
from infra.metering_function import MeteringFunction
from infra.stream_reading import StreamReading, acknowledge_object_wildcards, may_read_stream


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
                *may_read_stream(table, failures, puts=[UNPUBLISHABLE]),
                iam.PolicyStatement(actions=["events:PutEvents"], resources=[bus.event_bus_arn]),
            ],
        )
        acknowledge_object_wildcards(self, failures, puts=[UNPUBLISHABLE])
        # New usage is a new item, or replaces an expired one. The watcher reads the changes of counters, organizations
        # and plans.
        StreamReading(
            self,
            "Stream",
            function=self.function,
            table=table,
            prefixes=[USAGE_PREFIX, NOTICE_PREFIX],
            batch_size=environment.publisher_batch_size,
            failures=failures,
        )
