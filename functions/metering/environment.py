"""The execution environment, as entries use it: clients, time, chance and the settings that several of them share.

Only entries import it: the rooms below them do not know where they run.

Environment: TABLE_NAME; RETENTION_DAYS (400), for which records and notices are kept.
"""

import os
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Any

import botocore.session
from botocore.config import Config

from metering.model.timeouts import Timeouts

# A restored snapshot of a process would repeat what a seeded generator had left.
RANDOM = SystemRandom()


def session() -> Any:
    """A maker of clients: botocore's own, as boto3 adds a quarter to the cold start and its resources are of no use."""
    return botocore.session.get_session()


def config(timeouts: Timeouts, **more: Any) -> Config:
    """The settings of a client whose calls keep to `timeouts`, and `more` of botocore's own."""
    return Config(
        connect_timeout=timeouts.connect_s,
        read_timeout=timeouts.read_s,
        retries={"mode": "standard", "total_max_attempts": timeouts.tries},
        tcp_keepalive=True,
        **more,
    )


def table() -> str:
    """The table's name."""
    return os.environ["TABLE_NAME"]


def retention() -> timedelta:
    """For how long records and notices are kept."""
    return timedelta(days=int(os.environ.get("RETENTION_DAYS", "400")))


def now() -> datetime:
    """The present moment: aware, UTC."""
    return datetime.now(UTC)
