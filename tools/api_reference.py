"""Write the API reference for people, docs/reference/api.md, from the OpenAPI document."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "api.md"

_HEAD = """# API

<!-- Written by `make openapi` from the models and routes: change those. -->

{description}

The base URL is the output `Url` of the stack `usage-metering-<environment>-service`, or `http://127.0.0.1:4566` for the
local stack. Every request carries `Authorization: Bearer <token>`. [openapi.json](../openapi.json) is this page for
programs, and [Problems](problems.md) explains the errors.

| Operation | Route | Scope |
|---|---|---|
"""


def text(document: Mapping[str, Any]) -> str:
    """The page, as Markdown."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    index = "".join(
        f"| [{operation['summary'].rstrip('.')}](#{_anchor(operation)}) | `{method} {path}` | {_scope(operation)} |\n"
        for method, path, operation in operations
    )
    sections = "".join(
        "\n".join(_section(method, path, operation, document["components"])) for method, path, operation in operations
    )
    return _HEAD.format(description=document["info"]["description"]) + index + sections


def _section(method: str, path: str, operation: Mapping[str, Any], components: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n## {operation['summary'].rstrip('.')}\n"
    yield f"`{method} {path}`, scope {_scope(operation)}\n"
    yield f"{operation['description']}\n"
    yield "### Request\n"
    yield "| Where | Name | Type | Required | Description |\n|---|---|---|---|---|"
    for parameter in operation["parameters"]:
        yield _row(
            parameter["in"], parameter["name"], parameter["schema"], parameter.get("required"), parameter["description"]
        )
    if body := operation.get("requestBody"):
        media = body["content"]["application/json"]
        yield from _members("body", media["schema"], components)
        yield f"\n{body['description']}"
        for example in media["examples"].values():
            yield f"\n{example['summary']}:\n"
            yield _block(example["value"])
    answer = operation["responses"]["200"]
    yield f"\n### Response\n\n{answer['description']}\n"
    yield "| Where | Name | Type | Always | Description |\n|---|---|---|---|---|"
    for name, header in answer.get("headers", {}).items():
        yield _row("header", name, header["schema"], False, header["description"])
    media = answer["content"]["application/json"]
    yield from _members("body", media["schema"], components)
    yield f"\n{_block(media['example'])}"
    statuses = ", ".join(sorted(status for status in operation["responses"] if status != "200"))
    yield f"\n[Problems](problems.md): {statuses}.\n"


def _members(where: str, schema: Mapping[str, Any], components: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A row for each member of `schema`, and of the objects in it."""
    found = _resolved(schema, components)
    for name, member in found.get("properties", {}).items():
        shape = _resolved(member, components)
        items = _resolved(shape["items"], components) if "items" in shape else {}
        description = member.get("description") or shape.get("description", "")
        yield _row(where, prefix + name, shape, name in found.get("required", ()), description)
        if name == "problem":
            continue  # it has a page of its own
        yield from _members(where, shape, components, f"{prefix}{name}.")
        yield from _members(where, items, components, f"{prefix}{name}[].")


def _resolved(schema: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` with what it refers to."""
    merged: dict[str, Any] = {}
    for part in (*schema.get("allOf", ()), *([{"$ref": schema["$ref"]}] if "$ref" in schema else ())):
        name = part.get("$ref", "").rpartition("/")[2]
        merged |= _resolved(components["schemas"][name] if name else part, components)
    own = {name: value for name, value in schema.items() if name not in {"allOf", "$ref"}}
    required = [*merged.get("required", ()), *own.get("required", ())]
    return {**merged, **own, "required": required}


def _row(where: str, name: str, schema: Mapping[str, Any], required: Any, description: str) -> str:
    return f"| {where} | `{name}` | {_type(schema)} | {'yes' if required else ''} | {_cell(description)} |"


def _type(schema: Mapping[str, Any]) -> str:
    """The type and what bounds it, in words."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", "object"))
    if "minimum" in schema and "maximum" in schema:
        return f"{kind}, {schema['minimum']:,} to {schema['maximum']:,}"
    if "maxItems" in schema:
        return f"{kind}, {schema['minItems']} to {schema['maxItems']} items"
    if "maxLength" in schema:
        return f"{kind}, up to {schema['maxLength']} characters"
    if "pattern" in schema:
        return f"{kind}, {_code(schema['pattern'])}"
    return f"{kind}, {schema['format']}" if "format" in schema else kind


def _code(pattern: str) -> str:
    return f"`{_cell(pattern)}`"


def _cell(words: str) -> str:
    return " ".join(words.replace("|", "\\|").split())


def _block(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"


def _anchor(operation: Mapping[str, Any]) -> str:
    """The heading's anchor, as GitHub and the site make it."""
    return re.sub(r"[^a-z0-9 -]", "", operation["summary"].lower()).replace(" ", "-")


def _scope(operation: Mapping[str, Any]) -> str:
    return f"`{operation['security'][0]['oauth2'][0]}`"
