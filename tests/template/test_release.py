"""Releases as `make release` keeps them."""

import json
import re
import zipfile
from pathlib import Path

import pytest

from tests.released.__main__ import why_not
from tests.released.releases import ASSET_KEY, FOLDER, ISSUER, STACKS, Release, newest, write
from tests.testing.stacks import Stacks
from tools.setup import ROOT

KEPT = [path for path in sorted(FOLDER.iterdir()) if path.is_dir() and path.name[0].isdigit()]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return write(tmp_path_factory.mktemp("released") / "1.2.3", _bundle(tmp_path_factory.mktemp("one")))


def test_the_same_checkout_is_the_same_release(release: Release, tmp_path: Path) -> None:
    again = write(tmp_path / "released" / "1.2.3", _bundle(tmp_path / "another"))
    names = {path.name for path in release.folder.iterdir()}
    assert names == {path.name for path in again.folder.iterdir()}
    for name in names:
        assert (release.folder / name).read_bytes() == (again.folder / name).read_bytes(), name
    assert [path.name for path in again.folder.parent.iterdir()] == ["1.2.3"]


def test_a_release_holds_the_functions_source(release: Release) -> None:
    source = ROOT / "functions"
    files = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    with zipfile.ZipFile(release.folder / "metering.zip") as kept:
        assert {name: kept.read(name) for name in kept.namelist()} == {
            path.relative_to(source).as_posix(): path.read_bytes() for path in files
        }


def test_a_release_holds_the_templates_but_for_issuer_and_asset(
    release: Release, all_stacks: dict[str, Stacks]
) -> None:
    for name, ours in zip(STACKS, all_stacks["local"].both, strict=True):
        kept = json.loads(release.template(name, "http://127.0.0.1:1"))
        assert ISSUER not in json.dumps(kept)
        assert kept["Resources"].keys() == ours.body["Resources"].keys()
        for id_, resource in kept["Resources"].items():
            match resource["Type"]:
                case "AWS::Lambda::Function":
                    assert resource["Properties"].pop("Code")["S3Key"] == ASSET_KEY
                    assert ours.body["Resources"][id_]["Properties"].items() >= resource["Properties"].items()
                case "AWS::ApiGatewayV2::Authorizer":
                    assert resource["Properties"]["JwtConfiguration"]["Issuer"] == "http://127.0.0.1:1"
                case _:
                    assert resource == ours.body["Resources"][id_]


def test_the_last_release_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    for name in ("0.9.0", "0.10.0", "0.9.10", "__pycache__"):
        (tmp_path / name).mkdir()
    assert newest(tmp_path).version == "0.10.0"


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("", "VERSION must be set"),
        ("1.2", "VERSION must be set"),
        ("../1.2.3", "VERSION must be set"),
        ("1.0.0", "1.0.0 was released before"),
        ("1.3.0", "this checkout is 1.2.3 by pyproject.toml"),
        ("1.2.3", "CHANGELOG.md has no section `## 1.2.3 - <date>`"),
    ],
)
def test_an_impossible_release_is_refused_in_one_sentence(tmp_path: Path, version: str, said: str) -> None:
    refused = why_not(version, *_checkout(tmp_path, changelog="## Unreleased\n\n## 1.2.30 - 2026-11-23\n"))
    assert refused is not None
    assert refused.startswith(said)


def test_a_new_version_with_its_section_can_be_released(tmp_path: Path) -> None:
    assert why_not("1.2.3", *_checkout(tmp_path, changelog="## Unreleased\n\n## 1.2.3 - 2026-11-23\n")) is None


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_a_kept_release_is_small_and_in_the_changelog(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000
    assert re.search(rf"^## {re.escape(folder.name)} - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def _bundle(folder: Path) -> Path:
    (folder / "botocore" / "data" / "dynamodb").mkdir(parents=True)
    (folder / "name").write_text(str(folder))
    return folder


def _checkout(folder: Path, changelog: str) -> tuple[Path, Path, Path]:
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (folder / "CHANGELOG.md").write_text(changelog)
    (folder / "released" / "1.0.0").mkdir(parents=True)
    return folder / "pyproject.toml", folder / "CHANGELOG.md", folder / "released"
