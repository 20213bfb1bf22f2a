"""What it takes to look at a bank over HTTP: pages of the list, search as one types, the page's first view.

    python benchmarks/faces.py [--n 100000] [--bank DIR] [--requests 60] [--json FILE]

`membank page` runs in a process of its own, asked by one client over one kept connection, a request after the other.
Beside it stands the same call in this process, on the same bank opened for reading; the two take turns. The bank is
made here, of `--n` made-up memories of some fourteen words in conversations of forty, encoded by words alone, or is the
one of `--bank`, which is only looked at. Somebody types texts of the bank: a search for every letter.
"""

from __future__ import annotations

import html
import http.client
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from bankbench import CONSOLE, parser, percentiles, sentences, table, write_json

from membank_llama import MemBank, NewMemory
from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.memory.namespace_memories import NamespaceMemories

SHOWN, FOUND = 50, 20
TYPED = 24
"""Letters of a text that are typed."""
HTML = {"Accept": "text/html"}
FRAGMENT = {**HTML, "HX-Request": "true", "Sec-Fetch-Site": "same-origin"}
_ASSETS = re.compile(r'(?:href|src)="(/[^"]*/static/[^"]+)"')
_LATER = re.compile(r'hx-get="([^"]+)" hx-trigger="load"')


def filled(path: Path, count: int) -> None:
    """Make a bank of so many memories."""
    texts = sentences(count, 14, seed=5)
    with MemBank(WordsAdapter(), path) as bank:
        items = [
            NewMemory(f"{text} {n}.", created_at=1.6e9 + 900 * n, conversation=f"talk-{n // 40}")
            for n, text in enumerate(texts)
        ]
        bank.ingest_many(items, batch_size=512)
        bank.flush()


@contextmanager
def served(path: Path) -> Iterator[http.client.HTTPConnection]:
    """A connection to `membank page` on this bank."""
    command = [sys.executable, "-m", "membank_llama", "page", "--bank", str(path), "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", said)):
            line = process.stderr.readline()  # type: ignore[union-attr]
            if not line:
                raise RuntimeError(f"membank page ended: {said}")
            said += line
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=300)
        yield connection
        connection.close()
    finally:
        process.terminate()
        process.wait(60)


def asked(connection: http.client.HTTPConnection, path: str, headers: dict[str, str] | None = None) -> bytes:
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")
    return body


def typed(texts: Sequence[str], requests: int, rng: random.Random) -> list[str]:
    """What stands in the field after each letter, as several texts are typed."""
    steps: list[str] = []
    while len(steps) < requests:
        text = rng.choice(texts)[:TYPED]
        steps += [text[: end + 1] for end in range(len(text)) if text[: end + 1].strip()]
    return steps[:requests]


