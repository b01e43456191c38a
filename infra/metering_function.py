"""A function of this service: code from the bundle, with its own log group and role."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.acknowledgment import acknowledge
from infra.environments import Environment
from infra.log_group import LogGroup


class MeteringFunction(Construct):
    """`may` lists all permissions of the function, except the permission to write its own log."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: Environment,
        bundle: Path,
        handler: str,
        timeout_s: int,
        memory_mib: int,
        variables: Mapping[str, str],
        may: Sequence[iam.PolicyStatement],
    ) -> None:
        super().__init__(scope, construct_id)
        log_group = LogGroup(self, "Log", environment=environment)
        writes_log = iam.PolicyStatement(
            actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[log_group.log_group_arn]
        )
        # Inline, so that the role always has its permissions, and no resource that waits for the role starts too early.
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={"Metering": iam.PolicyDocument(statements=[writes_log, *may])},
        )
        self.function = lambda_.Function(
            self,
            "Function",
            code=lambda_.Code.from_asset(str(bundle)),
            handler=handler,
            runtime=lambda_.Runtime(f"python{environment.python}", lambda_.RuntimeFamily.PYTHON),
            architecture=lambda_.Architecture.custom(environment.cpu),
            timeout=Duration.seconds(timeout_s),
            memory_size=memory_mib,
            environment={
                **variables,
                "POWERTOOLS_SERVICE_NAME": "usage-metering",
                "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
                "POWERTOOLS_LOG_LEVEL": "INFO",
            },
            role=role.without_policy_updates(),
            log_group=log_group,
        )
        acknowledge(
            self,
            "AwsSolutions-L1",
            "The bundle is compiled for the Python version that it was measured and tested on. A newer version needs "
            "new measurements and tests.",
        )
