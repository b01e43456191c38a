"""Build the folder that Lambda runs: our package and its locked dependencies. Needs no Docker.

    build/bundle/<target>-<hash of its inputs>/

The target `cloud` is for Lambda's Python 3.13 on arm64. The target `local` is for the emulator, whose workers run its
own Python on this machine's CPU. A folder appears whole or not at all, so several runs may build at once.
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
    """Build the bundle for `target`, unless a bundle of the same inputs exists.

    Without a Python of Lambda's version, the cloud bundle is not compiled, and stderr says so.

    Raises:
        CompilerUnusable: PYTHON313 is not a working Python of Lambda's version.
        subprocess.CalledProcessError: uv could not install the dependencies.
    """
    compile_with = _compiler(target)
    bundles = ROOT / "build" / "bundle"
    bundle = bundles / f"{target}-{_hash_of_inputs(target, compile_with)}"
    if compile_with is None:
        warning = f"bundle: the functions are not compiled, so cold starts are slower; {compiler.NOT_HERE}."
        print(warning, file=sys.stderr)
    if bundle.exists():
        return bundle
    bundles.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bundles, prefix=f".{target}-") as scratch:
        made = Path(scratch) / "bundle"
        make(target, made, compile_with)
        try:
            made.rename(bundle)
        except OSError:
            # Another run finished first. Its bundle is the same.
            if not bundle.exists():
                raise
    return bundle


def make(target: str, folder: Path, compile_with: str | None) -> None:
    """Build the bundle for `target` in the new folder `folder`. The same inputs give the same bytes on any machine.

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
    """Compile all modules in `folder`, whose path at run time is `seen_as`, with `python`.

    `python` must have the version that will run them: other versions ignore the files, and every cold start compiles.
    """
    # A zip changes the files' times, so compare by hash. Deployed files cannot change, so skip the check at import.
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
    # Lambda reads the files as another user, and the umask of the build may be stricter.
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
        print("bundle: cannot install the dependencies; the reason is above.", file=sys.stderr)
        return 1
    print(bundle_size.table(bundle))
    print(f"\n{os.path.relpath(bundle, ROOT)}\nsha256 of the content: {bundle_size.content_hash(bundle)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
