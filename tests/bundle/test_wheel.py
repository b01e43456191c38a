"""A wheel that somebody builds installs only the functions. The project publishes none."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from tools.setup import ROOT, UV, tool_environment

pytestmark = pytest.mark.verify


def test_a_wheel_holds_the_functions_alone(tmp_path: Path) -> None:
    command = [str(UV), "build", "--wheel", "--quiet", "--out-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=tool_environment(), check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
    folder, _, version = wheel.name.partition("-")
    assert {name.partition("/")[0] for name in names} == {"metering", f"{folder}-{version.partition('-')[0]}.dist-info"}
    # A command could not run, because the wheel does not hold it.
    assert not [name for name in names if name.endswith("/entry_points.txt")]
