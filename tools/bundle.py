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

from tools import bundle_size, compiler, output, trimming
from tools.setup import EMULATOR_PYTHON, ROOT, UV, tool_environment

TARGETS = ("cloud", "local")

_PACKAGE = ROOT / "functions" / "metering"


def build(target: str) -> Path:
    """The bundle for `target`, built if this very one does not exist yet.

    Without a Python that can compile it, the cloud's is not compiled, and stderr says so.

    Raises:
        CompilerUnusable: PYTHON313 names no such Python.
        subprocess.CalledProcessError: uv could not install the dependencies.
    """
    compile_with = _compiler(target)
    bundles = ROOT / "build" / "bundle"
    bundle = bundles / f"{target}-{_hash_of_inputs(target, compile_with)}"
    if compile_with is None:
        print(f"bundle: this one is not compiled and starts slower: {compiler.NOT_HERE}.", file=sys.stderr)
    if bundle.exists():
        return bundle
    bundles.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bundles, prefix=f".{target}-") as scratch:
        made = Path(scratch) / "bundle"
        make(target, made, compile_with)
        try:
            made.rename(bundle)
        except OSError:
            # Another run was faster; its bundle is the same.
            if not bundle.exists():
                raise
    return bundle


def make(target: str, folder: Path, compile_with: str | None) -> None:
    """Make the bundle for `target` in `folder`, which must not exist. From the same input, the same bytes anywhere.

    Raises:
        subprocess.CalledProcessError: uv could not install the dependencies.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _install_dependencies(target, folder, Path(scratch) / "runtime.txt")
    trimming.trim(folder)
    shutil.copytree(_PACKAGE, folder / "metering", ignore=shutil.ignore_patterns("__pycache__"))
    if compile_with is not None:
        compile_folder(folder, "/var/task", compile_with)
    _open_to_read(folder)


def compile_folder(folder: Path, seen_as: str, python: str) -> None:
    """Compile everything in `folder`, which at run time is `seen_as`, by the Python that will run it.

    Only files compiled by that Python's own version count; without them every cold start compiles.
    """
    # Unchecked: a zip changes the files' times, and what cannot change need not be compared.
    how = ["--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", seen_as]
    _run([python, "-I", "-m", "compileall", "-q", *how, str(folder)])


def _hash_of_inputs(target: str, compile_with: str | None) -> str:
    sources = sorted(path for path in _PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    compiled_by = sys.version if target == "local" else compile_with and compiler.version(compile_with)
    digest = hashlib.sha256(f"{target} {compiled_by}".encode())
    makers = [Path(__file__), Path(trimming.__file__)]
    for path in [*makers, ROOT / "uv.lock", *sources]:
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _compiler(target: str) -> str | None:
    return str(EMULATOR_PYTHON) if target == "local" else compiler.find()


def _install_dependencies(target: str, into: Path, requirements: Path) -> None:
    export = ["export", "--locked", "--quiet", "--no-dev", "--no-emit-project", "--no-header", "-o", str(requirements)]
    _run([str(UV), *export])
    install = ["pip", "install", "--quiet", "--require-hashes", "-r", str(requirements), "--target", str(into)]
    _run([str(UV), *install, "--only-binary", ":all:", "--link-mode", "copy", *_interpreter(target)])


def _interpreter(target: str) -> list[str]:
    if target == "cloud":
        return ["--python-platform", "aarch64-manylinux_2_28", "--python-version", compiler.VERSION]
    return ["--python", str(EMULATOR_PYTHON)]


def _open_to_read(bundle: Path) -> None:
    # Lambda runs it as another user; and whoever builds may have any umask.
    for path in bundle.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _run(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, env={**tool_environment(), "VIRTUAL_ENV": ""}, check=True)


@output.command("bundle", works=True)
def main() -> int:
    try:
        bundle = build("cloud")
    except compiler.CompilerUnusable as wrong:
        print(f"bundle: {wrong}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError:
        print("bundle: the dependencies could not be installed: the reason is above.", file=sys.stderr)
        return 1
    print(bundle_size.table(bundle))
    print(f"\n{os.path.relpath(bundle, ROOT)}\nsha256 of its content: {bundle_size.content_hash(bundle)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
