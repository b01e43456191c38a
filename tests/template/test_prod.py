"""The promises of prod as literal values. A test that reads the environment cannot notice a wrong value in it."""

import json
from dataclasses import fields
from typing import Any

import pytest

from infra.environments import PROD, Environment
from tests.testing.stacks import Resource, Stacks

# The promised value of each field of the environment.
PROMISED = {
    "name": "prod",
    "bundle": "cloud",
    "cpu": "arm64",
    "python": "3.13",
    "retain_data": True,
    "tls_only": True,
    "asset_bucket": None,
    "log_retention_days": 365,
    "record_memory_mib": 1024,
    "query_memory_mib": 1024,
    "publisher_memory_mib": 512,
    "throttle_rate_per_s": 2000,
    "throttle_burst": 4000,
    "audit_retention_days": 14,
    "watcher_batch_size": 1000,
    "publisher_batch_size": 1000,
    "usage_retention_days": 400,
    "organization_claim": "org_id",
    "scope_prefix": "",
    "roles_as_scopes": False,
    "event_source": "saas.billing",
    "unknown_features": "reject",
}
DAY_S = 24 * 60 * 60


@pytest.fixture
def prod(all_stacks: dict[str, Stacks]) -> Stacks:
    return all_stacks["prod"]


def test_every_setting_of_prod_has_its_promise() -> None:
    assert PROMISED.keys() == {field.name for field in fields(Environment)}
    assert {name: getattr(PROD, name) for name in PROMISED} == PROMISED


def test_the_table_is_protected_from_deletion_and_can_be_restored(prod: Stacks) -> None:
    table = prod.data.only("AWS::DynamoDB::Table")
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert table["Properties"]["DeletionProtectionEnabled"] is True
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["Properties"]["SSESpecification"] == {"SSEEnabled": True}
    manifest = json.loads((prod.folder / "manifest.json").read_text())
    assert manifest["artifacts"]["usage-metering-prod-data"]["properties"]["terminationProtection"] is True


def test_unpublished_records_are_kept_as_long_as_usage(prod: Stacks) -> None:
    bucket = prod.data.only("AWS::S3::Bucket")
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain")
    (rule,) = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == 400


def test_plain_http_is_denied(prod: Stacks) -> None:
    policies = [
        *prod.data.resources("AWS::S3::BucketPolicy").values(),
        *prod.service.resources("AWS::SQS::QueuePolicy").values(),
    ]
    assert len(policies) == 3
    for policy in policies:
        assert {"Bool": {"aws:SecureTransport": "false"}} in [
            statement["Condition"]
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Deny"
        ]


def test_logs_are_kept_for_a_year_also_after_their_stack(prod: Stacks) -> None:
    groups = prod.service.resources("AWS::Logs::LogGroup").values()
    assert len(groups) == 6
    for group in groups:
        assert (group["DeletionPolicy"], group["Properties"]["RetentionInDays"]) == ("Retain", 365)


def test_queues_keep_events_for_14_days(prod: Stacks) -> None:
    queues = prod.service.resources("AWS::SQS::Queue").values()
    assert [queue["Properties"]["MessageRetentionPeriod"] for queue in queues] == [14 * DAY_S] * 2


def test_the_api_takes_2000_requests_a_second(prod: Stacks) -> None:
    stage = prod.service.properties("AWS::ApiGatewayV2::Stage")
    assert stage["DefaultRouteSettings"] == {"ThrottlingRateLimit": 2000, "ThrottlingBurstLimit": 4000}
    assert "RouteSettings" not in stage


def test_usage_of_an_unknown_feature_is_refused_and_usage_is_kept_for_400_days(prod: Stacks) -> None:
    variables = _variables(prod, "Record")
    settings = {name: variables[name] for name in ("UNKNOWN_FEATURES", "RETENTION_DAYS")}
    assert settings == {"UNKNOWN_FEATURES": "reject", "RETENTION_DAYS": "400"}
    for function in ("Record", "Query"):
        variables = _variables(prod, function)
        assert (variables["ORGANIZATION_CLAIM"], variables["SCOPE_PREFIX"]) == ("org_id", "")
        assert variables["ROLES_AS_SCOPES"] == "no"
    assert _variables(prod, "Publisher")["EVENT_SOURCE"] == "saas.billing"
    assert _variables(prod, "Watcher")["RETENTION_DAYS"] == "400"


def test_the_functions_have_their_memory_and_python(prod: Stacks) -> None:
    memory = {"Record": 1024, "Query": 1024, "Publisher": 512, "Watcher": 512, "Subscriptions": 512}
    for name, mib in memory.items():
        function = prod.service.properties("AWS::Lambda::Function", name)
        assert (function["MemorySize"], function["Runtime"], function["Architectures"]) == (
            mib,
            "python3.13",
            ["arm64"],
        )


def test_the_stream_is_read_in_batches_of_1000(prod: Stacks) -> None:
    sources = prod.service.resources("AWS::Lambda::EventSourceMapping").values()
    assert [source["Properties"]["BatchSize"] for source in sources] == [1000] * 2


# --- in every environment --------------------------------------------------------------------------------------------


def test_no_browser_may_call_the_api(stacks: Stacks, environment: Environment) -> None:
    # The API has no further properties. CORS would let any web page call it with a stolen token.
    api = stacks.service.properties("AWS::ApiGatewayV2::Api")
    assert api == {"Name": f"usage-metering-{environment.name}", "ProtocolType": "HTTP"}


def test_there_are_no_kinds_of_resources_but_these(stacks: Stacks, environment: Environment) -> None:
    # A function URL, a policy of the bus or another API would be one more way into the service.
    denies_http = {"AWS::S3::BucketPolicy"} if environment.tls_only else set()
    assert _kinds(stacks.data.body["Resources"]) == {
        "AWS::DynamoDB::Table",
        "AWS::Events::EventBus",
        "AWS::S3::Bucket",
        *denies_http,
    }
    assert _kinds(stacks.service.body["Resources"]) == {
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::Authorizer",
        "AWS::ApiGatewayV2::Integration",
        "AWS::ApiGatewayV2::Route",
        "AWS::ApiGatewayV2::Stage",
        "AWS::CloudWatch::Alarm",
        "AWS::Events::Rule",
        "AWS::IAM::Role",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Function",
        "AWS::Lambda::Permission",
        "AWS::Logs::LogGroup",
        "AWS::SQS::Queue",
        "AWS::SQS::QueuePolicy",
    }


def test_nothing_is_allowed_to_everybody(stacks: Stacks) -> None:
    for template in stacks.both:
        for resource in template.body["Resources"].values():
            properties = resource.get("Properties", {})
            statements = properties.get("PolicyDocument", {}).get("Statement", [])
            for statement in (each for each in statements if each["Effect"] == "Allow"):
                assert statement["Principal"] not in ("*", {"AWS": "*"})
            assert properties.get("Principal") != "*"
            # A resource policy of a table or its stream would grant access, too.
            assert "ResourcePolicy" not in properties


def _kinds(resources: dict[str, Resource]) -> set[str]:
    return {resource["Type"] for resource in resources.values()} - {"AWS::CDK::Metadata"}


def _variables(stacks: Stacks, function: str) -> dict[str, Any]:
    variables: dict[str, Any] = stacks.service.properties("AWS::Lambda::Function", function)["Environment"]["Variables"]
    return variables
