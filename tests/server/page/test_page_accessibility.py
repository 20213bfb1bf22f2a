"""axe-core looks at each view, in both themes and on a telephone, and finds nothing serious."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pages import TOLD, ServedPage, served_page, watched

VIEWS = {
    "memories": "/",
    "found": "/?q=Ana+hazelnuts",
    "why": "/membank/page/why?q=What+is+Ana+allergic+to%3F",
    "map": "/membank/page/map",
    "bank": "/membank/page/bank",
}


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    with served_page(tmp_path_factory.mktemp("axe"), TOLD) as page:
        page.bank.correct(4, "The boiler was serviced in May.")
        yield page


def findings(page: Any, axe: str) -> list[str]:
    """In the light theme everything, in the dark one the colours."""
    # by the debugger, as the page itself would let no script of others in
    page.evaluate(axe)
    found = []
    for theme, options in (("light", "{}"), ("dark", "{runOnly: ['color-contrast']}")):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        found += page.evaluate(f"axe.run(document, {options})")["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}"
        for one in found
        if one["impact"] != "minor"
    ]


def test_each_view_is_for_everybody(still: ServedPage, browser: Any, axe: str) -> None:
    with watched(browser, still.url) as found:
        page = found.page
        for view, path in VIEWS.items():
            page.goto(still.url + path)
            page.wait_for_load_state("networkidle")
            assert findings(page, axe) == [], view


def test_what_is_being_changed_is_for_everybody(still: ServedPage, browser: Any, axe: str) -> None:
    with watched(browser, still.url) as found:
        page = found.page
        page.goto(f"{still.url}/")
        page.get_by_text("Add a memory").click()
        page.locator("article.memory").first.hover()
        page.locator(".pick").first.click()
        page.locator("article.memory").first.get_by_role("button", name="More").click()
        page.get_by_text("Where it was used").first.wait_for()
        page.locator("article.memory").nth(1).hover()
        page.locator("article.memory").nth(1).get_by_role("button", name="Edit").click()
        page.locator("form.editing").wait_for()
        page.locator("article.memory").last.hover()
        page.locator("article.memory").last.get_by_role("button", name="Pin").click()
        assert findings(page, axe) == [], "changing"
        page.locator("#help-open").click()
        assert findings(page, axe) == [], "help"


def test_a_telephone_is_for_everybody(still: ServedPage, browser: Any, axe: str) -> None:
    with watched(browser, still.url, viewport={"width": 360, "height": 740}) as found:
        for view in ("memories", "why"):
            found.page.goto(still.url + VIEWS[view])
            assert findings(found.page, axe) == [], view
