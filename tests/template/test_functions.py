import pytest

from infra.environments import Environment
from tests.testing.stacks import Stacks

FUNCTIONS = ("Record", "Query", "Publisher", "Subscriptions", "Watcher")


@pytest.mark.parametrize(
    ("function", "handler", "timeout_s"),
    [
        ("Record", "metering.record_api.handler", 15),
        ("Query", "metering.query_api.handler", 15),
        ("Publisher", "metering.publisher.handler", 60),
        ("Subscriptions", "metering.subscriptions.handler", 30),
        ("Watcher", "metering.limit_watcher.handler", 300),
    ],
)
def test_a_function_runs_its_handler_on_the_python_of_its_environment(
    stacks: Stacks, environment: Environment, function: str, handler: str, timeout_s: int
) -> None:
    properties = stacks.service.properties("AWS::Lambda::Function", function)
    assert properties["Handler"] == handler
    assert properties["Timeout"] == timeout_s
    assert properties["Runtime"] == f"python{environment.python}"
    assert properties["Architectures"] == [environment.cpu]


def test_a_function_has_the_memory_of_its_environment(stacks: Stacks, environment: Environment) -> None:
    assert [stacks.service.properties("AWS::Lambda::Function", one)["MemorySize"] for one in FUNCTIONS] == [
        environment.record_memory_mib,
        environment.query_memory_mib,
        environment.publisher_memory_mib,
        environment.publisher_memory_mib,
        environment.publisher_memory_mib,
    ]


def test_there_are_no_functions_but_ours(stacks: Stacks) -> None:
    assert len(stacks.service.resources("AWS::Lambda::Function")) == len(FUNCTIONS)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_not_traced(stacks: Stacks, function: str) -> None:
    assert "TracingConfig" not in stacks.service.properties("AWS::Lambda::Function", function)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_writes_to_the_log_group_that_its_role_allows(stacks: Stacks, function: str) -> None:
    properties = stacks.service.properties("AWS::Lambda::Function", function)
    assert stacks.name(properties["LoggingConfig"]["LogGroup"]) == f"{function}Log"
    assert stacks.name(properties["Role"]) == f"{function}Role.Arn"


def test_logs_are_kept_as_long_as_the_environment_says(stacks: Stacks, environment: Environment) -> None:
    groups = stacks.service.resources("AWS::Logs::LogGroup")
    assert {id_[:-8] for id_ in groups} == {*(f"{function}Log" for function in FUNCTIONS), "HttpAccessLog"}
    assert {group["Properties"]["RetentionInDays"] for group in groups.values()} == {environment.log_retention_days}
    policy = "Retain" if environment.retain_data else "Delete"
    assert {group["DeletionPolicy"] for group in groups.values()} == {policy}


