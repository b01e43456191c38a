"""The bucket that keeps what could not be published, whole, until somebody has dealt with it.

unpublishable/…   written by the publisher: a record that no retry will ever make an event of
aws/lambda/…      written by Lambda: a batch that outlived its retries
"""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.acknowledgment import acknowledge
from infra.environments import Environment


class FailureBucket(s3.Bucket):
    """Not emptied with its stack, also where that may be deleted: CloudFormation refuses while something is in it."""

    def __init__(self, scope: Construct, construct_id: str, *, environment: Environment) -> None:
        super().__init__(
            scope,
            construct_id,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=environment.tls_only,
            # Unversioned: both writers name an object after what it holds, so that a second write changes nothing.
            versioned=False,
            lifecycle_rules=[
                s3.LifecycleRule(
                    # As long as the usage itself: it was counted, and somebody may still miss its event.
                    expiration=Duration.days(environment.usage_retention_days),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
            removal_policy=RemovalPolicy.RETAIN if environment.retain_data else RemovalPolicy.DESTROY,
        )
        acknowledge(
            self,
            "AwsSolutions-S1",
            "One role writes here and operators read, on rare occasions; a bucket for the log of that would need a "
            "log itself. Who read what is CloudTrail's to record, where an account asks for data events.",
        )
        if not environment.tls_only:
            acknowledge(
                self,
                "AwsSolutions-S10",
                "This environment is the emulator on loopback, which speaks plain HTTP and would deny every request.",
            )
