"""The warm baseline: botocore's client with the record function's settings, and the two calls."""

import os
from typing import Any

import botocore.session
import two_calls
from botocore.config import Config

_CONFIG = Config(
    connect_timeout=1.0, read_timeout=2.0, retries={"mode": "standard", "total_max_attempts": 2}, tcp_keepalive=True
)
_SESSION: Any = botocore.session.get_session()
_CLIENT = _SESSION.create_client("dynamodb", config=_CONFIG)


def handler(_event: Any, _context: Any) -> dict[str, Any]:
    return two_calls.make(_CLIENT, os.environ["TABLE_NAME"])
