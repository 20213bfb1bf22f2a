"""axe-core looks at each view, in both themes and on a telephone, and finds nothing serious."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pages import TOLD, ServedPage, chromium, served_page, watched

VIEWS = {
    "memories": "/",
    "found": "/?q=Ana+hazelnuts",
    "why": "/membank/page/why?q=What+is+Ana+allergic+to%3F",
    "map": "/membank/page/map",
    "bank": "/membank/page/bank",
}
SIZES = {"desk": {"width": 1280, "height": 800}, "telephone": {"width": 360, "height": 740}}


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    with served_page(tmp_path_factory.mktemp("axe"), TOLD) as page:
        page.bank.correct(4, "The boiler was serviced in May.")
        yield page


def findings(page: Any, axe: str) -> list[str]:
    # by the debugger, as the page itself would let no script of others in
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical", "moderate")
    ]


@pytest.mark.parametrize(("theme", "size"), [("light", "desk"), ("dark", "desk"), ("dark", "telephone")])
def test_each_view_is_for_everybody(still: ServedPage, browser: Any, axe: str, theme: str, size: str) -> None:
    with watched(browser, still.url, viewport=SIZES[size], color_scheme=theme, reduced_motion="reduce") as found:
        page = found.page
        for view, path in VIEWS.items():
            page.goto(still.url + path)
            page.wait_for_load_state("networkidle")
            assert findings(page, axe) == [], (view, theme, size)
        page.goto(f"{still.url}/")
        page.get_by_text("Add a memory").click()
        page.locator("article.memory").first.hover()
        page.locator(".pick").first.click()
        page.locator("article.memory").first.get_by_role("button", name="More").click()
        page.get_by_text("Where it was used").first.wait_for()
        page.locator("article.memory").nth(1).hover()
        page.locator("article.memory").nth(1).get_by_role("button", name="Edit").click()
        page.locator("form.editing").wait_for()
        assert findings(page, axe) == [], ("changing", theme, size)
        page.locator("#help-open").click()
        assert findings(page, axe) == [], ("help", theme, size)
