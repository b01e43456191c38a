from infra.environments import Environment
from tests.testing.stacks import Stacks

DAY_S = 24 * 60 * 60


def test_every_event_of_the_bus_reaches_the_queue(stacks: Stacks) -> None:
    rule = stacks.service.properties("AWS::Events::Rule", "Audit")
    assert stacks.name(rule["EventBusName"]) == "UsageEvents"
    assert rule["EventPattern"] == {"source": [{"prefix": ""}]}
    assert rule["State"] == "ENABLED"
    (target,) = rule["Targets"]
    assert stacks.name(target["Arn"]) == "AuditQueue.Arn"
    assert not {"Input", "InputPath", "InputTransformer"} & set(target)


def test_the_queue_is_encrypted_and_keeps_events_for_its_days(stacks: Stacks, environment: Environment) -> None:
    queue = stacks.service.properties("AWS::SQS::Queue", "Audit")
    assert queue["SqsManagedSseEnabled"] is True
    assert queue["MessageRetentionPeriod"] == environment.audit_retention_days * DAY_S
    assert environment.audit_retention_days <= 14


def test_only_the_rule_may_send_to_the_queue(stacks: Stacks) -> None:
    policy = stacks.service.properties("AWS::SQS::QueuePolicy", "Audit")["PolicyDocument"]["Statement"]
    (allowed,) = (statement for statement in policy if statement["Effect"] == "Allow")
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert stacks.name(allowed["Condition"]["ArnEquals"]["aws:SourceArn"]) == "AuditEverything.Arn"
    assert "sqs:SendMessage" in allowed["Action"]


def test_the_queue_denies_plain_http_where_the_environment_says_so(stacks: Stacks, environment: Environment) -> None:
    policy = stacks.service.properties("AWS::SQS::QueuePolicy", "Audit")["PolicyDocument"]["Statement"]
    denied = [statement["Condition"] for statement in policy if statement["Effect"] == "Deny"]
    assert denied == [{"Bool": {"aws:SecureTransport": "false"}}] * environment.tls_only