def alternating(over_http: Sequence[Callable[[], object]], here: Sequence[Callable[[], object]]) -> dict[str, float]:
    """Percentiles of both, milliseconds; the two take turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for pair in zip(over_http, here, strict=True):
        for place, call in enumerate(pair):
            start = time.perf_counter()
            call()
            times[place].append(time.perf_counter() - start)
    http_50, http_95 = percentiles(times[0])
    here_50, here_95 = percentiles(times[1])
    return {"http_p50": http_50, "http_p95": http_95, "here_p50": here_50, "here_p95": here_95}


def rest(connection: http.client.HTTPConnection, mine: NamespaceMemories, requests: int) -> dict[str, dict[str, float]]:
    """What is asked by REST, beside the same in this process."""
    rng = random.Random(7)
    first = mine.page(SHOWN)
    steps = typed([one["text"] for one in mine.page(500)["memories"]], requests, rng)
    cursor = first["cursor"]
    talks = [one["conversation"] for one in mine.conversations(20)]
    asking: list[tuple[str, list[str], list[Callable[[], object]]]] = [
        ("first page of the list", ["/membank/memories?limit=50"] * requests, [lambda: mine.page(SHOWN)] * requests),
        (
            "the next page",
            [f"/membank/memories?limit=50&cursor={cursor}"] * requests,
            [lambda: mine.page(SHOWN, cursor)] * requests,
        ),
        (
            "search as one types",
            [f"/membank/search?limit={FOUND}&q={quote(step)}" for step in steps],
            [lambda step=step: mine.search(step, FOUND) for step in steps],
        ),
        (
            "letters as one types",
            [f"/membank/memories?limit={FOUND}&text={quote(step)}" for step in steps],
            [lambda step=step: mine.page(FOUND, text=step) for step in steps],
        ),
        (
            "one conversation",
            [f"/membank/memories?limit=50&conversation={quote(talk)}" for talk in talks],
            [lambda talk=talk: mine.page(SHOWN, conversation=talk) for talk in talks],
        ),
        ("conversations", ["/membank/conversations"] * 20, [lambda: mine.conversations()] * 20),
    ]
    figures = {}
    for name, paths, calls in asking:
        asked(connection, paths[0])
        calls[0]()
        figures[name] = alternating([lambda path=path: asked(connection, path) for path in paths], calls)
    return figures


def timed(connection: http.client.HTTPConnection, paths: Sequence[str], requests: int) -> list[float]:
    """Seconds until all of these are there, one after the other, so many times."""
    times = []
    for _ in range(requests):
        start = time.perf_counter()
        for path in paths:
            asked(connection, path, FRAGMENT if path.startswith("/membank/") else HTML)
        times.append(time.perf_counter() - start)
    return times


def page(connection: http.client.HTTPConnection, texts: Sequence[str], requests: int) -> dict[str, dict[str, float]]:
    """The page: what a browser asks for until it stands there, what it asks for then, and search as one types."""
    try:
        shown = asked(connection, "/", HTML).decode("utf-8")
    except RuntimeError as exc:
        CONSOLE.print(f"the page is left out: {exc}")
        return {}
    assets = list(dict.fromkeys(_ASSETS.findall(shown)))
    later = [html.unescape(path) for path in _LATER.findall(shown)]
    steps = [f"/membank/page/memories?q={quote(step)}" for step in typed(texts, requests, random.Random(8))]
    asking = [("the page's first view", timed(connection, ["/", *assets], requests))]
    asking += [(f"then {path.partition('?')[0]}", timed(connection, [path], requests)) for path in later]
    asking += [("the page's search as one types", [timed(connection, [step], 1)[0] for step in steps])]
    figures = {}
    for name, times in asking:
        p50, p95 = percentiles(times)
        figures[name] = {"http_p50": p50, "http_p95": p95}
    figures["the page's first view"]["bytes"] = sum(len(asked(connection, path, HTML)) for path in ("/", *assets))
    return figures


def main() -> None:
    made = parser(__doc__, 100_000, 100_000)
    made.add_argument("--bank", type=Path, help="look at this one in place of making one")
    made.add_argument("--requests", type=int, default=60, help="of each kind (default 60)")
    options = made.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.bank or Path(folder) / "bank"
        if options.bank is None:
            filled(path, options.n)
        with served(path) as connection, MemBank(WordsAdapter(), path, read_only=True) as bank:
            start = time.perf_counter()
            asked(connection, "/membank/search?q=good+morning")
            CONSOLE.print(f"first search of all: {1000 * (time.perf_counter() - start):,.0f} ms")
            mine = NamespaceMemories(bank, "default")
            figures = rest(connection, mine, options.requests)
            texts = [one["text"] for one in mine.page(500)["memories"]]
            figures |= page(connection, texts, options.requests)
            count = bank.count()
    shown = [
        (name, *(f"{one[key]:.1f}" if key in one else "" for key in ("http_p50", "http_p95", "here_p50", "here_p95")))
        for name, one in figures.items()
    ]
    columns = (f"{count:,} memories, ms", "HTTP p50", "p95", "in the process p50", "p95")
    table("Looking at a bank", columns, shown)
    for name, one in figures.items():
        if "bytes" in one:
            CONSOLE.print(f"{name}: {one['bytes']:,} bytes")
    write_json(options.json, {"memories": count, "ms": figures})


if __name__ == "__main__":
    main()
