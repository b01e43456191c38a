"""Short descriptions of calls, for traces."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError


def call_in_words(operation: str, parameters: Mapping[str, Any], answer: Any) -> str:
    """The call and its answer, in one line."""
    return f"{_asked(operation, parameters)} → {_answered(operation, answer)}"


def item_in_words(item: Mapping[str, Any] | None) -> str:
    """The item's key, and the attributes that matter in a trace."""
    if item is None:
        return "nothing"
    shown = ("feature", "quantity", "total", "pages", "hard", "status", "planId", "limits", "eventId", "expiresAt")
    members = " ".join(f"{name}={_value(item[name])}" for name in shown if name in item)
    return f"{_key(item)} {members}".strip()


def _asked(operation: str, parameters: Mapping[str, Any]) -> str:
    if operation in ("TransactWriteItems", "TransactGetItems"):
        return f"{operation} [{', '.join(_action(action) for action in parameters['TransactItems'])}]"
    if operation == "Query":
        values = " ".join(_value(each) for each in parameters["ExpressionAttributeValues"].values())
        return f"Query {values}"
    return f"{operation} {_action({operation: parameters})}"


def _action(action: Mapping[str, Any]) -> str:
    ((kind, parameters),) = action.items()
    if kind.startswith("Put"):
        return f"put {item_in_words(parameters['Item'])}"
    if "Key" in parameters and "UpdateExpression" not in parameters:
        return _key(parameters["Key"])
    values = " ".join(f"{name}={_value(value)}" for name, value in parameters["ExpressionAttributeValues"].items())
    condition = f" if {parameters['ConditionExpression']}" if "ConditionExpression" in parameters else ""
    return f"update {_key(parameters['Key'])}: {parameters['UpdateExpression']}{condition} ({values})"


def _answered(operation: str, answer: Any) -> str:
    if isinstance(answer, ClientError):
        response: Any = answer.response
        reasons = response.get("CancellationReasons")
        if reasons is None:
            return str(response["Error"]["Code"])
        return "; ".join(
            f"{each['Code']} {item_in_words(each['Item'])}" if "Item" in each else str(each["Code"]) for each in reasons
        )
    if operation == "TransactWriteItems":
        return f"committed, all visible at {answer:.4f}"
    if operation == "Query":
        return "; ".join(item_in_words(item) for item in answer["Items"]) or "nothing"
    if operation == "TransactGetItems":
        return "; ".join(item_in_words(each.get("Item")) for each in answer["Responses"])
    if operation == "GetItem":
        return item_in_words(answer.get("Item"))
    return item_in_words(answer)


def _key(attributes: Mapping[str, Any]) -> str:
    return "/".join(attributes[name]["S"] for name in ("pk", "sk") if name in attributes)


def _value(value: Mapping[str, Any]) -> str:
    ((kind, content),) = value.items()
    if kind == "M":
        return "{" + ", ".join(f"{name}: {_value(each)}" for name, each in content.items()) + "}"
    if kind == "L":
        return "[" + ", ".join(_value(each) for each in content) + "]"
    return str(content)
