"""A real headless Chromium: on Linux x86-64 from the npm package in package-lock.json, elsewhere from the PATH."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools import setup

_PACKAGE = Path(__file__).parent / "node_modules" / "@sparticuz" / "chromium"
_UNPACK = """
const [from, to] = process.argv.slice(1)
const {createReadStream, createWriteStream} = require("fs")
require("stream").pipeline(
  createReadStream(from), require("zlib").createBrotliDecompress(), createWriteStream(to), (e) => { if (e) throw e })
"""
_OPTIONS = [
    "--headless=shell",
    "--no-sandbox",  # the sandbox needs privileges that a container lacks; the tests serve every page
    "--no-zygote",
    "--disable-gpu",
    "--remote-debugging-port=0",  # headless Chromium exits at once if nothing can control it.
    # A browser may ask the user before a page reaches this machine. The tests start after the user's consent.
    "--disable-features=LocalNetworkAccessChecks",
    # An attacker's host name that resolves to this machine.
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
]


@dataclass(frozen=True)
class Chromium:
    """An installed browser."""

    binary: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    """Options beyond those that every test needs."""

    @contextmanager
    def visiting(self, url: str) -> Iterator[None]:
        """Run a browser with the page `url` open until the block ends."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            process = subprocess.Popen(
                [self.binary, *_OPTIONS, *self.options, f"--user-data-dir={profile}", url],
                env={**os.environ, **self.environment, "HOME": profile},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                yield
            finally:
                process.terminate()
                process.wait()


def find() -> Chromium | None:
    """The browser to test with, or None if this machine has none."""
    if sys.platform == "linux" and platform.machine() == "x86_64" and _PACKAGE.exists():
        return _unpacked()
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    return None if found is None else Chromium(Path(found))


def _unpacked() -> Chromium:
    version = json.loads((_PACKAGE / "package.json").read_text())["version"]
    folder = setup.ROOT / "build" / "cache" / f"chromium-{version}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix="chromium-", dir=folder.parent))
        for name, to in (("chromium.br", "chromium"), ("al2023.tar.br", "libraries.tar")):
            subprocess.run([setup.node(), "-e", _UNPACK, _PACKAGE / "bin" / name, unfinished / to], check=True)
        with tarfile.open(unfinished / "libraries.tar") as libraries:
            # Python has this filter from 3.11.4 on.
            libraries.extraction_filter = getattr(tarfile, "data_filter", None)
            libraries.extractall(unfinished)  # noqa: S202 - the archive of the pinned package
        (unfinished / "chromium").chmod(0o755)
        try:
            unfinished.rename(folder)
        except OSError:
            # Another run has unpacked it first.
            shutil.rmtree(unfinished)
    # The package brings its own libraries, because this machine may lack them.
    return Chromium(folder / "chromium", {"LD_LIBRARY_PATH": str(folder / "lib")})
