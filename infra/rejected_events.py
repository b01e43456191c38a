"""The queue of rejected events, and an alarm on it."""

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.acknowledgment import acknowledge
from infra.environments import Environment


class RejectedEvents(sqs.Queue):
    """Malformed events, with the reason, and events that could not be stored. An operator has to read them.

    The alarm only changes its state. The operator decides whom the alarm notifies, and how.
    """

    def __init__(self, scope: Construct, construct_id: str, *, environment: Environment) -> None:
        super().__init__(
            scope,
            construct_id,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=environment.tls_only,
            retention_period=Duration.days(environment.audit_retention_days),
        )
        cloudwatch.Alarm(
            self,
            "Alarm",
            alarm_description=(
                "Events about organizations or subscriptions were rejected. Read them in the queue RejectedQueue."
            ),
            metric=self.metric_approximate_number_of_messages_visible(period=Duration.minutes(5), statistic="Maximum"),
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        acknowledge(
            self,
            "AwsSolutions-SQS3",
            "This queue is itself a dead-letter queue. Only people read it, and an alarm asks them to.",
        )
        if not environment.tls_only:
            acknowledge(
                self,
                "AwsSolutions-SQS4",
                "This environment is the local emulator. It speaks plain HTTP, so a TLS rule would deny every request.",
            )
