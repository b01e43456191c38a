import json
from pathlib import Path

from infra.synth import synthesize_all
from tests.testing.stacks import Stacks


def test_every_environment_gets_a_folder_of_its_own(bundle: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def build(target: str) -> Path:
        asked.append(target)
        return bundle

    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "left-behind").touch()
    synthesize_all("https://issuer.example", "usage-metering", tmp_path, build)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev", "local", "prod"]
    assert all((folder / "manifest.json").exists() for folder in tmp_path.iterdir())
    assert not (tmp_path / "dev" / "left-behind").exists()
    assert sorted(asked) == ["cloud", "local"]


def test_the_stacks_belong_to_no_account_until_they_are_deployed(all_stacks: dict[str, Stacks]) -> None:
    for stacks in all_stacks.values():
        artifacts = json.loads((stacks.folder / "manifest.json").read_text())["artifacts"].values()
        homes = {one["environment"] for one in artifacts if one["type"] == "aws:cloudformation:stack"}
        assert homes == {"aws://unknown-account/unknown-region"}
