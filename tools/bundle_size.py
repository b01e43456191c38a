"""The size of a bundle by package, and the hash of its content."""

import hashlib
import io
import zipfile
from collections import defaultdict
from pathlib import Path

# A limit, because Lambda unpacks the bundle before every cold start.
MAX_ZIPPED_BYTES = 8_000_000

_MB = 1_000_000


def content_hash(bundle: Path) -> str:
    """A hash that is equal for two folders exactly if they have the same files with the same modes."""
    digest = hashlib.sha256()
    for path in _files(bundle):
        digest.update(f"{path.relative_to(bundle)}\0{path.stat().st_mode & 0o777:o}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def zipped_bytes(bundle: Path) -> int:
    """The size of the upload: the bundle as the CDK zips it."""
    return _zipped(bundle, _files(bundle))


def table(bundle: Path) -> str:
    """A table of the packages, largest first, with files, megabytes and zipped megabytes. The last row is the total."""
    packages: dict[str, list[Path]] = defaultdict(list)
    for path in _files(bundle):
        packages[_package(path.relative_to(bundle))].append(path)
    rows = [(_zipped(bundle, paths), name, paths) for name, paths in packages.items()]
    lines = [f"{'package':<28}{'files':>7}{'MB':>8}{'MB zipped':>11}"]
    lines += [_row(name, paths, size) for size, name, paths in sorted(rows, reverse=True)]
    lines.append(_row("all", _files(bundle), zipped_bytes(bundle)))
    return "\n".join(lines)


def _row(name: str, paths: list[Path], zipped: int) -> str:
    unzipped = sum(path.stat().st_size for path in paths)
    return f"{name:<28}{len(paths):>7}{unzipped / _MB:>8.2f}{zipped / _MB:>11.2f}"


def _files(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file())


def _package(path: Path) -> str:
    # six.py and __pycache__/six.cpython-313.pyc belong to six. All installation records form one row.
    if path.parts[0].endswith(".dist-info"):
        return "(licences and versions)"
    name = path.parts[1] if path.parts[0] == "__pycache__" else path.parts[0]
    return name.partition(".")[0]


def _zipped(bundle: Path, paths: list[Path]) -> int:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in paths:
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(bundle))), path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    return packed.tell()
