"""What the levels of every codec still know of real vectors, against exact cosine.

    python benchmarks/levels.py DATA.json --encoder MODEL.gguf [--encoder MODEL.gguf ...] [--turns N] [--json FILE]
                                [--plot FILE.svg]

Encodes turns of LoCoMo-shaped conversations once for each encoder; then, with 300 of them as questions and the rest as
memories, prints for every codec what level 2 and level 1 find alone (P@5, and the share of the true five within the
first 25), level 1 over the best 32 of level 2, and a real bank's whole drill-down (index, levels 2, 1 and 0) over
memories ingested into it. "Exact" is the cosine in the space that the codec measures in: for `axes` with a model whose
vectors are corrected that is the corrected one. Rows named "tried" are no codecs of the package: energy-ordered axes
cut off, and `digits` of centred vectors. `--plot` draws precision against bytes for all of them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from bankbench import CONSOLE, Precomputed, table, write_json
from levels_plot import draw

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.cli.bench.locomo import read_conversations
from membank_llama.core.types import Vector
from membank_llama.hgns.axes import ANISOTROPIC, Axes, anisotropy, calibrate
from membank_llama.hgns.hierarchy import CODECS, HGNSHierarchy
from membank_llama.memory.bank import MemBank
from membank_llama.recall.relevance_gate import COHORT
from membank_llama.recall.signals import Weights

QUESTIONS = 300
NEAREST = 5
WITHIN = 25
COSINE = Weights.of(dict.fromkeys(vars(Weights()), 0.0) | {"dense": 1.0})
"""All other signals of recall switched off."""
PASSED_ON = 32

Scores = Callable[[Vector], Vector]


@dataclass(frozen=True)
class Split:
    """Vectors of one encoder: those asked with, those held, and whether the encoder's vectors are corrected."""

    asked: Vector
    held: Vector
    texts: Sequence[str]
    corrects: bool
    cohort: Vector


def best(scores: Vector, count: int) -> list[int]:
    return np.argsort(-scores, kind="stable")[:count].tolist()  # type: ignore[no-any-return]


def shares(truth: Sequence[set[int]], found: Sequence[list[int]]) -> tuple[float, float]:
    """P@5 and the share of the true five within the first 25."""
    pairs = list(zip(truth, found, strict=True))
    at_5 = float(np.mean([len(true & set(ids[:NEAREST])) / NEAREST for true, ids in pairs]))
    return at_5, float(np.mean([len(true & set(ids[:WITHIN])) / NEAREST for true, ids in pairs]))


def truth_in(space: Vector, asked: Vector) -> list[set[int]]:
    return [set(best(space @ query, NEAREST)) for query in asked]


def codec_rows(name: str, split: Split) -> list[dict[str, Any]]:
    """What levels 2 and 1 of a codec find alone and together, and the drill-down of a bank."""
    axes = calibrate(split.held, correct=split.corrects) if name == "axes" else None
    hierarchy = HGNSHierarchy(split.held.shape[1], name, axes=axes)
    levels = hierarchy.compress(split.held)
    truth = truth_in(hierarchy.corrected(split.held), hierarchy.corrected(split.asked))
    rows, coarse_first = [], []
    for level in (2, 1):
        found = [best(hierarchy.score(query, levels[level], level), WITHIN) for query in split.asked]
        rows.append(row(name, f"{level} alone", hierarchy.nbytes(level) / hierarchy.nbytes(0), *shares(truth, found)))
    for query in split.asked:
        kept = np.array(best(hierarchy.score(query, levels[2], 2), PASSED_ON))
        coarse_first.append(kept[best(hierarchy.score(query, levels[1][kept], 1), WITHIN)].tolist())
    both = (hierarchy.nbytes(2) + hierarchy.nbytes(1)) / hierarchy.nbytes(0)
    rows.append(row(name, "2 + 1", both, *shares(truth, coarse_first)))
    rows.append(row(name, "bank: 2 + 1 + 0", hierarchy.slot_bytes / hierarchy.nbytes(0), *drilled(name, split)))
    return rows


