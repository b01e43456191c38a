"""The cold baseline: a client from `boto3.client`, as most code has it, and the two calls."""

import os
from typing import Any

import boto3
import two_calls

_CLIENT = boto3.client("dynamodb")


def handler(_event: Any, _context: Any) -> dict[str, Any]:
    return two_calls.make(_CLIENT, os.environ["TABLE_NAME"])
