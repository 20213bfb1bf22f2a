"""What an open bank takes of the machine's memory, beside the float32 vectors it stands for.

    python benchmarks/memory.py [--n 20000 | --full] [--bank DIR] [--json FILE]

Fills a bank with made-up memories of 384 dimensions (vectors at hand, batches of 4,096; their variance falls from axis
to axis as it does in a sentence encoder), completes its index, then opens it in a fresh process and recalls 200 times.
That process tells its peak resident memory (VmHWM) and what of it is its own and not the system's cache of files
(RssAnon), once after the imports and once at the end. Linux only: both are read from /proc/self/status. `--full`
takes 1,000,000 memories; `--bank` keeps the bank for another run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bankbench import CONSOLE, Precomputed, falling, nearest, parser, percentiles, seconds, sentences, table, write_json

from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank

DIM = 384
BATCH = 4096
QUESTIONS = 200
TOP_K = 5
BAR = 0.25


def filled(path: Path, count: int) -> None:
    """A bank of `count` memories with its index complete."""
    with MemBank(Precomputed({}, DIM), path) as bank:
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            texts = [f"{start + n} {text}" for n, text in enumerate(sentences(size, 12, seed=start))]
            vectors = dict(zip(texts, falling(size, DIM, seed=start + 1), strict=True))
            bank.adapter = Precomputed(vectors, DIM)
            bank.ingest_many([NewMemory(text) for text in texts], batch_size=BATCH)
        bank.flush()


def resident() -> dict[str, int]:
    """Bytes: peak and present, and the part that is the process's own."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = {
        line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmHWM", "RssAnon", "RssFile"))
    }
    return {name: 1024 * int(value) for name, value in kilobytes.items()}


def recalling(path: Path, questions: Path) -> dict[str, Any]:
    """To be run in a process of its own: memory before the bank is opened and after its recalls, and their times."""
    before = resident()
    with np.load(questions) as saved:
        asked, vectors = saved["asked"].tolist(), saved["vectors"]
    adapter = Precomputed(dict(zip(asked, vectors, strict=True)), DIM)
    with MemBank(adapter, path, read_only=True) as bank:
        first = seconds(partial(bank.recall, asked[0], TOP_K))
        times = [seconds(partial(bank.recall, question, TOP_K)) for question in asked]
        index = bank.store.indexes.get("default")
        after = resident()
        snapshot = bank.snapshot()
        found = [bank.store.nearest("default", snapshot, vector, 32).tolist() for vector in vectors]
        stats = bank.stats()
    p50, p95 = percentiles(times)
    return {
        "n": stats["memories"], "imports": before, "open": after, "first_s": first, "p50_ms": p50, "p95_ms": p95,
        "axes_indexed": index.dim, "links": index.links, "bytes": stats["bytes"], "found": found,
    }  # fmt: skip


def true_share(count: int, found: list[list[int]]) -> float:
    """The share of the true nearest five among the candidates that are scored with level 0; ids run from 1."""
    questions = falling(QUESTIONS, DIM, seed=8)
    best: list[list[tuple[float, int]]] = [[] for _ in range(QUESTIONS)]
    for start in range(0, count, BATCH):
        block = falling(min(BATCH, count - start), DIM, seed=start + 1)
        for place, question in enumerate(questions):
            rows = nearest(block, question, min(TOP_K, len(block) - 1))
            best[place] += [(float(block[row] @ question), start + row + 1) for row in rows]
            best[place] = sorted(best[place], reverse=True)[:TOP_K]
    shares = [len({i for _, i in true} & set(ids)) / TOP_K for true, ids in zip(best, found, strict=True)]
    return float(np.mean(shares))


def main() -> int:
    arguments = parser(__doc__, 20_000, 1_000_000)
    arguments.add_argument("--bank", type=Path, help="keep the bank here, and take it where it is there already")
    arguments.add_argument("--recalling", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.recalling:
        print(json.dumps(recalling(options.bank, options.recalling)))
        return 0
    with tempfile.TemporaryDirectory(prefix="membank-bench-") as folder:
        path = options.bank or Path(folder) / "bank"
        spent = 0.0 if path.exists() else seconds(partial(filled, path, options.n))
        questions = Path(folder) / "questions.npz"
        asked = [text + "?" for text in sentences(QUESTIONS, 8, seed=7)]
        np.savez(questions, asked=asked, vectors=falling(QUESTIONS, DIM, seed=8))
        command = [sys.executable, __file__, "--recalling", str(questions), "--bank", str(path)]
        figures: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    figures |= {"fill_s": spent, "float32_bytes": 4 * DIM * figures["n"]}
    figures["true_top5_in_32"] = true_share(figures["n"], figures.pop("found"))
    report(figures)
    write_json(options.json, {"memory": figures})
    return 0


def report(figures: dict[str, Any]) -> None:
    vectors = figures["float32_bytes"]

    def line(name: str, value: int, bar: str = "") -> tuple[str, str, str, str]:
        return name, f"{value / 1e6:,.1f}", f"{value / vectors:.1%}", bar

    table(
        f"memory of an open bank of {figures['n']:,} memories, {DIM} dimensions, after {QUESTIONS} recalls",
        ("", "MB", "of float32", "bar"),
        [
            line("float32 vectors", vectors),
            line("interpreter and imports alone, peak", figures["imports"]["VmHWM"]),
            line("the open bank, peak (VmHWM)", figures["open"]["VmHWM"], f"<= {BAR:.0%}"),
            line("of it its own (RssAnon)", figures["open"]["RssAnon"]),
            line("index on disk", figures["bytes"]["index"]),
        ],
    )
    CONSOLE.print(
        f"{figures['axes_indexed']} axes indexed, {figures['links']} links; first answer "
        f"{figures['first_s']:.2f} s, then p50 {figures['p50_ms']:.2f} ms, p95 {figures['p95_ms']:.2f} ms; "
        f"true top {TOP_K} among the 32 scored in full: {figures['true_top5_in_32']:.1%}; "
        f"filled in {figures['fill_s']:.0f} s\n"
    )


if __name__ == "__main__":
    sys.exit(main())