def test_the_record_function_knows_its_settings(stacks: Stacks, environment: Environment) -> None:
    assert _variables(stacks, "Record") == {
        "TABLE_NAME": "UsageTable",
        "ORGANIZATION_CLAIM": "org_id",
        "SCOPE_PREFIX": "",
        "ROLES_AS_SCOPES": "no",
        "RETENTION_DAYS": str(environment.usage_retention_days),
        "UNKNOWN_FEATURES": environment.unknown_features,
        "POWERTOOLS_SERVICE_NAME": "usage-metering",
        "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def test_the_query_function_knows_its_settings(stacks: Stacks) -> None:
    assert _variables(stacks, "Query") == {
        "TABLE_NAME": "UsageTable",
        "ORGANIZATION_CLAIM": "org_id",
        "SCOPE_PREFIX": "",
        "ROLES_AS_SCOPES": "no",
        "POWERTOOLS_SERVICE_NAME": "usage-metering",
        "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def test_the_publisher_knows_its_settings(stacks: Stacks) -> None:
    assert _variables(stacks, "Publisher") == {
        "BUS_NAME": "UsageEvents",
        "EVENT_SOURCE": "saas.billing",
        "FAILURE_BUCKET": "Failures",
        "POWERTOOLS_SERVICE_NAME": "usage-metering",
        "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def test_the_record_function_may_only_record(stacks: Stacks) -> None:
    assert stacks.statements("Record") == [
        _allows("logs:CreateLogStream", "logs:PutLogEvents", on=["RecordLog.Arn"]),
        _allows(
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
            "dynamodb:GetItem",
            "dynamodb:Query",
            on=["UsageTable.Arn"],
        ),
    ]


def test_the_query_function_may_only_read(stacks: Stacks) -> None:
    assert stacks.statements("Query") == [
        _allows("logs:CreateLogStream", "logs:PutLogEvents", on=["QueryLog.Arn"]),
        _allows("dynamodb:GetItem", "dynamodb:Query", on=["UsageTable.Arn"]),
    ]


def test_the_publisher_may_only_publish(stacks: Stacks) -> None:
    assert stacks.statements("Publisher") == [
        _allows("logs:CreateLogStream", "logs:PutLogEvents", on=["PublisherLog.Arn"]),
        _allows(
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
            on=["UsageTable.StreamArn"],
        ),
        _allows("s3:PutObject", on=["Failures.Arn/unpublishable/*", "Failures.Arn/aws/lambda/*"]),
        _allows("s3:ListBucket", on=["Failures.Arn"]),
        _allows("events:PutEvents", on=["UsageEvents.Arn"]),
    ]


def test_the_watcher_may_only_look_and_put_notices(stacks: Stacks) -> None:
    assert stacks.statements("Watcher") == [
        _allows("logs:CreateLogStream", "logs:PutLogEvents", on=["WatcherLog.Arn"]),
        _allows(
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
            on=["UsageTable.StreamArn"],
        ),
        _allows("s3:PutObject", on=["Failures.Arn/aws/lambda/*"]),
        _allows("s3:ListBucket", on=["Failures.Arn"]),
        _allows("dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", on=["UsageTable.Arn"]),
        _allows("dynamodb:Query", on=["UsageTable.Arn/index/organizations-by-plan"]),
    ]


def test_the_watcher_knows_its_settings(stacks: Stacks, environment: Environment) -> None:
    assert _variables(stacks, "Watcher") == {
        "TABLE_NAME": "UsageTable",
        "RETENTION_DAYS": str(environment.usage_retention_days),
        "POWERTOOLS_SERVICE_NAME": "usage-metering",
        "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def test_the_subscriptions_function_may_only_change_organizations_and_reject(stacks: Stacks) -> None:
    assert stacks.statements("Subscriptions") == [
        _allows("logs:CreateLogStream", "logs:PutLogEvents", on=["SubscriptionsLog.Arn"]),
        _allows("dynamodb:GetItem", "dynamodb:UpdateItem", on=["UsageTable.Arn"]),
        _allows("sqs:SendMessage", on=["Rejected.Arn"]),
    ]


def test_the_subscriptions_function_knows_its_settings(stacks: Stacks) -> None:
    assert _variables(stacks, "Subscriptions") == {
        "TABLE_NAME": "UsageTable",
        "REJECTED_QUEUE_URL": "Rejected",
        "POWERTOOLS_SERVICE_NAME": "usage-metering",
        "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def test_no_role_has_policies_beside_its_own(stacks: Stacks) -> None:
    assert len(stacks.service.resources("AWS::IAM::Role")) == len(FUNCTIONS)
    for template in stacks.both:
        assert not template.resources("AWS::IAM::Policy")
        assert not template.resources("AWS::IAM::ManagedPolicy")


def test_only_lambda_takes_a_role(stacks: Stacks) -> None:
    for role in stacks.service.resources("AWS::IAM::Role").values():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


def _variables(stacks: Stacks, function: str) -> dict[str, str]:
    variables = stacks.service.properties("AWS::Lambda::Function", function)["Environment"]["Variables"]
    return {key: stacks.name(value) for key, value in variables.items()}


def _allows(*actions: str, on: list[str]) -> dict[str, object]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": on}
