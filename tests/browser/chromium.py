"""A real headless Chromium: from the npm package that package-lock.json pins, for Linux on x86-64, or on the PATH."""

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
    "--no-sandbox",  # it needs privileges that a container lacks; all pages are the tests' own
    "--no-zygote",
    "--disable-gpu",
    "--remote-debugging-port=0",  # it ends at once where nobody could tell it what to do next
    # Where a browser asks before a page reaches this machine, one click allows it. The tests are about what comes then.
    "--disable-features=LocalNetworkAccessChecks",
    # A name of somebody else's that resolves to this machine.
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
]


@dataclass(frozen=True)
class Chromium:
    """An installed browser."""

    binary: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    """Beside those that all tests need."""

    @contextmanager
    def visiting(self, url: str) -> Iterator[None]:
        """A browser with the page `url` open, until the end of the block."""
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
    """The browser to test with, None if there is none here."""
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
            libraries.extractall(unfinished, filter="data")
        (unfinished / "chromium").chmod(0o755)
        try:
            unfinished.rename(folder)
        except OSError:
            # Another run was faster.
            shutil.rmtree(unfinished)
    # Its libraries, as it may be the only program here that needs them.
    return Chromium(folder / "chromium", {"LD_LIBRARY_PATH": str(folder / "lib")})
