"""The failure bucket: whole stream records that a stream function could not process, for an operator to handle.

unpublishable/…   written by the publisher: a record that no retry can turn into an event
aws/lambda/…      written by Lambda: a batch that failed at all its retries
"""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.acknowledgment import acknowledge
from infra.environments import Environment


class FailureBucket(s3.Bucket):
    """The bucket is not emptied with its stack. CloudFormation does not delete it while it holds objects."""

    def __init__(self, scope: Construct, construct_id: str, *, environment: Environment) -> None:
        super().__init__(
            scope,
            construct_id,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=environment.tls_only,
            # Unversioned: both writers derive an object's name from its record, so a second write loses nothing.
            versioned=False,
            lifecycle_rules=[
                s3.LifecycleRule(
                    # As long as the usage itself: the usage was counted, and possibly a consumer still lacks its event.
                    expiration=Duration.days(environment.usage_retention_days),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
            removal_policy=RemovalPolicy.RETAIN if environment.retain_data else RemovalPolicy.DESTROY,
        )
        acknowledge(
            self,
            "AwsSolutions-S1",
            "Only the stream functions write here, and operators read rarely. A bucket for access logs would need a "
            "log itself. Where an account enables data events, CloudTrail records each access.",
        )
        if not environment.tls_only:
            acknowledge(
                self,
                "AwsSolutions-S10",
                "This environment is the local emulator. It speaks plain HTTP, so a TLS rule would deny every request.",
            )
