"""The cloud's bundle is complete, compiled, small, and the same wherever it is made."""

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.conftest import Twins
from tools import bundle_size
from tools.setup import EMULATOR_PYTHON

# The first bytes of a file that Python 3.13 compiled. Source: CPython 3.13, Include/internal/pycore_magic_number.h.
_MAGIC_313 = (3571).to_bytes(2, "little") + b"\r\n"
# PEP 552: bit 0 says that the file has a hash instead of a time. Bit 1 is not set, so Python does not check the hash.
_UNCHECKED_HASH = (1).to_bytes(4, "little")


def test_the_same_input_gives_the_same_bundle_in_any_folder(cloud: Twins, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (bundle_size.content_hash(folder) for folder in (cloud.one, cloud.other))
    with capsys.disabled():
        print(f"\nbundle: {one} built in one folder\n        {other} built in another")  # noqa: T201 - to be seen
    assert one == other


def test_the_zipped_bundle_is_under_8_megabytes(cloud: Twins) -> None:
    assert bundle_size.zipped_bytes(cloud.one) < bundle_size.MAX_ZIPPED_BYTES


def test_every_module_is_compiled_for_lambdas_python_and_its_folder(cloud: Twins) -> None:
    if cloud.compiled_by is None:
        pytest.skip("no Python 3.13 here: the bundle is not compiled")
    for source in cloud.one.rglob("*.py"):
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
        assert compiled.read_bytes()[:8] == _MAGIC_313 + _UNCHECKED_HASH, source


def test_compiled_code_names_its_path_on_lambda_and_not_its_build_folder(cloud: Twins) -> None:
    if cloud.compiled_by is None:
        pytest.skip("no Python 3.13 here: the bundle is not compiled")
    compiled = (cloud.one / "metering" / "__pycache__" / "record_api.cpython-313.pyc").read_bytes()
    assert b"/var/task/metering/record_api.py" in compiled
    assert not [path for path in cloud.one.rglob("*.pyc") if str(cloud.one).encode() in path.read_bytes()]


def test_nothing_is_compiled_for_another_python(cloud: Twins) -> None:
    compiled = {path.suffixes[0] for path in cloud.one.rglob("*.pyc")}
    assert compiled == ({".cpython-313"} if cloud.compiled_by else set())


def test_binaries_are_for_arm64(cloud: Twins) -> None:
    binaries = [path.name for path in cloud.one.rglob("*.so")]
    assert binaries
    assert all(name.endswith(".cpython-313-aarch64-linux-gnu.so") for name in binaries)


def test_every_package_comes_with_its_licence_and_version(cloud: Twins) -> None:
    records = list(cloud.one.glob("*.dist-info"))
    assert len(records) >= 10
    for record in records:
        assert [*record.rglob("LICENSE*")], record.name
        assert "\nVersion: " in (record / "METADATA").read_text()


def test_the_bundle_describes_only_the_aws_services_in_use(cloud: Twins) -> None:
    data = cloud.one / "botocore" / "data"
    assert {path.name for path in data.iterdir() if path.is_dir()} == {"dynamodb", "events", "s3", "sqs"}
    partitions = json.loads((data / "endpoints.json").read_text())["partitions"]
    assert {name for partition in partitions for name in partition["services"]} == {"dynamodb", "events", "s3", "sqs"}
    (aws,) = (partition for partition in partitions if partition["partition"] == "aws")
    assert "eu-central-1" in aws["regions"]


def test_the_bundle_holds_no_programs_tests_or_installer_files(cloud: Twins) -> None:
    unwanted = {"bin", "tests", "test", ".lock", "RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    assert not [path for path in cloud.one.rglob("*") if path.name in unwanted]


def test_every_user_may_read_the_bundle(cloud: Twins) -> None:
    # Lambda runs the bundle as another user than its owner.
    assert {path.stat().st_mode & 0o777 for path in cloud.one.rglob("*") if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in cloud.one.rglob("*") if path.is_dir()} == {0o755}


@pytest.mark.parametrize("function", ["metering.record_api", "metering.query_api", "metering.publisher"])
def test_a_function_imports_nothing_from_outside_its_bundle(local: Path, function: str) -> None:
    standard = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    loaded = _loaded_by(local, function)
    assert function in loaded
    outside = {
        name: file
        for name, file in loaded.items()
        if not Path(file).is_relative_to(local)
        and ("site-packages" in file or not any(Path(file).is_relative_to(where) for where in standard))
    }
    assert outside == {}


def test_the_publisher_does_without_pydantic(local: Path) -> None:
    loaded = _loaded_by(local, "metering.publisher")
    assert not [name for name in loaded if name.startswith(("pydantic", "metering.http"))]


@pytest.mark.parametrize("function", ["metering.record_api", "metering.query_api", "metering.publisher"])
def test_garbage_collection_is_on_after_the_import_of_a_function(local: Path, function: str) -> None:
    assert _said_after_import(local, function, "__import__('gc').isenabled()") is True


def _loaded_by(bundle: Path, function: str) -> dict[str, str]:
    """The file of every module that is loaded after the import of `function`, except `__main__` and built-in ones."""
    files = "{name: module.__file__ for name, module in sys.modules.items() if getattr(module, '__file__', None)}"
    loaded: dict[str, str] = _said_after_import(bundle, function, files)
    return loaded


def _said_after_import(bundle: Path, function: str, expression: str) -> Any:
    """Evaluate `expression` after the import of `function` with only the bundle on the path."""
    program = f"import sys; sys.path.insert(0, {str(bundle)!r}); import {function}; said = {expression}"
    environment = {
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "TABLE_NAME": "usage",
        "BUS_NAME": "metering",
        "FAILURE_BUCKET": "failures",
    }
    done = subprocess.run(
        [EMULATOR_PYTHON, "-I", "-S", "-c", f"{program}; import json; print(json.dumps(said))"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
