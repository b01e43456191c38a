"""Clients, clock, random numbers and settings of the execution environment, for several entries.

Only entries and `api_environment` import this module. The rooms receive everything as arguments.

Variables: TABLE_NAME; RETENTION_DAYS (default 400), the time for which records and notices are kept.
"""

import os
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Any

import botocore.session
from botocore.config import Config

from metering.model.timeouts import Timeouts

# Not a seeded generator: each process that Lambda restores from one snapshot would repeat the same numbers.
RANDOM = SystemRandom()


def session() -> Any:
    """Return a botocore session to create clients. boto3 would make a cold start a quarter longer."""
    return botocore.session.get_session()


def config(timeouts: Timeouts, **more: Any) -> Config:
    """Return a client's configuration with `timeouts` and `more` settings of botocore."""
    return Config(
        connect_timeout=timeouts.connect_s,
        read_timeout=timeouts.read_s,
        retries={"mode": "standard", "total_max_attempts": timeouts.tries},
        tcp_keepalive=True,
        **more,
    )


def table() -> str:
    """Return the DynamoDB table's name."""
    return os.environ["TABLE_NAME"]


def retention() -> timedelta:
    """Return how long records and notices are kept."""
    return timedelta(days=int(os.environ.get("RETENTION_DAYS", "400")))


def now() -> datetime:
    """Return the current time as an aware datetime in UTC."""
    return datetime.now(UTC)
