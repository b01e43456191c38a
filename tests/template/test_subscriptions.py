from infra.environments import Environment
from tests.testing.stacks import Stacks

_CONSUMED = ["billing.subscription.changed", "org.created", "org.deleted"]


def test_events_about_organizations_reach_the_function(stacks: Stacks) -> None:
    rule = stacks.service.properties("AWS::Events::Rule", "Subscriptions")
    assert stacks.name(rule["EventBusName"]) == "UsageEvents"
    assert rule["EventPattern"] == {"detail-type": _CONSUMED}
    (target,) = rule["Targets"]
    assert stacks.name(target["Arn"]) == "SubscriptionsFunction.Arn"
    # The function gets the whole event.
    assert not {"Input", "InputPath", "InputTransformer"} & set(target)


def test_undelivered_and_failed_events_reach_the_queue(stacks: Stacks) -> None:
    (target,) = stacks.service.properties("AWS::Events::Rule", "Subscriptions")["Targets"]
    assert stacks.name(target["DeadLetterConfig"]["Arn"]) == "Rejected.Arn"
    retries = stacks.service.properties("AWS::Lambda::EventInvokeConfig")
    assert stacks.name(retries["FunctionName"]) == "SubscriptionsFunction"
    assert retries["Qualifier"] == "$LATEST"
    assert (retries["MaximumRetryAttempts"], retries["MaximumEventAgeInSeconds"]) == (2, 6 * 60 * 60)
    assert stacks.name(retries["DestinationConfig"]["OnFailure"]["Destination"]) == "Rejected.Arn"


def test_one_event_in_the_queue_raises_the_alarm(stacks: Stacks) -> None:
    # The README names the alarm by the start of its name.
    alarm = stacks.service.properties("AWS::CloudWatch::Alarm", "RejectedAlarm")
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    (dimension,) = alarm["Dimensions"]
    assert stacks.name(dimension["Value"]) == "Rejected.QueueName"
    assert (alarm["Statistic"], alarm["Threshold"], alarm["EvaluationPeriods"]) == ("Maximum", 1, 1)
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert alarm["TreatMissingData"] == "notBreaching"
    # The operator decides whom the alarm notifies.
    assert "AlarmActions" not in alarm


def test_the_rejected_queue_is_encrypted_and_keeps_events_for_its_days(
    stacks: Stacks, environment: Environment
) -> None:
    queue = stacks.service.properties("AWS::SQS::Queue", "Rejected")
    assert queue["SqsManagedSseEnabled"] is True
    assert queue["MessageRetentionPeriod"] == environment.audit_retention_days * 24 * 60 * 60
