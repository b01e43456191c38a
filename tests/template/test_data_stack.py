import json

from infra.environments import Environment
from tests.testing.stacks import Stacks
from tests.testing.table import SCHEMA

CODE = ("AWS::Lambda::", "AWS::ApiGatewayV2::", "AWS::IAM::", "Custom::", "AWS::CloudFormation::CustomResource")


def test_the_data_stack_holds_no_code(stacks: Stacks) -> None:
    types = {resource["Type"] for resource in stacks.data.body["Resources"].values()}
    assert not [found for found in types if found.startswith(CODE)]


def test_the_data_stack_depends_on_nothing_of_the_service(stacks: Stacks) -> None:
    assert "Fn::ImportValue" not in stacks.data.path.read_text()
    assert "Fn::ImportValue" in stacks.service.path.read_text()


def test_the_service_stores_nothing_but_copies_of_events(stacks: Stacks) -> None:
    kept = {"AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable", "AWS::S3::Bucket", "AWS::Events::EventBus"}
    assert not kept & {resource["Type"] for resource in stacks.service.body["Resources"].values()}


def test_the_table_is_keyed_by_pk_and_sk(stacks: Stacks) -> None:
    table = stacks.data.properties("AWS::DynamoDB::Table")
    assert table["KeySchema"] == [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ]
    assert {attribute["AttributeType"] for attribute in table["AttributeDefinitions"]} == {"S"}


def test_the_table_is_paid_by_request(stacks: Stacks) -> None:
    assert stacks.data.properties("AWS::DynamoDB::Table")["BillingMode"] == "PAY_PER_REQUEST"


def test_the_stream_shows_what_was_and_what_is(stacks: Stacks) -> None:
    table = stacks.data.properties("AWS::DynamoDB::Table")
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_expired_items_are_removed(stacks: Stacks) -> None:
    table = stacks.data.properties("AWS::DynamoDB::Table")
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}


def test_the_table_can_be_restored_to_any_second(stacks: Stacks) -> None:
    table = stacks.data.properties("AWS::DynamoDB::Table")
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_the_table_is_encrypted_with_the_managed_key(stacks: Stacks) -> None:
    assert stacks.data.properties("AWS::DynamoDB::Table")["SSESpecification"] == {"SSEEnabled": True}


def test_stored_data_outlives_its_stack_where_the_environment_says_so(stacks: Stacks, environment: Environment) -> None:
    policy = "Retain" if environment.retain_data else "Delete"
    for stored in ("AWS::DynamoDB::Table", "AWS::S3::Bucket"):
        resource = stacks.data.only(stored)
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == (policy, policy)


def test_the_table_refuses_deletion_where_the_environment_says_so(stacks: Stacks, environment: Environment) -> None:
    table = stacks.data.properties("AWS::DynamoDB::Table")
    assert table["DeletionProtectionEnabled"] is environment.retain_data


def test_the_data_stack_refuses_deletion_where_the_environment_says_so(
    stacks: Stacks, environment: Environment
) -> None:
    manifest = json.loads((stacks.folder / "manifest.json").read_text())
    properties = manifest["artifacts"][f"usage-metering-{environment.name}-data"]["properties"]
    assert properties.get("terminationProtection", False) is environment.retain_data


def test_the_failure_bucket_is_private_and_encrypted(stacks: Stacks) -> None:
    bucket = stacks.data.properties("AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}


def test_failures_are_kept_as_long_as_usage(stacks: Stacks, environment: Environment) -> None:
    (rule,) = stacks.data.properties("AWS::S3::Bucket")["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == environment.usage_retention_days
    assert rule["Status"] == "Enabled"


def test_the_failure_bucket_denies_plain_http_where_the_environment_says_so(
    stacks: Stacks, environment: Environment
) -> None:
    policies = stacks.data.resources("AWS::S3::BucketPolicy").values()
    assert len(policies) == environment.tls_only
    for policy in policies:
        (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_bus_has_the_name_that_consumers_know(stacks: Stacks, environment: Environment) -> None:
    assert stacks.data.properties("AWS::Events::EventBus")["Name"] == f"usage-metering-{environment.name}"


def test_the_outputs_are_the_names_of_table_bus_and_failure_bucket(stacks: Stacks) -> None:
    outputs = {key: stacks.name(value) for key, value in stacks.data.outputs().items()}
    assert outputs == {"Table": "UsageTable", "Bus": "UsageEvents", "FailureBucket": "Failures"}


def test_the_indexes_name_the_organizations_of_a_plan_and_the_items_of_a_list(stacks: Stacks) -> None:
    assert stacks.data.properties("AWS::DynamoDB::Table")["GlobalSecondaryIndexes"] == [
        {
            "IndexName": index,
            "KeySchema": [{"AttributeName": name, "KeyType": "HASH"}, {"AttributeName": "pk", "KeyType": "RANGE"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
        for index, name in (("organizations-by-plan", "planId"), ("lists", "listedIn"))
    ]


def test_the_tests_use_the_schema_that_the_stack_creates(stacks: Stacks) -> None:
    table = stacks.data.properties("AWS::DynamoDB::Table")
    attributes = sorted(each["AttributeName"] for each in SCHEMA["AttributeDefinitions"])
    assert sorted(each["AttributeName"] for each in table["AttributeDefinitions"]) == attributes
    assert {name: table[name] for name in SCHEMA if name != "AttributeDefinitions"} == {
        name: value for name, value in SCHEMA.items() if name != "AttributeDefinitions"
    }
