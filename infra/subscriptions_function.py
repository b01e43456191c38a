"""The function that applies other services' events on the bus to organizations."""

from pathlib import Path

from aws_cdk import Duration
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_sqs as sqs
from constructs import Construct
from metering.inbound.consumed_events import CONSUMED

from infra.environments import Environment
from infra.metering_function import MeteringFunction


class SubscriptionsFunction(MeteringFunction):
    """Events that cannot be applied go to the queue `rejected`.

    The handler sends events that break the contract, with the reason. Lambda sends events that failed at all three
    tries, in Lambda's own form. It does the same with events that it could not start within six hours.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: Environment,
        bundle: Path,
        table: dynamodb.ITable,
        bus: events.IEventBus,
        rejected: sqs.IQueue,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            environment=environment,
            bundle=bundle,
            handler="metering.subscriptions.handler",
            # A function that waits for the end of an outage would take concurrency from recording. So this time is
            # short, and Lambda's tries are minutes apart.
            timeout_s=30,
            memory_mib=environment.publisher_memory_mib,
            variables={"TABLE_NAME": table.table_name, "REJECTED_QUEUE_URL": rejected.queue_url},
            may=[
                iam.PolicyStatement(actions=["dynamodb:GetItem", "dynamodb:UpdateItem"], resources=[table.table_arn]),
                iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[rejected.queue_arn]),
            ],
        )
        lambda_.EventInvokeConfig(
            self,
            "Retries",
            function=self.function,
            # Both are Lambda's maximum. Two more tries follow a failure, one minute later and two minutes after that.
            # An event that cannot start, for example because the function is throttled, waits for up to six hours.
            retry_attempts=2,
            max_event_age=Duration.hours(6),
            on_failure=destinations.SqsDestination(rejected),
        )
        events.Rule(
            self,
            "Changes",
            event_bus=bus,
            event_pattern=events.EventPattern(detail_type=list(CONSUMED)),
            # If Lambda does not accept an event within 24 hours, EventBridge sends it to the queue unchanged.
            targets=[targets.LambdaFunction(self.function, dead_letter_queue=rejected)],
        )
