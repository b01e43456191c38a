"""Findings of cdk-nag that we have looked at and live with, each with its reason."""

from aws_cdk import Acknowledgment, Validations
from constructs import Construct


def acknowledge(construct: Construct, finding: str, reason: str) -> None:
    """Let `finding` pass on `construct` and below: a rule, or one case of it, as `AwsSolutions-IAM5[Resource::…]`."""
    Validations.of(construct).acknowledge(Acknowledgment(id=finding, reason=reason))
