"""What each level of each codec still knows of real vectors, against exact cosine.

    python benchmarks/levels.py DATA.json --encoder MODEL.gguf [--turns 3000] [--threads 1] [--json FILE]

Encodes turns of LoCoMo-shaped conversations once; then, for 300 of them as questions and the rest as memories,
prints P@5 of every level alone and the share of the true nearest five within its first 25.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path

import numpy as np
from locomo import turns_of
from rich.console import Console
from rich.table import Table

from membank_llama.adapters.llama_cpp import LlamaCppAdapter
from membank_llama.hgns.hierarchy import CODECS, HGNSHierarchy
from membank_llama.types import Vector

QUESTIONS = 300
NEAREST = 5
WITHIN = 25


def best(scores: Vector, count: int) -> list[int]:
    return np.argsort(-scores, kind="stable")[:count].tolist()


def measure(vectors: Vector) -> list[dict[str, object]]:
    """One row for each codec and level."""
    step = len(vectors) // QUESTIONS
    asked, held = vectors[::step][:QUESTIONS], np.delete(vectors, np.s_[::step], axis=0)
    truth = [set(best(held @ query, NEAREST)) for query in asked]
    rows: list[dict[str, object]] = []
    for name in sorted(CODECS):
        hierarchy = HGNSHierarchy(vectors.shape[1], name)
        levels = hierarchy.compress(held)
        for level in (1, 2):
            found = [best(hierarchy.score(query, levels[level], level), WITHIN) for query in asked]
            pairs = list(zip(truth, found, strict=True))
            rows.append(
                {
                    "codec": name,
                    "level": level,
                    "share": hierarchy.nbytes(level) / hierarchy.nbytes(0),
                    "P@5": float(np.mean([len(t & set(f[:NEAREST])) / NEAREST for t, f in pairs])),
                    "within 25": float(np.mean([len(t & set(f)) / NEAREST for t, f in pairs])),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    samples = json.loads(options.data.read_text(encoding="utf-8"))
    texts = [item.text for item in islice((item for s in samples for item in turns_of(s)), options.turns)]
    with LlamaCppAdapter(options.encoder, n_threads=options.threads) as adapter:
        vectors = adapter.encode_batch(texts)
    rows = measure(vectors)
    table = Table(title=f"{len(texts):,} turns, {options.encoder.name}, {vectors.shape[1]} dimensions")
    for heading in ("codec", "level", "of float32", "P@5", "true five within 25"):
        table.add_column(heading, justify="left" if heading == "codec" else "right")
    for row in rows:
        cells = (f"{row['share']:.1%}", f"{row['P@5']:.3f}", f"{row['within 25']:.3f}")
        table.add_row(str(row["codec"]), str(row["level"]), *cells)
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
