"""The bundles that the tests read: the cloud's, made twice in different folders, and one that this Python can run."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tools import bundle, compiler


class Twins(NamedTuple):
    one: Path
    other: Path
    compiled_by: str | None


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """The cloud's bundle, made twice. Without a suitable Python it is not compiled, and the tests of that skip."""
    python = compiler.find()
    twins = Twins(
        tmp_path_factory.mktemp("one") / "bundle",
        tmp_path_factory.mktemp("other") / "much" / "deeper" / "bundle",
        None if python is None else compiler.version(python),
    )
    bundle.make("cloud", twins.one, python)
    bundle.make("cloud", twins.other, python)
    return twins


@pytest.fixture(scope="session")
def local() -> Path:
    """The bundle for this Python and CPU, which the tests can run."""
    return bundle.build("local")
