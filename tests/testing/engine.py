"""The DynamoDB engine of the tests: exact under threads and processes, with streams.

The default is dynoxide, which is published for Linux on x86-64. On other systems, or on request, the engine is the
emulator's DynamoDB.
"""

import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from local import emulator, tether
from tests.testing.table import SCHEMA
from tools.setup import ROOT

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import StreamSpecificationTypeDef

DYNOXIDE = ROOT / "tests" / "testing" / "node_modules" / "@dynoxide" / "linux-x64" / "dynoxide"
_START_TIMEOUT_S = 60.0
# Two engines that start in parallel may choose the same port. Then one of them ends shortly after its start.
_STARTS = 5
_SETTLED_S = 0.2


@dataclass
class Engine:
    """A running engine and its clients."""

    endpoint: str
    name: str
    keys: emulator.Keys
    """The emulator's keys. dynoxide accepts any."""
    _tables: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        session = boto3.Session(self.keys.access_key_id, emulator.SECRET_ACCESS_KEY, region_name=emulator.REGION)
        # dynoxide's shard ids are shorter than botocore's validation allows.
        config = Config(proxies={}, parameter_validation=False)
        self.dynamodb: DynamoDBClient = session.client("dynamodb", endpoint_url=self.endpoint, config=config)
        self.streams: Any = session.client("dynamodbstreams", endpoint_url=self.endpoint, config=config)

    def create_table(self) -> tuple[str, str]:
        """Create an empty table with the schema and stream of the stack.

        Returns: the table's name and the ARN of its stream.
        """
        name = f"usage-{next(self._tables)}"
        stream: StreamSpecificationTypeDef = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        made = self.dynamodb.create_table(TableName=name, **SCHEMA, StreamSpecification=stream)
        return name, made["TableDescription"]["LatestStreamArn"]

    def drop_table(self, name: str) -> None:
        self.dynamodb.delete_table(TableName=name)

    def items(self, table: str) -> list[dict[str, Any]]:
        """All items of the table."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]


def default() -> str:
    """The name of the default engine: `dynoxide` if it is installed, else `emulator`."""
    return "dynoxide" if DYNOXIDE.exists() else "emulator"


@contextmanager
def running(directory: Path, name: str | None = None) -> Iterator[Engine]:
    """Run an engine without tables until the end of the block.

    `name` is `dynoxide`, `emulator`, or None for the default.
    """
    name = name or default()
    log_file = directory / f"{name}.log"
    keys = emulator.new_keys()
    lock = os.open(directory / "engine.lock", os.O_CREAT | os.O_RDWR)
    try:
        for attempt in range(_STARTS):
            port = emulator.free_port()
            with log_file.open("wb") as log:
                process = _start(name, port, keys, directory, log, lock)
            try:
                if _is_ready(process, f"http://127.0.0.1:{port}", log_file, last=attempt == _STARTS - 1):
                    yield Engine(f"http://127.0.0.1:{port}", name, keys)
                    return
            finally:
                tether.end(process)
    finally:
        os.close(lock)


def _start(
    name: str, port: int, keys: emulator.Keys, directory: Path, log: IO[bytes], lock: int
) -> "subprocess.Popen[bytes]":
    if name == "emulator":
        for folder in ("state", "tmp"):
            (directory / folder).mkdir(exist_ok=True)
        return emulator.start(port, keys, directory, log, lock)
    return tether.start([DYNOXIDE, "serve", "--port", str(port)], {"PATH": os.defpath}, directory, log, lock)


def _is_ready(process: "subprocess.Popen[bytes]", endpoint: str, log_file: Path, *, last: bool) -> bool:
    """Wait until the engine answers.

    Returns: False if the engine ended and another port may help.
    Raises:
        RuntimeError: the engine did not start, and this was the last try.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not emulator.is_listening(endpoint) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    # Another process may listen on the port, so give the engine time to end.
    time.sleep(_SETTLED_S)
    if process.poll() is None and time.monotonic() < deadline:
        return True
    if last:
        raise RuntimeError(f"The engine did not start. Its log: {log_file.read_text(errors='replace')}")
    return False
