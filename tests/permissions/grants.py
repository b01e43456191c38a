"""The grants of the functions' roles, and how to remove one from a template or from the deployed role.

A grant is one action on one resource: a statement of two actions on two resources holds four grants.
"""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tests.testing.local_stack import LocalStack
from tests.testing.stacks import Stacks

FUNCTIONS = ("Record", "Query", "Publisher", "Subscriptions", "Watcher")
_ROLE = "AWS::IAM::Role"


@dataclass(frozen=True)
class Grant:
    function: str
    action: str
    resource: str
    """In words, as tests/template names references in a template, such as `UsageTable.Arn`."""
    _statement: int = field(compare=False, default=-1)
    _resource_at: int = field(compare=False, default=-1)

    def __str__(self) -> str:
        return f"{self.function}: {self.action} on {self.resource}"


def grants(stacks: Stacks) -> list[Grant]:
    """All grants of the functions' roles in `stacks`, in the templates' order."""
    return [
        Grant(function, action, resource, statement_at, resource_at)
        for function in FUNCTIONS
        for statement_at, statement in enumerate(stacks.statements(function))
        for action in statement["Action"]
        for resource_at, resource in enumerate(statement["Resource"])
    ]


def without(stacks: Stacks, grant: Grant) -> Stacks:
    """The same stacks without `grant`, which must be one of theirs."""
    body = copy.deepcopy(stacks.service.body)
    changed = replace(stacks, service=replace(stacks.service, body=body))
    (policy,) = changed.service.properties(_ROLE, grant.function)["Policies"]
    policy["PolicyDocument"] = _document_without(policy["PolicyDocument"], grant)
    return changed


@contextmanager
def taken_away(stack: LocalStack, stacks: Stacks, grant: Grant) -> Iterator[None]:
    """Remove `grant` from the deployed role until the end of the block. `stacks` are the deployed stacks.

    The emulator checks the role's policy at every call, so the removal also affects warm functions.
    """
    iam: Any = stack.access.session.client("iam", endpoint_url=stack.access.endpoint, config=stack.access.config)
    (logical_id,) = (id_ for id_ in stacks.service.resources(_ROLE) if id_.startswith(grant.function))
    found = stack.access.cloudformation().describe_stack_resource(
        StackName=stacks.service.path.name.removesuffix(".template.json"), LogicalResourceId=logical_id
    )
    role = found["StackResourceDetail"]["PhysicalResourceId"]
    (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    _put(iam, role, policy, _document_without(document, grant))
    try:
        yield
    finally:
        _put(iam, role, policy, document)


def _put(iam: Any, role: str, policy: str, document: Any) -> None:
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


def _document_without(document: dict[str, Any], grant: Grant) -> dict[str, Any]:
    """The policy without `grant`. The grant's action stays allowed on the other resources of its statement."""
    statements = copy.deepcopy(document["Statement"])
    statement = statements[grant._statement]
    actions, resources = _listed(statement["Action"]), _listed(statement["Resource"])
    others = [action for action in actions if action != grant.action]
    assert len(others) == len(actions) - 1, f"{grant} is not in statement {grant._statement} of the policy"
    elsewhere = [resource for at, resource in enumerate(resources) if at != grant._resource_at]
    left = [
        {**statement, "Action": action, "Resource": resource}
        for action, resource in ((others, resources), ([grant.action], elsewhere))
        if action and resource
    ]
    statements[grant._statement : grant._statement + 1] = left
    return {**document, "Statement": statements}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
