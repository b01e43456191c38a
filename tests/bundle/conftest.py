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
    """The cloud's bundle, twice. Not compiled if no Python here can; the tests of that say so."""
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
    """The same for this Python and CPU: what is in it can be run."""
    return bundle.build("local")
