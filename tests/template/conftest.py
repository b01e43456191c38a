"""The templates of every environment, synthesized once, with an almost empty bundle."""

from pathlib import Path

import pytest

from infra.app import build_app, synthesize
from infra.environments import ENVIRONMENTS, Environment, FindingsOpen, Trust
from tests.testing.stacks import Stacks, read

TRUST = Trust("https://issuer.example", ("usage-metering", "another-audience"))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "metering").mkdir()
    (folder / "metering" / "__init__.py").touch()
    return folder


@pytest.fixture(scope="session")
def all_stacks(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stacks]:
    return {environment.name: _synthesized(environment, bundle, tmp_path_factory) for environment in ENVIRONMENTS}


@pytest.fixture(params=ENVIRONMENTS, ids=lambda environment: environment.name)
def environment(request: pytest.FixtureRequest) -> Environment:
    chosen: Environment = request.param
    return chosen


@pytest.fixture
def stacks(all_stacks: dict[str, Stacks], environment: Environment) -> Stacks:
    """The stacks of `environment`. A test that requests them runs once for each environment."""
    return all_stacks[environment.name]


def _synthesized(environment: Environment, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Stacks:
    folder = tmp_path_factory.mktemp(environment.name)
    app = build_app(environment, TRUST, bundle, outdir=folder)
    try:
        synthesize(app)
    except FindingsOpen:
        # The checks run after the templates are written, and test_checks tests their findings.
        return read(folder, environment, findings_open=True)
    return read(folder, environment, findings_open=False)