def drilled(name: str, split: Split) -> tuple[float, float]:
    """The same through a bank's index and its recall: questions without a word, so that only vectors speak."""
    asked = [f"qqq{n}qqq" for n in range(len(split.asked))]
    known = dict(zip(split.texts, split.held, strict=True)) | dict(zip(asked, split.asked, strict=True))
    known |= dict(zip(COHORT, split.cohort, strict=True))
    adapter = Precomputed(known, split.held.shape[1])
    with tempfile.TemporaryDirectory(prefix="membank-bench-") as folder, MemBank(adapter, folder, codec=name) as bank:
        places = {entry.memory_id: place for place, entry in enumerate(bank.ingest_many(split.texts, batch_size=512))}
        bank.flush()
        hierarchy = bank.store.hierarchy
        truth = truth_in(hierarchy.corrected(split.held), hierarchy.corrected(split.asked))
        found = []
        for question in asked:
            results = sorted(bank.recall(question, WITHIN, weights=COSINE), key=lambda result: -result.final_score)
            found.append([places[result.memory_id] for result in results])
    return shares(truth, found)


def tried_rows(split: Split) -> list[dict[str, Any]]:
    """Ways that lost: energy-ordered axes cut off where the budget ends, and digits of centred vectors."""
    rows = []
    dim = split.held.shape[1]
    truth = truth_in(split.held, split.asked)
    turned: Axes = calibrate(split.held, correct=False)
    for level, share in ((2, 0.085), (1, 0.33)):
        kept = max(1, int(share * dim))
        cut = turned.corrected(split.held)
        cut[:, kept:] = turned.centre[kept:]
        cut /= np.linalg.norm(cut, axis=1, keepdims=True)
        found = [best(cut @ query, WITHIN) for query in turned.corrected(split.asked)]
        rows.append(row("tried: leading axes, float32", f"{level} alone", kept / dim, *shares(truth, found)))
    mean = split.held.mean(axis=0)
    digits = HGNSHierarchy(dim, "digits")
    codes = digits.compress(split.held - mean)
    lengths = np.linalg.norm(split.held - mean, axis=1, keepdims=True)
    for level in (2, 1):
        back = digits.decode(codes[level], level) * lengths + mean
        back /= np.linalg.norm(back, axis=1, keepdims=True)
        found = [best(back @ query, WITHIN) for query in split.asked]
        name = "tried: digits of centred vectors"
        rows.append(row(name, f"{level} alone", digits.nbytes(level) / (4 * dim), *shares(truth, found)))
    return rows


def row(codec: str, level: str, share: float, at_5: float, within: float) -> dict[str, Any]:
    return {"codec": codec, "level": level, "share": share, "P@5": at_5, "within 25": within}


def encoded(texts: Sequence[str], encoder: Path, threads: int) -> Split:
    with LlamaCppAdapter(encoder, n_threads=threads) as adapter:
        vectors, cohort = adapter.encode_batch(texts), adapter.encode_batch(COHORT)
    # the same activation twice is one memory to a bank
    distinct = np.sort(np.unique(vectors.round(6), axis=0, return_index=True)[1])
    vectors, kept = vectors[distinct], [texts[place] for place in distinct]
    step = len(vectors) // QUESTIONS
    asked, held = vectors[::step][:QUESTIONS], np.delete(vectors, np.s_[::step], axis=0)
    remaining = np.delete(np.array(kept, object), np.s_[::step]).tolist()
    return Split(asked, held, remaining, anisotropy(cohort) >= ANISOTROPIC, cohort)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", type=Path, required=True, action="append")
    parser.add_argument("--turns", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    talks = read_conversations(options.data)
    turns = islice((turn for talk in talks for turn in talk.turns), options.turns)
    texts = list(dict.fromkeys(item.text for item in turns))
    figures: dict[str, list[dict[str, Any]]] = {}
    for encoder in options.encoder:
        split = encoded(texts, encoder, options.threads)
        rows = [line for name in sorted(CODECS) for line in codec_rows(name, split)] + tried_rows(split)
        figures[encoder.stem] = rows
        table(
            f"{encoder.stem}: {len(split.held):,} turns, {split.held.shape[1]} dimensions"
            + (", corrected by `axes`" if split.corrects else ""),
            ("codec", "level", "of float32", "P@5", "true five within 25"),
            [
                (line["codec"], line["level"], f"{line['share']:.1%}", f"{line['P@5']:.3f}", f"{line['within 25']:.3f}")
                for line in rows
            ],
        )
    write_json(options.json, {"levels": figures})
    if options.plot:
        options.plot.write_text(draw(figures), encoding="utf-8")
        CONSOLE.print(f"drawn: {options.plot}")


if __name__ == "__main__":
    main()
