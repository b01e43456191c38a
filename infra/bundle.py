"""The folder that Lambda runs: our package and its locked dependencies, built without Docker.

    build/bundle/<target>-<hash of what it is made from>/

`cloud` is for Lambda's Python 3.13 on arm64, `local` for the emulator, whose workers are processes of its own Python
on this machine's CPU. A folder appears whole or not at all, so that several runs may build at once.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from local.setup import EMULATOR_PYTHON, ROOT, UV, tool_environment

TARGETS = ("cloud", "local")

_PACKAGE = ROOT / "functions" / "metering"
# The services that the functions call. botocore holds the descriptions of four hundred.
_SERVICES = {"dynamodb", "events", "s3"}
_CLOUD_PYTHON = "3.13"


def build(target: str) -> Path:
    """The bundle for `target`, built if this very one does not exist yet.

    Raises:
        subprocess.CalledProcessError: uv could not install the dependencies.
    """
    bundles = ROOT / "build" / "bundle"
    bundle = bundles / f"{target}-{_hash_of_inputs(target)}"
    if bundle.exists():
        return bundle
    bundles.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bundles, prefix=f".{target}-") as scratch:
        made = Path(scratch) / "bundle"
        _install_dependencies(target, made, Path(scratch) / "runtime.txt")
        _trim(made)
        shutil.copytree(_PACKAGE, made / "metering", ignore=shutil.ignore_patterns("__pycache__"))
        _compile(target, made)
        try:
            made.rename(bundle)
        except OSError:
            # Another run was faster; its bundle is the same.
            if not bundle.exists():
                raise
    return bundle


def _hash_of_inputs(target: str) -> str:
    sources = sorted(path for path in _PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    digest = hashlib.sha256(f"{target} {sys.version} {_compiler(target)} {sorted(_SERVICES)}".encode())
    for path in [Path(__file__), ROOT / "uv.lock", *sources]:
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _install_dependencies(target: str, into: Path, requirements: Path) -> None:
    export = ["export", "--locked", "--quiet", "--no-dev", "--no-emit-project", "--no-header", "-o", str(requirements)]
    _run([str(UV), *export])
    install = ["pip", "install", "--quiet", "--require-hashes", "-r", str(requirements), "--target", str(into)]
    _run([str(UV), *install, "--only-binary", ":all:", "--link-mode", "copy", *_interpreter(target)])


def _interpreter(target: str) -> list[str]:
    if target == "cloud":
        return ["--python-platform", "aarch64-manylinux_2_28", "--python-version", _CLOUD_PYTHON]
    return ["--python", str(EMULATOR_PYTHON)]


def _trim(bundle: Path) -> None:
    shutil.rmtree(bundle / "bin", ignore_errors=True)
    for described in (bundle / "botocore" / "data").iterdir():
        if described.is_dir() and described.name not in _SERVICES:
            shutil.rmtree(described)


def _compile(target: str, bundle: Path) -> None:
    # Without compiled files every cold start compiles. Only the Python that will run them can make them.
    python = _compiler(target)
    if python is None:
        print(f"bundle: no Python {_CLOUD_PYTHON} here: this bundle is not compiled and starts slower", file=sys.stderr)
        return
    how = ["--invalidation-mode", "unchecked-hash", "-s", str(bundle), "-p", "/var/task"]
    _run([python, "-m", "compileall", "-q", *how, str(bundle)])


def _compiler(target: str) -> str | None:
    if target == "local":
        return str(EMULATOR_PYTHON)
    search = [str(UV), "python", "find", "--quiet", "--no-project", _CLOUD_PYTHON]
    found = subprocess.run(search, env=tool_environment(), capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def _run(command: list[str]) -> None:
    environment = {**tool_environment(), "VIRTUAL_ENV": "", "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    print(os.path.relpath(build(sys.argv[1]), ROOT))
