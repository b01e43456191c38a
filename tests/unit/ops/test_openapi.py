import json
from dataclasses import asdict
from typing import Any

import jsonschema
import pytest
from metering.contract import FEATURE_CHECK, OPERATIONS, RECORD_USAGE, SUBSCRIPTION_GET, USAGE_GET, USAGE_SUMMARY
from metering.problems import INTERNAL, KINDS
from openapi_spec_validator import OpenAPIV31SpecValidator

from ops import openapi

DOCUMENT = openapi.document()


def test_the_published_document_is_the_one_that_the_code_makes() -> None:
    assert openapi.DOCUMENT.read_text() == openapi.as_text(DOCUMENT), "run `make openapi`"


def test_the_document_is_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.key)
def test_every_operation_is_there_with_its_scope(operation: Any) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    assert described["operationId"] == operation.key
    assert described["security"] == [{"oauth2": [operation.scope]}]
    flow = DOCUMENT["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]
    assert operation.scope in flow["scopes"]


@pytest.mark.parametrize("kind", [*KINDS.values(), INTERNAL], ids=lambda kind: kind.title)
def test_every_problem_is_there_with_its_code_and_an_example(kind: Any) -> None:
    content = DOCUMENT["components"]["responses"][f"Problem{kind.status}"]["content"]["application/problem+json"]
    facts = [one["properties"] for one in content["schema"]["allOf"][1]["oneOf"]]
    told = [
        {name: one[name]["const"] for name in ("title", "status", "code", "category", "retryable")} for one in facts
    ]
    assert asdict(kind) in told
    examples = [example["value"] for example in content["examples"].values()]
    assert kind.code in {example["code"] for example in examples}


@pytest.mark.parametrize("status", ["413", "500", "503"])
def test_what_api_gateway_answers_by_itself_is_there_too(status: str) -> None:
    content = DOCUMENT["components"]["responses"][f"Problem{status}"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/GatewayMessage"}


def _described() -> list[dict[str, Any]]:
    return [described for methods in DOCUMENT["paths"].values() for described in methods.values()]


def _examples() -> list[tuple[dict[str, Any], Any]]:
    operation = DOCUMENT["paths"][RECORD_USAGE.path]["post"]
    body = operation["requestBody"]["content"]["application/json"]
    found = [(body["schema"], example["value"]) for example in body["examples"].values()]
    for described in _described():
        answer = described["responses"]["200"]["content"]["application/json"]
        found.append((answer["schema"], answer["example"]))
        found += [(one["schema"], one["example"]) for one in described["parameters"] if one["in"] == "query"]
    for response in DOCUMENT["components"]["responses"].values():
        for content in response["content"].values():
            found += [(content["schema"], example["value"]) for example in content.get("examples", {}).values()]
    return found


@pytest.mark.parametrize(("schema", "example"), _examples())
def test_every_example_is_what_its_schema_says(schema: dict[str, Any], example: Any) -> None:
    jsonschema.validate(example, {**schema, "components": DOCUMENT["components"]})


def test_the_key_may_come_in_the_header_instead() -> None:
    schema = DOCUMENT["components"]["schemas"]["RecordUsageInput"]
    jsonschema.validate({"feature": "api_calls", "quantity": 1}, schema)
    assert "Idempotency-Key" in json.dumps(DOCUMENT["paths"])


def test_the_document_says_what_replay_and_current_usage_mean() -> None:
    operation = DOCUMENT["paths"][RECORD_USAGE.path]["post"]
    assert "replay counts nothing" in operation["description"]
    output = DOCUMENT["components"]["schemas"]["RecordUsageOutput"]["properties"]
    assert "billing period" in output["currentUsage"]["description"]


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        (USAGE_SUMMARY, {"billingPeriod": False, "period": False}),
        (FEATURE_CHECK, {"feature": True}),
        (SUBSCRIPTION_GET, {}),
        (USAGE_GET, {"idempotencyKey": True}),
    ],
)
def test_a_query_takes_its_input_as_query_parameters(operation: Any, parameters: dict[str, bool]) -> None:
    described = DOCUMENT["paths"][operation.path]["get"]
    assert {one["name"]: one["required"] for one in described["parameters"]} == parameters
    assert {one["in"] for one in described["parameters"]} <= {"query"}
    assert "requestBody" not in described


def test_every_answer_of_ours_to_a_query_is_there() -> None:
    for described in _described():
        common = {"200", "400", "401", "403", "404", "422", "429", "500", "503"}
        assert described["responses"].keys() - {"413", "415"} == common
