"""A queue that receives every event of the bus, as consumers see them."""

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.acknowledgment import acknowledge
from infra.environments import Environment


class AuditTrail(Construct):
    def __init__(self, scope: Construct, construct_id: str, *, environment: Environment, bus: events.IEventBus) -> None:
        super().__init__(scope, construct_id)
        self.queue = sqs.Queue(
            self,
            "Queue",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=environment.tls_only,
            retention_period=Duration.days(environment.audit_retention_days),
        )
        # Matches every event: each has a source, and each source begins with the empty text.
        events.Rule(
            self,
            "Everything",
            event_bus=bus,
            event_pattern=events.EventPattern(source=events.Match.prefix("")),
            targets=[targets.SqsQueue(self.queue)],
        )
        acknowledge(
            self.queue,
            "AwsSolutions-SQS3",
            "No program consumes this queue, so no message can fail in it. People read it, and SQS deletes old "
            "messages. EventBridge retries a delivery to it for 24 hours.",
        )
        if not environment.tls_only:
            acknowledge(
                self.queue,
                "AwsSolutions-SQS4",
                "This environment is the local emulator. It speaks plain HTTP, so a TLS rule would deny every request.",
            )
