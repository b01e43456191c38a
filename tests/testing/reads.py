"""Checks that each read of our code on a client is consistent."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from metering.storage.lists import LISTS
from metering.storage.organization_items import BY_PLAN

from tools.setup import ROOT

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# An index may lag without limit and has no consistent reads. Each entry gives the reason why this breaks no promise.
INDEXES = {
    BY_PLAN: "It may lack an organization. The watcher checks it after its own change and after its next usage, and "
    "the help of `plans delete` describes the effect.",
    LISTS: "It may lack what was created a moment ago. The help of `organizations list` says so, and `plans apply` "
    "only warns a person.",
}
_OURS = tuple(str(ROOT / folder) for folder in ("functions/metering", "ops"))
_TESTS = str(ROOT / "tests")


class StaleRead(AssertionError):
    """Our code made a read that may lack earlier acknowledged writes."""


@contextmanager
def held_consistent(client: "DynamoDBClient") -> Iterator[list[str]]:
    """Collect the operations of all reads that functions and commands make on `client`.

    Reads of tests are not collected and need not be consistent.

    Raises:
        StaleRead: at the end of the block, if a read was not consistent.
    """
    reads: list[str] = []
    stale: list[str] = []

    def look(params: Mapping[str, Any], model: Any, **_: Any) -> None:
        if (caller := _caller()) is None or not _is_read(model.name):
            return
        reads.append(model.name)
        if not is_consistent(model.name, params):
            stale.append(f"{model.name} of {caller}")

    events: Any = client.meta.events
    events.register("before-parameter-build.dynamodb", look)
    yield reads
    if stale:
        raise StaleRead(f"These reads were not consistent: {', '.join(sorted(set(stale)))}")


def is_consistent(operation: str, params: Mapping[str, Any]) -> bool:
    """Return whether this read includes all earlier writes. TransactGetItems always does."""
    if operation == "TransactGetItems":
        return True
    if operation == "BatchGetItem":
        return all(asked.get("ConsistentRead") is True for asked in params["RequestItems"].values())
    return params.get("ConsistentRead") is True or params.get("IndexName") in INDEXES


def _is_read(operation: str) -> bool:
    return operation in ("Query", "Scan") or operation.endswith(("GetItem", "GetItems"))


def _caller() -> str | None:
    """The innermost function of our code on the call stack, as `counter_pages.py:_query`.

    Returns: None if the call comes from a test instead.
    """
    frame = sys._getframe(1)
    while (frame := frame.f_back) is not None:  # type: ignore[assignment] # the outermost frame has none
        file = frame.f_code.co_filename
        if file.startswith(_OURS):
            return f"{file.rpartition('/')[2]}:{frame.f_code.co_name}"
        if file.startswith(_TESTS) and file != __file__:
            return None
    return None
