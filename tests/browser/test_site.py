"""The documentation's site, as `make docs` builds it: its links lead somewhere, and it loads nothing from elsewhere."""

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from tests.browser import chromium
from tools.setup import ROOT

_SITE = ROOT / "build" / "site"
# A browser reports each foreign resource, and loads it all the same: the reports are what the test looks at.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; report-uri /report"
# Mermaid draws into a shadow root that no script can look into; what it drew has a height.
_LOOK = b"""<script>
setInterval(() => {
  const drawn = document.querySelector("div.mermaid")
  if (drawn && drawn.offsetHeight > 50) fetch("/drawn")
}, 100)
</script></body>"""


@pytest.fixture(scope="module")
def site() -> Path:
    """The site, built now. Zensical fails on links to pages that do not exist."""
    subprocess.run(["make", "docs"], cwd=ROOT, check=True, capture_output=True)  # noqa: S607
    return _SITE


def test_every_page_is_in_the_navigation(site: Path) -> None:
    linked = {target for page in site.rglob("*.html") for tag, target in _links(page) if tag == "a"}
    paths = {unquote(urlsplit(target).path) for target in linked}
    pages = {f"/{page.parent.relative_to(site)}/" for page in site.rglob("index.html") if page.parent != site}
    assert pages <= paths


def test_every_link_leads_to_a_file_and_an_anchor_of_the_site(site: Path) -> None:
    broken = []
    for page in site.rglob("index.html"):
        for _tag, target in _links(page):
            parts = urlsplit(target)
            if not parts.netloc:
                path = site / unquote(parts.path).lstrip("/")
                path = path / "index.html" if path.is_dir() else path
                is_there = path.is_file() and (
                    not parts.fragment or path.suffix != ".html" or parts.fragment in _ids(path)
                )
                broken += [] if is_there else [f"{page.relative_to(site)}: {target}"]
    assert broken == []


def test_no_page_names_a_foreign_resource(site: Path) -> None:
    foreign = [
        f"{page.relative_to(site)}: {target}"
        for page in site.rglob("*.html")
        for tag, target in _links(page)
        if tag != "a" and urlsplit(target).netloc
    ]
    assert foreign == []


def test_a_browser_draws_the_diagrams_and_loads_nothing_from_elsewhere(site: Path) -> None:
    browser = chromium.find()
    if browser is None:
        pytest.skip("no browser is installed")
    with _serving(site) as (url, seen), browser.visiting(f"{url}/"):
        assert seen.drawn.wait(60)
    assert seen.reports == []
    assert "/assets/mermaid.tiny.js" in seen.paths


def test_search_finds_the_pages(site: Path) -> None:
    found = json.loads((site / "search.json").read_text())
    texts = [item["text"] for item in found["items"]]
    assert any("idempotency key" in text for text in texts)
    assert {item["location"].partition("#")[0] for item in found["items"]} >= {"tutorial/", "reference/api/"}


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        of_tag = dict(attributes)
        self.ids.update(value for name in ("id", "name") if (value := of_tag.get(name)))
        self.found += [(tag, value) for name in ("href", "src", "data") if (value := of_tag.get(name))]


def _parsed(page: Path) -> _Links:
    parser = _Links()
    parser.feed(page.read_text())
    return parser


def _links(page: Path) -> list[tuple[str, str]]:
    """The tags and targets of all links of `page`, from the site's root; not those that hold their content."""
    base = f"/{page.relative_to(_SITE)}"
    return [
        (tag, urljoin(base, target))
        for tag, target in _parsed(page).found
        if not target.startswith(("data:", "mailto:", "javascript:"))
    ]


def _ids(page: Path) -> set[str]:
    return _parsed(page).ids


class _Seen:
    def __init__(self) -> None:
        self.drawn = threading.Event()
        self.paths: list[str] = []
        self.reports: list[str] = []


@contextmanager
def _serving(site: Path) -> Iterator[tuple[str, _Seen]]:
    """The site on loopback, and what its reader's browser asks for."""
    seen = _Seen()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(site))  # type: ignore[arg-type]

        def end_headers(self) -> None:
            self.send_header("Content-Security-Policy-Report-Only", _POLICY)
            super().end_headers()

        def do_GET(self) -> None:
            seen.paths.append(self.path)
            if self.path == "/drawn":
                seen.drawn.set()
                self._answer(b"")
            elif self.path == "/":
                self._answer((site / "index.html").read_bytes().replace(b"</body>", _LOOK))
            else:
                super().do_GET()

        def do_POST(self) -> None:
            seen.reports.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self._answer(b"")

        def _answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
