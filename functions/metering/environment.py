"""Clients, clock, random numbers and settings from the execution environment, for several entries.

Only entries import this module. The rooms below them receive everything as arguments.

Environment: TABLE_NAME; RETENTION_DAYS (default 400), how long records and notices are kept.
"""

import os
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Any

import botocore.session
from botocore.config import Config

from metering.model.timeouts import Timeouts

# Not a seeded generator, which would repeat the same numbers in each process restored from one snapshot.
RANDOM = SystemRandom()


def session() -> Any:
    """A botocore session to create clients. boto3 would add a quarter to the cold start for unused resources."""
    return botocore.session.get_session()


def config(timeouts: Timeouts, **more: Any) -> Config:
    """A client's configuration with `timeouts` and `more` settings of botocore."""
    return Config(
        connect_timeout=timeouts.connect_s,
        read_timeout=timeouts.read_s,
        retries={"mode": "standard", "total_max_attempts": timeouts.tries},
        tcp_keepalive=True,
        **more,
    )


def table() -> str:
    """The DynamoDB table's name."""
    return os.environ["TABLE_NAME"]


def retention() -> timedelta:
    """How long records and notices are kept."""
    return timedelta(days=int(os.environ.get("RETENTION_DAYS", "400")))


def now() -> datetime:
    """The current time as an aware datetime in UTC."""
    return datetime.now(UTC)
