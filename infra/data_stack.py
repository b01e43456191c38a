"""The data stack: stored data, and the bus that consumers refer to. It outlives the service's stack."""

from aws_cdk import CfnOutput, IStackSynthesizer, Stack
from aws_cdk import aws_events as events
from constructs import Construct

from infra.environments import Environment
from infra.failure_bucket import FailureBucket
from infra.usage_table import UsageTable


class DataStack(Stack):
    """The stack with the outputs Table, Bus and FailureBucket, each a name."""

    def __init__(
        self, scope: Construct, construct_id: str, *, environment: Environment, synthesizer: IStackSynthesizer
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description="usage-metering: the stored usage, and the bus for its events",
            synthesizer=synthesizer,
            termination_protection=environment.retain_data,
        )
        self.table = UsageTable(self, "UsageTable", environment=environment)
        self.failures = FailureBucket(self, "Failures", environment=environment)
        # A physical name, because consumers write it into their rules.
        self.bus = events.EventBus(self, "UsageEvents", event_bus_name=f"usage-metering-{environment.name}")

        CfnOutput(self, "Table", value=self.table.table_name)
        CfnOutput(self, "Bus", value=self.bus.event_bus_name)
        CfnOutput(self, "FailureBucket", value=self.failures.bucket_name)
