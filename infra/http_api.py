"""The HTTP API: every route needs a verified token, and every request is logged.

The routes of queries lead to the query function, and all others to the record function.
"""

import json

import jsii
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_apigatewayv2 as apigatewayv2
from aws_cdk import aws_lambda as lambda_
from aws_cdk.aws_apigatewayv2_authorizers import HttpJwtAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct
from metering.http.operations import OPERATIONS

from infra.environments import Environment, Trust
from infra.log_group import LogGroup

# This log has no claim and no query string. The function's log has the caller under the same requestId.
_ACCESS_LOG = {
    "requestId": "$context.requestId",
    "time": "$context.requestTime",
    "ip": "$context.identity.sourceIp",
    "method": "$context.httpMethod",
    "path": "$context.path",
    "route": "$context.routeKey",
    "protocol": "$context.protocol",
    "status": "$context.status",
    "responseBytes": "$context.responseLength",
    "responseLatencyMs": "$context.responseLatency",
    "integrationLatencyMs": "$context.integrationLatency",
    "integrationStatus": "$context.integrationStatus",
    "integrationError": "$context.integrationErrorMessage",
    "authorizerError": "$context.authorizer.error",
    "error": "$context.error.message",
}


class HttpApi(Construct):
    """`url` is the base URL of all routes, without a slash at its end."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: Environment,
        trust: Trust,
        record_function: lambda_.IFunction,
        query_function: lambda_.IFunction,
    ) -> None:
        super().__init__(scope, construct_id)
        # No route requires scopes here. API Gateway would answer with its own body, but the function returns a problem.
        # The default integration and authorizer create the catch-all route and apply to every later route.
        record = HttpLambdaIntegration("Record", record_function)
        api = apigatewayv2.HttpApi(
            self,
            "Api",
            api_name=f"usage-metering-{environment.name}",
            default_integration=record,
            default_authorizer=HttpJwtAuthorizer("Token", trust.issuer, jwt_audience=list(trust.audiences)),
            create_default_stage=False,
        )
        query = HttpLambdaIntegration("Query", query_function)
        for operation in OPERATIONS.values():
            api.add_routes(
                path=operation.path,
                methods=[apigatewayv2.HttpMethod(operation.method)],
                integration=record if operation.kind == "command" else query,
            )
        apigatewayv2.HttpStage(
            self,
            "Stage",
            http_api=api,
            stage_name="$default",
            auto_deploy=True,
            throttle=apigatewayv2.ThrottleSettings(
                rate_limit=environment.throttle_rate_per_s, burst_limit=environment.throttle_burst
            ),
            access_log_settings=_AccessLog(LogGroup(self, "AccessLog", environment=environment)),
        )
        self.url = api.api_endpoint


@jsii.implements(apigatewayv2.IAccessLogSettings)
class _AccessLog:
    """One JSON object per request. The CDK has only an interface for these settings, and no class."""

    def __init__(self, log_group: LogGroup) -> None:
        self._destination = apigatewayv2.LogGroupLogDestination(log_group)

    @property
    def destination(self) -> apigatewayv2.IAccessLogDestination:
        return self._destination

    @property
    def format(self) -> apigateway.AccessLogFormat:
        return apigateway.AccessLogFormat.custom(json.dumps(_ACCESS_LOG))
