"""The acknowledgment of findings of cdk-nag, each with a reason."""

from aws_cdk import Acknowledgment, Validations
from constructs import Construct


def acknowledge(construct: Construct, finding: str, reason: str) -> None:
    """Accept `finding` on `construct` and below it.

    `finding` is a rule, or one case of a rule, such as `AwsSolutions-IAM5[Resource::…]`.
    """
    Validations.of(construct).acknowledge(Acknowledgment(id=finding, reason=reason))
