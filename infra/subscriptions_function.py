"""The function that keeps organizations in step with what other services say of them on the bus."""

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
    """What it cannot use goes to `rejected`: what breaks the contract from the handler, with the reason; what failed at
    all three tries, or could not be begun for six hours, from Lambda, in a form of its own.
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
            # It does not sit out an outage: it would take concurrency from recording. Lambda's tries are minutes apart.
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
            # Both are the most that Lambda takes: two more tries after a failure, a minute and two minutes later; six
            # hours for what it could not even begin, as it was throttled.
            retry_attempts=2,
            max_event_age=Duration.hours(6),
            on_failure=destinations.SqsDestination(rejected),
        )
        events.Rule(
            self,
            "Changes",
            event_bus=bus,
            event_pattern=events.EventPattern(detail_type=list(CONSUMED)),
            # What Lambda does not take from the bus for a day comes to the queue as well, as it is.
            targets=[targets.LambdaFunction(self.function, dead_letter_queue=rejected)],
        )
