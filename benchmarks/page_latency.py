"""How long the page lets a person wait: its first view, and a search as one types, over a large bank.

    python benchmarks/page_latency.py [--memories 10000] [--bank DIR] [--starts 3] [--json FILE]

`membank page` runs as a process over a bank of made-up texts that is told to words alone, or over a copy of DIR. The
first view is asked of a process that has answered nothing yet, `--starts` times; searches are what a person types of
words of the bank, letter by letter. Where there is a chromium, it says when the first view is painted.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from bankbench import percentiles, table, write_json

from membank_llama import MemBank, NewMemory
from membank_llama.adapters.hashing import WordsAdapter

WORDS = [f"w{number:05d}" for number in range(20_000)]
TYPED = 60
HTML, PART = {"accept": "text/html"}, {"accept": "text/html", "hx-request": "true"}


def make_bank(path: Path, count: int) -> None:
    """Texts of fourteen words each, in conversations of forty."""
    chosen = random.Random(1)
    with MemBank(WordsAdapter(), path) as bank:
        told = (
            NewMemory(
                f"{' '.join(chosen.choices(WORDS, k=14))} {number}.",
                created_at=1.6e9 + 900 * number,
                conversation=f"talk-{number // 40}",
            )
            for number in range(count)
        )
        bank.ingest_many(told, batch_size=512)
        bank.flush()


@contextmanager
def served(bank: Path) -> Iterator[str]:
    """`membank page` as a process; its address."""
    command = [sys.executable, "-m", "membank_llama", "page", "--bank", str(bank), "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        found = None
        while found is None and (line := process.stderr.readline()):  # type: ignore[union-attr]
            found = re.search(r"http://[\w.:\[\]]+", line)
        if found is None:
            raise SystemExit("membank page did not start")
        yield found[0]
    finally:
        process.terminate()
        process.wait(60)


def first_views(bank: Path, starts: int) -> list[float]:
    """Seconds of the first view of fresh processes."""
    found = []
    for _ in range(starts):
        with served(bank) as url, httpx.Client(base_url=url, headers=HTML, timeout=60) as client:
            client.get("/membank/page/static/page.css")
            found.append(timed(client, "/"))
    return found


def timed(client: httpx.Client, path: str, **query: Any) -> float:
    """Seconds until an answer is there."""
    start = time.perf_counter()
    client.get(path, params=query or None, headers=PART if query else HTML).raise_for_status()
    return time.perf_counter() - start


def typed(client: httpx.Client, texts: list[str]) -> list[float]:
    """Seconds of each search while words are typed."""
    return [
        timed(client, "/membank/page/memories", q=text[:length])
        for text in texts
        for length in (2, 4, len(text) // 2, len(text))
    ]


def painted(url: str) -> float | None:
    """Milliseconds until chromium paints the first view; None where there is none."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        found = []
        for _ in range(5):
            page = browser.new_context().new_page()
            page.goto(url)
            page.wait_for_timeout(300)
            found.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        browser.close()
    return float(median(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memories", type=int, default=10_000)
    parser.add_argument("--bank", type=Path, help="a bank to copy, in place of one that is made")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bank = Path(folder) / "bank"
        if given.bank is None:
            make_bank(bank, given.memories)
        else:
            shutil.copytree(given.bank, bank)
        first = first_views(bank, given.starts)
        chosen = random.Random(2)
        texts = [" ".join(chosen.choices(WORDS, k=2)) for _ in range(TYPED)]
        with served(bank) as url, httpx.Client(base_url=url, timeout=60) as client:
            again = [timed(client, "/") for _ in range(20)]
            time.sleep(3)
            searches = sorted(typed(client, texts))
            letters = sorted(timed(client, "/membank/page/letters", q=f"{text[:6]}zz") for text in texts[:20])
            weight = len(client.get("/", headers=HTML).content)
            paint = painted(url)
    figures = {
        "first view, process just started": (1000 * median(first), 1000 * max(first)),
        "first view, later": percentiles(again),
        "search as one types": percentiles(searches),
        "letters that nothing holds": percentiles(letters),
    }
    if paint is not None:
        figures["first view painted in chromium"] = (paint, paint)
    rows = [(what, f"{half:,.1f}", f"{most:,.1f}") for what, (half, most) in figures.items()]
    table(f"The page over {given.bank or f'{given.memories:,} memories'}", ("", "p50 ms", "p95 ms"), rows)
    print(f"bytes of the first view: {weight:,}")
    write_json(given.json, {"figures": figures, "bytes": weight})


if __name__ == "__main__":
    main()
