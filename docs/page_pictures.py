"""Makes docs/page/*.png: each view of the page in both themes, and one on a telephone, from a real bank and browser.

    python docs/page_pictures.py ENCODER.gguf

Needs chromium, playwright and Pillow. The bank is told a made-up life (made_up_life.py) and thrown away again.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from io import BytesIO
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from made_up_life import life
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from membank_llama import LlamaCppAdapter, MemBank
from membank_llama.memory.prompt_injection import MemoryOptions, PromptInjector
from membank_llama.server.bank_app import BankApp
from membank_llama.server.face_context import FaceContext
from membank_llama.server.proxy.recall_fields import recall_fields
from membank_llama.server.proxy.tokenizers import EstimatedTokenizer

OUT = Path(__file__).parent / "page"
QUESTION = "What can't Ana eat?"
ASKED = ("Which cake shall I bake for Ana?", "Where do I leave the piano?")
SIZE, TELEPHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}
COLOURS = 256


def told(bank: MemBank) -> None:
    """Tell the bank a life, and change some of it."""
    results = bank.ingest_many(life(time.time()))
    bank.flush()
    texts = {memory.text: memory.id for memory in bank.memories()}
    bank.correct(
        next(number for text, number in texts.items() if text.startswith("The boiler was serviced")),
        "The boiler was serviced on Tuesday; the man said the pump will not last another winter.",
    )
    bank.pin(next(number for text, number in texts.items() if "Biscuit" in text))
    bank.pin(results[0].memory_id)


def recalled(bank: MemBank) -> list[dict[str, Any]]:
    """What the proxy would tell of some questions."""
    injector, found = PromptInjector(bank), []
    for place, question in enumerate(ASKED):
        asked = [{"role": "user", "content": question}]
        _, last = injector.messages(asked, EstimatedTokenizer(4096), MemoryOptions(), f"talk {place}")
        if last is not None:
            when = time.time() - 40 * (1 + place)
            found.append(recall_fields(last, "this week", when, {one.memory_id for one in last.results}))
    return found


def memories(page: Page) -> None:
    """With one of them pointed at."""
    page.wait_for_timeout(300)
    page.locator("article.memory").nth(2).hover()


def why(page: Page) -> None:
    """A question of one's own."""
    page.locator("#question").fill(QUESTION)
    page.keyboard.press("Enter")
    page.get_by_text("In the prompt").first.wait_for()
    page.mouse.move(0, 0)


def topics(page: Page) -> None:
    """With one memory read."""
    page.locator("#points circle").nth(20).hover(force=True)
    page.locator("#card .about").wait_for()


def bank_view(page: Page) -> None:
    """After it was verified."""
    page.get_by_role("button", name="Verify").click()
    page.get_by_text("All is as it was written").wait_for()


VIEWS = {
    "memories": ("/", memories),
    "why": ("/membank/page/why", why),
    "map": ("/membank/page/map", topics),
    "bank": ("/membank/page/bank", bank_view),
}


def shoot(page: Page, name: str) -> None:
    """A picture with few colours: it is drawn, not photographed."""
    page.evaluate("document.activeElement?.blur(); scrollTo(0, 0)")
    shot = Image.open(BytesIO(page.screenshot())).convert("RGB")
    shot.quantize(COLOURS, Image.Quantize.MEDIANCUT, kmeans=4, dither=Image.Dither.NONE).save(
        OUT / f"{name}.png", optimize=True
    )
    print(f"{name}.png: {(OUT / f'{name}.png').stat().st_size:,} bytes")


def pictures(browser: Browser, url: str) -> None:
    """All of them."""
    for theme in ("light", "dark"):
        context = browser.new_context(viewport=SIZE, color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        page = context.new_page()
        for name, (path, prepare) in VIEWS.items():
            page.goto(url + path)
            prepare(page)
            page.wait_for_timeout(300)
            shoot(page, f"{name}-{theme}")
        context.close()
    context = browser.new_context(viewport=TELEPHONE, is_mobile=True, has_touch=True, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{url}/")
    page.wait_for_timeout(300)
    shoot(page, "telephone")
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", type=Path, help="a GGUF that encodes, such as all-MiniLM-L6-v2")
    given = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    with (
        TemporaryDirectory() as folder,
        LlamaCppAdapter(given.encoder, n_threads=1) as adapter,
        MemBank(adapter, Path(folder) / "life") as bank,
        socket.socket() as listener,
    ):
        told(bank)
        recalls = recalled(bank)
        listener.bind(("127.0.0.1", 0))
        app = BankApp(FaceContext(bank, recalls=lambda namespace: recalls))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
                pictures(browser, f"http://127.0.0.1:{listener.getsockname()[1]}")
                browser.close()
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()
