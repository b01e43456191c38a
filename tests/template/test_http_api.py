import json
from collections import Counter

from infra.environments import Environment
from tests.template.conftest import TRUST
from tests.testing.stacks import Stacks

RECORD_ROUTES = {
    "POST /saas/billing/usage/record/v1.0.0",
    "POST /saas/billing/usage/record-batch/v1.0.0",
    "$default",
}
QUERY_ROUTES = {
    "GET /saas/billing/usage/summary/v1.0.0",
    "GET /saas/billing/feature/check/v1.0.0",
    "GET /saas/billing/subscription/get/v1.0.0",
    "GET /saas/billing/usage/get/v1.0.0",
    "GET /saas/billing/usage/list/v1.0.0",
}


def test_the_routes_are_record_the_queries_and_the_catch_all(stacks: Stacks) -> None:
    routes = stacks.service.resources("AWS::ApiGatewayV2::Route").values()
    assert {route["Properties"]["RouteKey"] for route in routes} == RECORD_ROUTES | QUERY_ROUTES


def test_no_route_is_open(stacks: Stacks) -> None:
    for route in stacks.service.resources("AWS::ApiGatewayV2::Route").values():
        assert route["Properties"]["AuthorizationType"] == "JWT"
        assert stacks.name(route["Properties"]["AuthorizerId"]) == "HttpApiToken"


def test_scopes_are_left_to_the_function(stacks: Stacks) -> None:
    for route in stacks.service.resources("AWS::ApiGatewayV2::Route").values():
        assert "AuthorizationScopes" not in route["Properties"]


def test_tokens_are_of_the_issuer_and_for_one_of_the_audiences(stacks: Stacks) -> None:
    authorizer = stacks.service.properties("AWS::ApiGatewayV2::Authorizer")
    assert authorizer["AuthorizerType"] == "JWT"
    assert authorizer["IdentitySource"] == ["$request.header.Authorization"]
    assert authorizer["JwtConfiguration"] == {"Issuer": TRUST.issuer, "Audience": list(TRUST.audiences)}


def test_the_queries_lead_to_the_query_function_and_all_else_to_the_record_function(stacks: Stacks) -> None:
    integrations = stacks.service.resources("AWS::ApiGatewayV2::Integration")
    assert {each["Properties"]["PayloadFormatVersion"] for each in integrations.values()} == {"2.0"}
    leads_to: dict[str, set[str]] = {}
    for route in stacks.service.resources("AWS::ApiGatewayV2::Route").values():
        beginning, target = route["Properties"]["Target"]["Fn::Join"][1]
        assert beginning == "integrations/"
        function = stacks.name(integrations[target["Ref"]]["Properties"]["IntegrationUri"])
        leads_to.setdefault(function, set()).add(route["Properties"]["RouteKey"])
    assert leads_to == {"RecordFunction.Arn": RECORD_ROUTES, "QueryFunction.Arn": QUERY_ROUTES}


def test_only_this_api_may_call_its_functions_once_for_each_route(stacks: Stacks) -> None:
    permissions = [
        permission["Properties"]
        for permission in stacks.service.resources("AWS::Lambda::Permission").values()
        if permission["Properties"]["Principal"] == "apigateway.amazonaws.com"
    ]
    called = Counter(stacks.name(permission["FunctionName"]) for permission in permissions)
    assert called == {"RecordFunction.Arn": len(RECORD_ROUTES), "QueryFunction.Arn": len(QUERY_ROUTES)}
    (api,) = stacks.service.resources("AWS::ApiGatewayV2::Api")
    for permission in permissions:
        assert {"Ref": api} in permission["SourceArn"]["Fn::Join"][1]


def test_the_stage_is_throttled_as_the_environment_says(stacks: Stacks, environment: Environment) -> None:
    stage = stacks.service.properties("AWS::ApiGatewayV2::Stage")
    assert (stage["StageName"], stage["AutoDeploy"]) == ("$default", True)
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": environment.throttle_rate_per_s,
        "ThrottlingBurstLimit": environment.throttle_burst,
    }


def test_each_request_is_logged_as_json_by_its_id(stacks: Stacks) -> None:
    logged = stacks.service.properties("AWS::ApiGatewayV2::Stage")["AccessLogSettings"]
    assert stacks.name(logged["DestinationArn"]) == "HttpAccessLog.Arn"
    line = json.loads(logged["Format"])
    assert line["requestId"] == "$context.requestId"
    assert line["status"] == "$context.status"


def test_the_access_log_holds_no_claim_and_no_query(stacks: Stacks) -> None:
    line = stacks.service.properties("AWS::ApiGatewayV2::Stage")["AccessLogSettings"]["Format"]
    assert "claims" not in line
    assert "query" not in line.lower()


def test_the_outputs_are_the_base_url_and_the_queues(stacks: Stacks) -> None:
    outputs = {key: stacks.name(value) for key, value in stacks.service.outputs().items()}
    assert outputs == {"Url": "HttpApi.ApiEndpoint", "Queue": "AuditQueue", "RejectedQueue": "Rejected"}
