"""The functions as Lambda runs them, on the emulated AWS of the local stack."""

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.runtime import proxy
from tests.runtime.proxy import Proxy
from tests.testing import execution_environment
from tests.testing.execution_environment import RUNTIME_CLIENT, ExecutionEnvironment
from tests.testing.local_stack import LocalStack
from tools import bundle

Start: TypeAlias = Callable[..., AbstractContextManager[ExecutionEnvironment]]

_NAMES = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A marker and no fixture, so that skipped tests deploy nothing.
    if sys.platform != "linux":
        here = Path(__file__).parent
        reason = "AWS publishes its compiled runtime client for Linux only, and elsewhere it needs a C++ compiler"
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The path of an execution environment: our bundle for this Python, and the runtime client."""
    client = tmp_path_factory.mktemp("runtime") / "client"
    execution_environment.install(RUNTIME_CLIENT, client)
    return [bundle.build("local"), client]


@pytest.fixture
def aws(stack: LocalStack) -> Iterator[Proxy]:
    """The stack's emulated AWS behind the test's own proxy."""
    with proxy.serving(stack.stack.endpoint) as serving:
        yield serving


@pytest.fixture
def start(stack: LocalStack, path: list[Path], aws: Proxy, tmp_path: Path) -> Start:
    """Start an execution environment of a handler and wait until it is ready. Keyword arguments change settings."""
    settings = {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_ACCESS_KEY_ID": stack.stack.access_key_id,
        "AWS_SECRET_ACCESS_KEY": stack.stack.secret_access_key,
        "AWS_REGION": stack.stack.region,
        "AWS_DEFAULT_REGION": stack.stack.region,
        "TABLE_NAME": stack.table,
        "BUS_NAME": stack.stack.bus,
        "FAILURE_BUCKET": "no-such-bucket",
        "POWERTOOLS_SERVICE_NAME": "usage-metering",
        "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }

    @contextmanager
    def start_one(handler: str, **changes: str | None) -> Iterator[ExecutionEnvironment]:
        variables = {name: value for name, value in {**settings, **changes}.items() if value is not None}
        with execution_environment.started(handler, path, variables, tmp_path) as environment:
            environment.wait_until_ready()
            yield environment

    return start_one


@pytest.fixture
def own_bus(stack: LocalStack) -> Iterator[str]:
    """A bus that only this test uses, so that no other test gets its events."""
    name = f"runtime-{next(_NAMES)}"
    stack.access.events().create_event_bus(Name=name)
    yield name
    stack.access.events().delete_event_bus(Name=name)


@pytest.fixture
def own_bucket(stack: LocalStack) -> str:
    """A bucket that only this test uses."""
    name = f"runtime-{next(_NAMES)}"
    stack.access.s3().create_bucket(Bucket=name)
    return name
