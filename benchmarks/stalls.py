"""What one operation makes others wait for: growth, a namespace's first recall, expiry, forgetting.

    python benchmarks/stalls.py [--n 4000 | --full] [--json FILE]

Made-up memories of 384 dimensions with vectors at hand, so encoding costs nothing. A bank grows one `ingest` at a time
and the longest call is told; it is then opened anew without its saved graph, and while its namespace is asked for the
first time and its graph is built, a neighbour of 1,000 memories is asked over and over. A third of a bank expires and
nobody collects it. At last single memories are forgotten in a bank of five times the size, and all its files searched
for what they held. `--full` takes 20,000 memories (forgetting: 100,000).
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bankbench import Precomputed, falling, parser, seconds, sentences, table, write_json

from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank

DIM = 384
BATCH = 512
NEIGHBOURS = 1000
QUESTIONS = 200


class Corpus:
    """Texts, each with a word of its own, and their vectors."""

    def __init__(self, count: int, seed: int) -> None:
        self.texts = [f"key{seed}x{n} {text}" for n, text in enumerate(sentences(count, 12, seed=seed))]
        self.vectors = dict(zip(self.texts, falling(count, DIM, seed=seed + 1), strict=True))


def opened(path: Path, *corpora: Corpus) -> MemBank:
    vectors: dict[str, Any] = {}
    for corpus in corpora:
        vectors |= corpus.vectors
    # as the server opens it: something is told about long work
    return MemBank(Precomputed(vectors, DIM), path, progress=lambda *_: None)


def growth(path: Path, corpus: Corpus) -> dict[str, float]:
    """Milliseconds of single ingests while the bank grows."""
    with opened(path, corpus) as bank:
        times = [seconds(partial(bank.ingest, text, namespace="large")) for text in corpus.texts]
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return {"p50_ms": float(p50), "p99_ms": float(p99), "longest_ms": 1000 * max(times)}


def opening(path: Path, large: Corpus, small: Corpus, *, saved: bool) -> dict[str, float]:
    """Milliseconds of a namespace's first recall, and of a neighbour's recalls while it is made and its graph built."""
    figures = {}
    for name in ("first_alone_ms", "first_beside_ms"):
        if not saved:
            shutil.rmtree(path / "index", ignore_errors=True)
        with opened(path, large, small) as bank:
            for text in small.texts[:5]:
                bank.recall(text, namespace="small")
            times: list[float] = []
            stop = threading.Event()

            def neighbour(bank: MemBank = bank, times: list[float] = times, stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    times.extend(seconds(partial(bank.recall, text, namespace="small")) for text in small.texts[:20])

            thread = threading.Thread(target=neighbour)
            if name == "first_beside_ms":
                thread.start()
                time.sleep(0.2)
            figures[name] = 1000 * seconds(partial(bank.recall, large.texts[7], namespace="large"))
            if name == "first_beside_ms":
                time.sleep(5)
                stop.set()
                thread.join()
                p50, p99 = np.percentile(times, [50, 99]) * 1000
                figures |= {"neighbour_p50_ms": float(p50), "neighbour_p99_ms": float(p99)}
                figures["neighbour_longest_ms"] = 1000 * max(times)
    return figures


def expiry(path: Path, corpus: Corpus) -> dict[str, float]:
    """Milliseconds of a recall where a third has expired, and where the same memories never do, asked in turns."""
    past = time.time() - 3600
    with opened(path / "none", corpus) as none, opened(path / "third", corpus) as third:
        for bank, share in ((none, 0), (third, 3)):
            for start in range(0, len(corpus.texts), BATCH):
                piece = corpus.texts[start : start + BATCH]
                bank.ingest_many(
                    [NewMemory(t, expires_at=past if share and n % share == 0 else None) for n, t in enumerate(piece)],
                    batch_size=BATCH,
                )
            bank.flush()
            for text in corpus.texts[:10]:
                bank.recall(text)
        pairs = [[seconds(partial(bank.recall, text)) for bank in (none, third)] for text in corpus.texts[-QUESTIONS:]]
    plain, expired = np.median(pairs, axis=0).tolist()
    return {"none_ms": 1000 * plain, "third_ms": 1000 * expired, "ratio": expired / plain}


def forgetting(path: Path, corpus: Corpus) -> dict[str, float]:
    """Milliseconds of forgetting one memory, and how many traces of it the files hold afterwards."""
    with opened(path, corpus) as bank:
        for start in range(0, len(corpus.texts), BATCH):
            bank.ingest_many(corpus.texts[start : start + BATCH], batch_size=BATCH)
        bank.flush()
        bank.recall(corpus.texts[3])
        gone = [memory for n, memory in enumerate(bank.memories()) if n % (len(corpus.texts) // 12) == 5]
        words = [memory.text.split()[0].encode() + b" " for memory in gone]
        codes = [bytes(bank.store.codes([memory.slot], 0)[0, 8:40]) for memory in gone]
        rows = [bank.store.hierarchy.index_rows(bank.store.codes([memory.slot], 2), 32)[0].tobytes() for memory in gone]
        times = [seconds(partial(bank.forget, memory.id)) for memory in gone]
        found = 0
        for file in path.rglob("*"):
            if file.is_file():
                data = file.read_bytes()
                found += sum(data.count(needle) for needle in [*words, *codes, *rows])
    return {"median_ms": 1000 * float(np.median(times)), "longest_ms": 1000 * max(times), "traces": found}


def main() -> None:
    options = parser(__doc__, 4000, 20_000).parse_args()
    count = options.n
    figures: dict[str, Any] = {"n": count}
    with tempfile.TemporaryDirectory(prefix="membank-stalls-") as directory:
        path = Path(directory)
        large, small = Corpus(count, 10), Corpus(NEIGHBOURS, 40)
        figures["growth"] = growth(path / "grown", large)
        with opened(path / "grown", small) as bank:
            bank.ingest_many([NewMemory(text, namespace="small") for text in small.texts])
            bank.flush()
        figures["saved"] = opening(path / "grown", large, small, saved=True)
        figures["unsaved"] = opening(path / "grown", large, small, saved=False)
        expiring = Corpus(9 * count // 4, 70)
        figures["expiry"] = expiry(path / "expiry", expiring)
        figures["forgetting"] = forgetting(path / "forgetting", Corpus(5 * count, 90))
    rows = [
        [f"{name}: {key.removesuffix('_ms').replace('_', ' ')}", f"{value:,.2f}{' ms' if key.endswith('_ms') else ''}"]
        for name, values in figures.items()
        if isinstance(values, dict)
        for key, value in values.items()
    ]
    table(f"What waits for what, {count:,} memories", ["operation", "figure"], rows)
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
