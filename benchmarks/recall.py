"""What a recall costs beyond encoding the question, against exact search in numpy.

    python benchmarks/recall.py [--n 10000 | --full] [--dim 384] [--json FILE]

Memories of 30 tokens and questions of 11, a digit a dimension. One thread throughout; the index is complete. `--full`
measures 10,000 and 100,000 memories.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bankbench import (
    CONSOLE,
    DIM,
    Precomputed,
    clustered,
    nearest,
    parser,
    percentiles,
    seconds,
    sentences,
    table,
    write_json,
)

from membank_llama.memory.bank import MemBank
from membank_llama.recall.candidates import CANDIDATES

QUESTIONS = 300
TOP_K = 5
WORDS = 23
"""Of a memory: 30 tokens, of which some are of a word that is said twice."""
BLOCK = 50
BARS = {10_000: 2.0, 100_000: 5.0}


def measure(count: int, dim: int, directory: Path) -> dict[str, Any]:
    """Times of recall and of exact search over one bank, and how often they agree."""
    texts = list(dict.fromkeys(sentences(count, WORDS, seed=5)))
    vectors = clustered(len(texts), dim, seed=6)
    asked = [text + "?" for text in sentences(QUESTIONS, 8, seed=7)]
    questions = clustered(QUESTIONS, dim, seed=8)
    known = dict(zip(texts, vectors, strict=True)) | dict(zip(asked, questions, strict=True))
    adapter = Precomputed(known, dim, tokens=True)
    recall, exact, shared = [], [], 0
    with MemBank(adapter, directory / str(count)) as bank:
        bank.ingest_many(texts, batch_size=512)
        CONSOLE.print(f"building the index of {len(texts):,} memories …")
        bank.flush()
        bank.recall(asked[-1], TOP_K)
        # in turns, by blocks: each exact search empties the processor's caches
        for start in range(0, QUESTIONS, BLOCK):
            for question in asked[start : start + BLOCK]:
                encoding = seconds(partial(adapter.encode_tokens, [question]))
                recall.append(seconds(partial(bank.recall, question, TOP_K)) - encoding)
            for vector in questions[start : start + BLOCK]:
                exact.append(seconds(partial(nearest, vectors, vector, TOP_K)))
        for vector in questions:
            found = bank.store.nearest("default", bank.snapshot(), vector, CANDIDATES) - 1
            shared += len(set(nearest(vectors, vector, TOP_K)) & set(found.tolist()))
        stats = bank.stats()
        kept = sum(stats["level_bytes"].values()) + stats["bytes"]["tokens"] / len(texts)
    p50, p95 = percentiles(recall)
    e50, e95 = percentiles(exact)
    return {
        "n": len(texts),
        "recall_p50_ms": p50,
        "recall_p95_ms": p95,
        "exact_p50_ms": e50,
        "exact_p95_ms": e95,
        "ratio_to_exact": e50 / p50,
        "bytes_of_float32": kept / (4 * dim),
        "true_top5_among_candidates": shared / (TOP_K * QUESTIONS),
    }


def main() -> int:
    made = parser(__doc__, 10_000, 100_000)
    made.add_argument("--dim", type=int, default=DIM, help=f"dimensions of a vector (default {DIM})")
    options = made.parse_args()
    sizes = sorted({min(options.n, 10_000), options.n})
    with tempfile.TemporaryDirectory(prefix="membank-bench-") as folder:
        figures = [measure(size, options.dim, Path(folder)) for size in sizes]
    table(
        f"recall beyond encoding the question ({options.dim} dimensions, top {TOP_K}, {QUESTIONS} questions)",
        (
            "memories",
            "p50 ms",
            "p95 ms",
            "bar p50",
            "exact numpy p50 ms",
            "times faster",
            f"true top {TOP_K} in {CANDIDATES}",
            "bytes of float32",
        ),
        [
            (
                f"{row['n']:,}",
                f"{row['recall_p50_ms']:.2f}",
                f"{row['recall_p95_ms']:.2f}",
                f"{BARS[size]:.0f}" if size in BARS else "",
                f"{row['exact_p50_ms']:.2f}",
                f"{row['ratio_to_exact']:.1f}",
                f"{row['true_top5_among_candidates']:.1%}",
                f"{row['bytes_of_float32']:.2f}",
            )
            for size, row in zip(sizes, figures, strict=True)
        ],
    )
    write_json(options.json, {"recall": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
