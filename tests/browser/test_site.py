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
# The browser loads foreign resources, but reports them. The test reads the reports.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; report-uri /report"
# On the first page, wait for the diagram and search for a word. Scripts cannot read Mermaid's shadow root, so check the
# diagram's height. Then open every other page.
_VISIT = """<script>
const found = (check) => new Promise((resolve) => {
  const timer = setInterval(() => { const it = check(); if (it) { clearInterval(timer); resolve(it) } }, 50)
})
const within = (selector) => [...document.querySelectorAll("*")]
  .map((element) => element.shadowRoot && element.shadowRoot.querySelector(selector)).find(Boolean)
addEventListener("load", async () => {
  if (location.pathname === "/") {
    await found(() => { const drawn = document.querySelector("div.mermaid"); return drawn && drawn.offsetHeight > 50 })
    await fetch("/drawn")
    document.querySelector(".md-search__button").click()
    const input = await found(() => within("input[aria-label=Search]"))
    input.value = "idempotency"
    input.dispatchEvent(new Event("input", { bubbles: true }))
    const hit = await found(() => within("a[href]"))
    await fetch("/found?" + new URL(hit.href).pathname)
  }
  await new Promise((resolve) => setTimeout(resolve, 50))
  location.href = NEXT
})
</script></body>"""


@pytest.fixture(scope="module")
def site() -> Path:
    """The site, built now. Zensical fails on links to pages that do not exist."""
    subprocess.run(["make", "docs"], cwd=ROOT, check=True, capture_output=True)  # noqa: S607
    return _SITE


def test_every_page_is_in_the_navigation(site: Path) -> None:
    navigation = {urljoin("/", target).partition("#")[0] for target in _parsed(site / "index.html").navigation}
    assert {f"/{path}" for path in _paths(site)} == navigation


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


@pytest.mark.timeout(300)
def test_a_browser_draws_diagrams_and_searches_and_loads_nothing_from_other_hosts(site: Path) -> None:
    browser = chromium.find()
    if browser is None:
        pytest.skip("no browser is installed")
    with _serving(site) as (url, seen), browser.visiting(f"{url}/"):
        assert seen.done.wait(200), seen.paths[-3:]
    assert seen.reports == []
    assert {"/drawn", "/assets/mermaid.tiny.js", "/search.json"} <= {*seen.paths}
    assert any(path.startswith("/found?/") for path in seen.paths)
    assert {f"/{path}" for path in _paths(site)} <= {*seen.paths}


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.ids: set[str] = set()
        self.navigation: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        of_tag = dict(attributes)
        self.ids.update(value for name in ("id", "name") if (value := of_tag.get(name)))
        if "md-nav__link" in (of_tag.get("class") or "").split() and (target := of_tag.get("href", "")):
            self.navigation.add(target)
        self.found += [(tag, value) for name in ("href", "src", "data") if (value := of_tag.get(name))]


def _paths(site: Path) -> list[str]:
    """The pages of the site, the first one first: `""`, `tutorial/`, …"""
    folders = sorted(page.parent.relative_to(site).as_posix() for page in site.rglob("index.html"))
    return ["" if folder == "." else f"{folder}/" for folder in folders]


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
        self.done = threading.Event()
        self.paths: list[str] = []
        self.reports: list[str] = []


@contextmanager
def _serving(site: Path) -> Iterator[tuple[str, _Seen]]:
    """Serve the site on loopback, and record the browser's requests. Each page leads to the next one."""
    seen = _Seen()
    pages = _paths(site)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(site))  # type: ignore[arg-type]

        def end_headers(self) -> None:
            self.send_header("Content-Security-Policy-Report-Only", _POLICY)
            super().end_headers()

        def do_GET(self) -> None:
            seen.paths.append(self.path)
            if self.path.startswith(("/drawn", "/found")):
                self._answer(b"")
            elif self.path == "/done":
                seen.done.set()
                self._answer(b"")
            elif self.path.endswith("/"):
                after = dict(zip(pages, [*pages[1:], "done"], strict=True))[self.path.lstrip("/")]
                visit = _VISIT.replace("NEXT", json.dumps(f"/{after}"))
                page = (site / self.path.lstrip("/") / "index.html").read_text()
                self._answer(page.replace("</body>", visit).encode())
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
