"""The stage for the workloads of these tests: an engine, a fork server and a clock."""

from collections.abc import Iterator

import pytest

from tests.faults import driver
from tests.faults.driver import Stage


@pytest.fixture(scope="session")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with driver.stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage
