"""A client that sends each call to an engine and to the model, and notes where their answers differ."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tests.simulation.answers import Paginator
from tests.simulation.expressions import NotModelled
from tests.simulation.sequential import Sequential

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Items on a query's page; None: all.
_PAGES = (None, None, 1, 2, 3, 7)


class Twin:
    """Returns the engine's answers. If the model's answer differs, `differences` gets both."""

    def __init__(self, engine: "DynamoDBClient", model: Sequential, random: Random) -> None:
        self.exceptions = engine.exceptions
        self.differences: list[str] = []
        self.asked: Counter[tuple[str, str]] = Counter()
        """Calls by method and outcome: the code of the error, or of its first reason; "" for a success."""
        self._engine = engine
        self._model = model
        self._random = random

    def __getattr__(self, method: str) -> Callable[..., dict[str, Any]]:
        return partial(self._ask, method)

    def get_paginator(self, operation: str) -> Paginator:
        return Paginator(partial(self._ask, operation))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._model.most = self._random.choice(_PAGES) if method == "query" else None
        most = self._model.most
        limit = {} if most is None else {"Limit": min(most, parameters.get("Limit", most))}
        try:
            ours, _ = _outcome(getattr(self._model, method), parameters)
        except NotModelled:
            # The engine does not get the call either, so that both keep the same items.
            self.asked[method, "not modelled"] += 1
            raise
        theirs, raised = _outcome(getattr(self._engine, method), {**parameters, **limit})
        theirs = as_documented(method, parameters, theirs)
        if ours != theirs:
            self.differences.append(f"{method} {parameters} {limit}\n  model:  {ours}\n  engine: {theirs}")
        reasons = theirs.get("CancellationReasons", [])
        codes = [each["Code"] for each in reasons if each["Code"] != "None"] or [theirs.get("code", "")]
        self.asked[method, codes[0]] += 1
        if raised is not None:
            raise raised
        return theirs


def as_documented(method: str, parameters: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The engine's answer, corrected where the engine is known to differ from DynamoDB.

    - dynoxide returns an item's key with any projection. DynamoDB returns only the attributes of the projection.
      Source: DynamoDB developer guide, "Using projection expressions".
    """
    if method == "transact_get_items" and "Responses" in answer:
        gets = [action["Get"] for action in parameters["TransactItems"]]
        pairs = zip(gets, answer["Responses"], strict=True)
        return {"Responses": [as_documented("get_item", get, response) for get, response in pairs]}
    if "ProjectionExpression" not in parameters:
        return answer
    names = parameters.get("ExpressionAttributeNames", {})
    asked = {names.get(name, name) for name in parameters["ProjectionExpression"].split(", ")}

    def shown(item: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in item.items() if name in asked or name not in ("pk", "sk")}

    if "Item" in answer:
        return {**answer, "Item": shown(answer["Item"])}
    if "Items" in answer:
        return {**answer, "Items": [shown(item) for item in answer["Items"]]}
    return answer


def ordered(value: Any) -> Any:
    """The same attributes, with sorted sets."""
    if isinstance(value, dict):
        return {name: sorted(inner) if name == "SS" else ordered(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [ordered(inner) for inner in value]
    return value


def _outcome(method: Callable[..., Any], parameters: dict[str, Any]) -> tuple[dict[str, Any], ClientError | None]:
    """The answer to the call, or its error's code and members, without the members that nobody reads.

    Returns: the answer, and the error if there is one.
    """
    raised = None
    try:
        answer = method(**parameters)
    except ClientError as error:
        raised, answer = error, {**error.response, "code": error.response["Error"]["Code"]}
    members = {name: ordered(value) for name, value in answer.items() if name not in _UNREAD}
    for reason in members.get("CancellationReasons", ()):
        reason.pop("Message", None)
    return members, raised


_UNREAD = ("Error", "Message", "ResponseMetadata", "message")
