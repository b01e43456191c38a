"""Kept releases: small enough for the repository, and complete enough to deploy again.

tests/released/<version>/
    usage-metering-local-{data,service}.template.json   as synthesized, except for the two placeholders below
    metering.zip                                        functions/metering
    requirements.txt                                    its locked dependencies, with hashes
    services.json                                       the services whose descriptions botocore keeps in the bundle
"""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.app import build_app, synthesize
from infra.environments import LOCAL, Trust
from ops import local_stack
from tools.setup import EMULATOR_PYTHON, ROOT, UV, tool_environment

if TYPE_CHECKING:
    from ops.access import Access

# In the order of deployment, as the service's stack imports values from the data's.
STACKS = ("data", "service")
FOLDER = ROOT / "tests" / "released"
# The issuer's port changes at every start. Nobody can own a name under `.invalid`.
ISSUER = "http://issuer.invalid"
# The CDK names an asset by its content, which depends on the machine (compiled files, shared objects).
ASSET_KEY = "usage-metering-released.zip"

VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
# The earliest time in a zip. With a fixed time, the same source gives the same file.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Release:
    folder: Path

    @property
    def version(self) -> str:
        return self.folder.name

    def template(self, stack: str, issuer: str) -> str:
        """The template of the stack `data` or `service`, whose functions trust `issuer`."""
        return (self.folder / _template_name(stack)).read_text().replace(ISSUER, issuer)


def newest(folder: Path = FOLDER) -> Release:
    """The kept release with the highest version."""
    kept = [path for path in folder.iterdir() if VERSION.fullmatch(path.name)]
    return Release(max(kept, key=lambda path: [int(part) for part in path.name.split(".")]))


def write(folder: Path, bundle: Path) -> Release:
    """Keep the current checkout as a release in `folder`, which appears only when it is complete.

    `bundle` is this checkout's bundle for the emulator.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made, synthesized = Path(scratch) / "made", Path(scratch) / "cdk.out"
        made.mkdir()
        synthesize(build_app(LOCAL, Trust(ISSUER, (local_stack.AUDIENCE,)), bundle, outdir=synthesized))
        for stack in STACKS:
            template = json.loads((synthesized / _template_name(stack)).read_text())
            for resource in template["Resources"].values():
                if resource["Type"] == "AWS::Lambda::Function":
                    resource["Properties"]["Code"]["S3Key"] = ASSET_KEY
            (made / _template_name(stack)).write_text(json.dumps(template, indent=1) + "\n")
        (made / "metering.zip").write_bytes(_zipped(ROOT / "functions", _sources()))
        export = ["export", "--locked", "--quiet", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate"]
        _run([UV, *export, "-o", made / "requirements.txt"])
        described = sorted(path.name for path in (bundle / "botocore" / "data").iterdir() if path.is_dir())
        (made / "services.json").write_text(json.dumps(described) + "\n")
        made.rename(folder)
    return Release(folder)


def deploy(release: Release, access: "Access", issuer: str) -> None:
    """Create both stacks of `release` in an empty emulator. The functions accept tokens of `issuer`."""
    if LOCAL.asset_bucket is None:
        raise ValueError("LOCAL needs an asset bucket: no bootstrap stack creates one in the emulator")
    s3, cloudformation = access.s3(), access.cloudformation()
    s3.create_bucket(Bucket=LOCAL.asset_bucket)
    s3.put_object(Bucket=LOCAL.asset_bucket, Key=ASSET_KEY, Body=_asset(release).read_bytes())
    for stack in STACKS:
        name = f"usage-metering-{LOCAL.name}-{stack}"
        cloudformation.create_stack(
            StackName=name, TemplateBody=release.template(stack, issuer), Capabilities=["CAPABILITY_IAM"]
        )
        waiter = cloudformation.get_waiter("stack_create_complete")
        waiter.wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def _asset(release: Release) -> Path:
    """A zip of the release's functions and their dependencies, for the emulator. Each machine builds it once."""
    digest = hashlib.sha256(str(EMULATOR_PYTHON.resolve()).encode() + Path(__file__).read_bytes())
    for path in sorted(release.folder.iterdir()):
        digest.update(path.read_bytes())
    asset = ROOT / "build" / "released" / f"{release.version}-{digest.hexdigest()[:16]}.zip"
    if asset.exists():
        return asset
    asset.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asset.parent, prefix=f".{release.version}-") as scratch:
        bundle, made = Path(scratch) / "bundle", Path(scratch) / "asset.zip"
        locked = ["--require-hashes", "--only-binary", ":all:", "-r", str(release.folder / "requirements.txt")]
        where = ["--target", str(bundle), "--python", str(EMULATOR_PYTHON), "--link-mode", "copy"]
        _run([UV, "pip", "install", "--quiet", *locked, *where])
        services = set(json.loads((release.folder / "services.json").read_text()))
        for described in (bundle / "botocore" / "data").iterdir():
            if described.is_dir() and described.name not in services:
                shutil.rmtree(described)
        with zipfile.ZipFile(release.folder / "metering.zip") as source:
            source.extractall(bundle)
        _run([EMULATOR_PYTHON, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", bundle])
        made.write_bytes(_zipped(bundle, bundle.rglob("*")))
        made.rename(asset)
    return asset


def _sources() -> list[Path]:
    return [path for path in (ROOT / "functions" / "metering").rglob("*") if "__pycache__" not in path.parts]


def _zipped(folder: Path, paths: Iterable[Path]) -> bytes:
    """A zip of the files among `paths`, named by their places in `folder`. The same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(paths):
            if path.is_file():
                name = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _NO_TIME)
                name.external_attr = 0o644 << 16
                archive.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _template_name(stack: str) -> str:
    return f"usage-metering-{LOCAL.name}-{stack}.template.json"


def _run(command: list[str | Path]) -> None:
    environment = {**tool_environment(), "VIRTUAL_ENV": "", "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
