"""The page of a bank behind a real socket, and a real browser that looks at it, for tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.server.bank_app import BankApp
from membank_llama.server.face_context import FaceContext
from membank_llama.server.proxy.namespace_auth import BearerTokens
from support.asgi_server import serve

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_CHROMIUM = "skipped the page in a browser: there is no chromium here"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
DAY = 86_400.0
START = 1_790_000_000.0

TOLD = [
    NewMemory("My sister Ana lives in Porto.", conversation="family", created_at=START),
    NewMemory("Ana is allergic to hazelnuts.", conversation="family", created_at=START + 60),
    NewMemory("A lemon cake has no nuts.", role="assistant", conversation="family", created_at=START + 120),
    NewMemory("The boiler was serviced in March.", conversation="house", created_at=START + DAY),
    NewMemory("The wifi password is under the router.", {"part": 1}, source="notes.md", created_at=START + 2 * DAY),
    NewMemory("I tune pianos for a living.", conversation="work", created_at=START + 3 * DAY, pinned=True),
]


@dataclass
class ServedPage:
    """What a test works with."""

    url: str
    bank: MemBank
    client: httpx.Client

    def get(self, path: str, *, script: bool = False, **query: Any) -> httpx.Response:
        return self.client.get(path, params=query or None, headers={"hx-request": "true"} if script else {})

    def send(self, method: str, path: str, form: Any = None, **headers: str) -> httpx.Response:
        """A change, as the page's own script asks for it."""
        own = {"origin": self.url, "sec-fetch-site": "same-origin", "hx-request": "true", **headers}
        return self.client.request(method, path, data=form, headers=own)

    def texts(self, namespace: str = "default") -> list[str]:
        return [memory.text for memory in self.bank.memories(namespace)]


@contextmanager
def served_page(
    folder: Path, told: list[NewMemory], tokens: dict[str, str] | None = None, admins: Any = (), **context: Any
) -> Iterator[ServedPage]:
    """A bank that was told something, and its page."""
    with ExitStack() as stack:
        bank = stack.enter_context(MemBank(WordsAdapter(), folder / "bank"))
        bank.ingest_many(told)
        app = BankApp(FaceContext(bank, **context), BearerTokens(tokens or {}, frozenset(admins)))
        url = stack.enter_context(serve(app))
        client = stack.enter_context(httpx.Client(base_url=url, headers={"accept": "text/html"}, timeout=30))
        yield ServedPage(url, bank, client)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser with a profile of its own; a test is skipped by name where there is none.

    Playwright's loop runs in this thread while it is open: hold it no longer than one file of tests.
    """
    api = pytest.importorskip("playwright.sync_api", reason=NO_CHROMIUM)
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page in the browser, with all that it asked for and complained of."""

    page: Any
    troubles: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextmanager
def watched(browser: Any, url: str, **options: Any) -> Iterator[Watched]:
    """A page whose every complaint, and every request that leaves the server, fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    found = Watched(context.new_page())
    page = found.page
    page.set_default_timeout(10_000)
    page.on("console", lambda told: found.troubles.append(told.text) if told.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.troubles.append(str(error)))
    page.on("request", lambda request: found.asked.append(request.url))
    try:
        yield found
        assert found.troubles == []
        assert [one for one in found.asked if not one.startswith(f"{url}/")] == []
    finally:
        context.close()


class Elements(HTMLParser):
    """The elements and the text of a page, as a browser would find them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]
