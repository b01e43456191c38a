"""The settings and dependencies of both entries of the HTTP API, from environment variables.

Variables: TABLE_NAME; ORGANIZATION_CLAIM (default `org_id`); SCOPE_PREFIX (default none); ROLES_AS_SCOPES (`no`, the
default, or `yes`).
"""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from aws_lambda_powertools import Logger, Metrics

from metering import environment
from metering.http.caller import TokenRules
from metering.http.endpoint import TIMEOUTS, Service
from metering.model.clocks import Clocks

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")


def service(deps: "Callable[[DynamoDBClient, str, Clocks], T]") -> Service[T]:
    """Return the service. `deps` builds the operations' dependencies from client, table and clocks."""
    clocks = Clocks(environment.now, time.monotonic)
    client = environment.session().create_client("dynamodb", config=environment.config(TIMEOUTS))
    return Service(
        deps=deps(client, environment.table(), clocks),
        rules=TokenRules(
            organization_claim=os.environ.get("ORGANIZATION_CLAIM", "org_id"),
            scope_prefix=os.environ.get("SCOPE_PREFIX", ""),
            roles_as_scopes=os.environ.get("ROLES_AS_SCOPES", "no") == "yes",
        ),
        now=clocks.now,
        monotonic=clocks.monotonic,
        sleep=time.sleep,
        random=environment.RANDOM,
        logger=Logger(),
        metrics=Metrics(),
    )
