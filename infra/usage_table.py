"""The table that holds all stored data, and the stream that reports each change to it."""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct
from metering.storage.lists import LISTED_IN, LISTS
from metering.storage.organization_items import BY_PLAN

from infra.environments import Environment


class UsageTable(dynamodb.Table):
    """`dynamodb.Table`, not `TableV2`, because the emulator replaces a `TableV2` on update and loses its items."""

    def __init__(self, scope: Construct, construct_id: str, *, environment: Environment) -> None:
        super().__init__(
            scope,
            construct_id,
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            # Both images, so that the publisher can distinguish new usage from a change to old usage.
            stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES,
            time_to_live_attribute="expiresAt",
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            deletion_protection=environment.retain_data,
            removal_policy=RemovalPolicy.RETAIN if environment.retain_data else RemovalPolicy.DESTROY,
        )
        # Lists the organizations on a changed plan. Only organizations have a planId, so the index holds nothing else.
        self.add_global_secondary_index(
            index_name=BY_PLAN,
            partition_key=dynamodb.Attribute(name="planId", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        # Lists all organizations, and all counters of a billing period. DynamoDB splits a busy list by its sort key.
        self.add_global_secondary_index(
            index_name=LISTS,
            partition_key=dynamodb.Attribute(name=LISTED_IN, type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
