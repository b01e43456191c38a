import re
from collections import Counter
from dataclasses import asdict
from typing import Any

import jsonschema
import pytest
from metering.http.operations import (
    FEATURE_CHECK,
    OPERATIONS,
    RECORD_USAGE,
    RECORD_USAGES,
    SUBSCRIPTION_GET,
    USAGE_GET,
    USAGE_LIST,
    USAGE_SUMMARY,
    Operation,
)
from metering.http.problems import INTERNAL, KINDS
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.testing.payloads import example
from tools import api_reference, openapi

DOCUMENT = openapi.document()


def test_the_published_document_is_the_one_that_the_code_makes() -> None:
    assert openapi.DOCUMENT.read_text() == openapi.as_text(DOCUMENT), "run `make openapi`"
    assert api_reference.REFERENCE.read_text() == api_reference.text(DOCUMENT), "run `make openapi`"


def test_the_reference_shows_every_member_of_every_operation_with_its_description() -> None:
    page = api_reference.text(DOCUMENT)
    of_problems = {"Problem", "IssueFound", "OperationMatched", "GatewayMessage"}
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for member, described in schema["properties"].items():
            if name not in of_problems and member != "problem":
                row = re.search(
                    rf"\| body \| `([a-z]+(\[\])?\.)*{member}` \|.*{re.escape(described.get('description', ''))}", page
                )
                assert row, f"{name}.{member}"
    assert "| body | `records[].quantity` | integer, 1 to 1,000,000,000 | yes |" in page
    assert "| query | `billingPeriod` |" in page


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
    documented = [
        {name: one[name]["const"] for name in ("title", "status", "code", "category", "retryable")} for one in facts
    ]
    assert asdict(kind) in documented
    examples = [example["value"] for example in content["examples"].values()]
    assert kind.code in {example["code"] for example in examples}


@pytest.mark.parametrize("status", ["413", "500", "503"])
def test_api_gateways_own_answers_are_documented(status: str) -> None:
    content = DOCUMENT["components"]["responses"][f"Problem{status}"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/GatewayMessage"}


def _described() -> list[dict[str, Any]]:
    return [described for methods in DOCUMENT["paths"].values() for described in methods.values()]


def _body_of(operation: Operation) -> dict[str, Any]:
    body: dict[str, Any] = DOCUMENT["paths"][operation.path]["post"]["requestBody"]["content"]["application/json"]
    return body


def _examples() -> list[tuple[dict[str, Any], Any]]:
    found: list[tuple[dict[str, Any], Any]] = []
    for described in _described():
        if "requestBody" in described:
            body = described["requestBody"]["content"]["application/json"]
            found += [(body["schema"], sent["value"]) for sent in body["examples"].values()]
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


def _is_taken(operation: Operation, body: Any) -> bool:
    schema = {**_body_of(operation)["schema"], "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(schema).is_valid(body)


def test_the_key_may_come_in_the_header_instead() -> None:
    assert _is_taken(RECORD_USAGE, example(idempotencyKey=...))
    key, organization = DOCUMENT["paths"][RECORD_USAGE.path]["post"]["parameters"]
    assert (key["name"], key["in"]) == ("Idempotency-Key", "header")
    assert (organization["name"], organization["in"]) == ("Organization-Id", "header")


def test_the_keys_of_a_batch_are_in_its_records() -> None:
    assert _is_taken(RECORD_USAGES, {"records": [example(), example()]})
    assert not _is_taken(RECORD_USAGES, {"records": [example(), example(idempotencyKey=...)]})
    names = [one["name"] for one in DOCUMENT["paths"][RECORD_USAGES.path]["post"]["parameters"]]
    assert names == ["Organization-Id"]


@pytest.mark.parametrize(
    "records",
    [[], [example()] * 101, [example(organizationId="acme")], [example(quantity="1")], [7], {}, None],
    ids=["none", "too many", "another member", "another type", "no object", "no array", "null"],
)
def test_a_record_of_a_batch_is_described_as_strictly_as_one_alone(records: Any) -> None:
    assert not _is_taken(RECORD_USAGES, {"records": records})


def test_the_answer_to_a_batch_is_shown_with_every_status() -> None:
    answer = DOCUMENT["paths"][RECORD_USAGES.path]["post"]["responses"]["200"]["content"]["application/json"]
    results, totals = answer["example"]["results"], answer["example"]["totals"]
    assert [result["index"] for result in results] == list(range(len(results)))
    assert Counter(result["status"] for result in results) == totals
    statuses = DOCUMENT["components"]["schemas"]["RecordResult"]["properties"]["status"]["enum"]
    assert {result["status"] for result in results} == set(statuses)


def test_the_document_says_what_replay_and_current_usage_mean() -> None:
    operation = DOCUMENT["paths"][RECORD_USAGE.path]["post"]
    assert "replay counts nothing" in operation["description"]
    output = DOCUMENT["components"]["schemas"]["RecordUsageOutput"]["properties"]
    assert "billing period" in output["currentUsage"]["description"]


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        (USAGE_SUMMARY, {"billingPeriod": False, "period": False, "by": False}),
        (FEATURE_CHECK, {"feature": True, "quantity": False}),
        (SUBSCRIPTION_GET, {}),
        (USAGE_GET, {"idempotencyKey": True}),
        (USAGE_LIST, {"billingPeriod": False, "feature": False, "pageSize": False, "cursor": False}),
    ],
)
def test_a_query_takes_its_input_as_query_parameters(operation: Any, parameters: dict[str, bool]) -> None:
    described = DOCUMENT["paths"][operation.path]["get"]
    asked = [one for one in described["parameters"] if one["in"] == "query"]
    assert {one["name"]: one["required"] for one in asked} == parameters
    assert "requestBody" not in described


def test_every_operation_takes_the_organization_in_a_header() -> None:
    for described in _described():
        (header,) = [one for one in described["parameters"] if one["name"] == "Organization-Id"]
        assert header["in"] == "header"
        assert not header.get("required")


def test_every_answer_of_the_functions_is_documented() -> None:
    common = {"200", "400", "401", "403", "404", "422", "429", "500", "503"}
    for described in _described():
        of_a_body = {"413", "415"} if "requestBody" in described else set()
        assert described["responses"].keys() == common | of_a_body
