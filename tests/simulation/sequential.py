"""A DynamoDB in memory: one table and its stream, and one call after the other."""

from bisect import insort
from collections.abc import Callable
from typing import Any

from tests.simulation import answers
from tests.simulation.expressions import Invalid, Item
from tests.simulation.stream import record_of
from tests.simulation.table import ConditionFailed, Key, Kind, got, key_of, selected, target_of, validate, written


class Sequential:
    """The client and the table in one. Every call takes effect at once.

    Raises:
        NotModelled
        ClientError: as botocore raises it.
    """

    exceptions = answers.Exceptions

    def __init__(self, now_s: Callable[[], float] = lambda: 0.0, most: int | None = None) -> None:
        self.items: dict[Key, Item] = {}
        self.keys: list[Key] = []
        """All of `items`, in order."""
        self.stream: list[dict[str, Any]] = []
        self.most = most
        """The largest number of items on a query's page; None: all."""
        self._now_s = now_s
        self._writes = 0

    def get_item(self, **parameters: Any) -> dict[str, Any]:
        _check("GetItem", parameters)
        return got(parameters, self.items.get(key_of(parameters["Key"])))

    def query(self, **parameters: Any) -> dict[str, Any]:
        _check("Query", parameters)
        try:
            return selected(parameters, self.keys, self.items.get, self.most)
        except Invalid as refused:
            raise answers.invalid("Query", refused) from refused

    def put_item(self, **parameters: Any) -> dict[str, Any]:
        self._write("PutItem", "Put", parameters)
        return {}

    def update_item(self, **parameters: Any) -> dict[str, Any]:
        new = self._write("UpdateItem", "Update", parameters)
        return {"Attributes": new} if "ReturnValues" in parameters else {}

    def transact_write_items(self, **parameters: Any) -> dict[str, Any]:
        _check("TransactWriteItems", parameters)
        new: dict[Key, Item] = {}
        reasons = []
        for action in parameters["TransactItems"]:
            ((kind, of_action),) = action.items()
            key = target_of(kind, of_action)
            try:
                new[key] = written(kind, of_action, self.items.get(key))
                reasons.append(answers.NO_REASON)
            except (ConditionFailed, Invalid) as cause:
                reasons.append(answers.reason(of_action, cause))
        if len(new) < len(reasons):
            raise answers.cancelled("TransactWriteItems", reasons)
        for key, item in new.items():
            self._store(key, item)
        return {}

    def transact_get_items(self, **parameters: Any) -> dict[str, Any]:
        _check("TransactGetItems", parameters)
        gets = [action["Get"] for action in parameters["TransactItems"]]
        return {"Responses": [got(each, self.items.get(key_of(each["Key"]))) for each in gets]}

    def get_paginator(self, operation: str) -> answers.Paginator:
        return {"query": answers.Paginator(self.query)}[operation]

    def _write(self, operation: str, kind: Kind, parameters: Any) -> Item:
        _check(operation, parameters)
        key = target_of(kind, parameters)
        try:
            new = written(kind, parameters, self.items.get(key))
        except ConditionFailed as failed:
            raise answers.condition_failed(operation, parameters, failed) from failed
        except Invalid as refused:
            raise answers.invalid(operation, refused) from refused
        self._store(key, new)
        return new

    def _store(self, key: Key, item: Item) -> None:
        before = self.items.get(key)
        if before is None:
            insort(self.keys, key)
        self.items[key] = item
        self._writes += 1
        record = record_of(key, before, item, self._writes, self._now_s())
        if record is not None:
            self.stream.append(record)


def _check(operation: str, parameters: Any) -> None:
    try:
        validate(operation, parameters)
    except Invalid as refused:
        raise answers.invalid(operation, refused) from refused
