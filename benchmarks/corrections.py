"""Which correction of a model's vectors finds most: dense recall over LoCoMo-shaped conversations, no index, no words.

    python benchmarks/corrections.py DATA.json --encoder MODEL.gguf [--encoder ...] [--threads 1] [--json FILE]

Every turn of all conversations makes one bank, whose vectors the correction is found from; each question then searches
its own conversation. R@5 and R@10 are shares of its evidence, averaged over the questions that have evidence. Prints
beside them how alike vectors are: mean cosine between the turns, and between the gate's sentences, which are about
different things and therefore tell what the model does, not the texts. "as stored" is what `hgns/axes.py` chooses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bankbench import table, write_json

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.cli.bench.locomo import LabelledConversation, read_conversations, shares_found
from membank_llama.core.types import Vector
from membank_llama.hgns.axes import ANISOTROPIC, POWER, REMOVED, anisotropy, calibrate
from membank_llama.hgns.codec import scaled_to_unit
from membank_llama.recall.relevance_gate import COHORT

Correct = Callable[[Vector], Vector]


def removing(sample: Vector, count: int) -> Correct:
    """The mean taken off, and the top `count` axes."""
    mean = sample.mean(axis=0)
    top = np.linalg.svd(sample - mean, full_matrices=False)[2][:count]
    return lambda rows: scaled_to_unit((rows - mean) - ((rows - mean) @ top.T) @ top)


def standardising(sample: Vector) -> Correct:
    """Every dimension to mean 0 and spread 1."""
    mean, spread = sample.mean(axis=0), sample.std(axis=0) + 1e-6
    return lambda rows: scaled_to_unit((rows - mean) / spread)


def whitening(sample: Vector, power: float) -> Correct:
    """Every axis to mean 0, its spread divided by its own `power`."""
    mean = sample.mean(axis=0)
    variance, axes = np.linalg.eigh(np.cov(sample.T, bias=True))
    scale = (np.maximum(variance, 0) + 0.01 * variance.mean()) ** (-power / 2)
    return lambda rows: scaled_to_unit(((rows - mean) @ (axes * scale)).astype(np.float32))


def corrections(sample: Vector, corrects: bool) -> dict[str, Correct]:
    stored = calibrate(sample, correct=corrects)
    always = calibrate(sample, correct=True)
    found: dict[str, Correct] = {
        "none": lambda rows: rows,
        "mean": removing(sample, 0),
        "standardised dimensions": standardising(sample),
    }
    found |= {f"mean, top {count} removed": removing(sample, count) for count in (1, 2, 3)}
    found |= {f"mean, axes standardised to the power {power}": whitening(sample, power) for power in (0.5, 1.0)}
    found[f"mean, top {REMOVED} removed, axes to the power {POWER}"] = always.corrected
    return found | {"as stored": stored.corrected}


def recalled(talks: list[LabelledConversation], vectors: Vector, asked: Vector) -> tuple[float, float]:
    """R@5 and R@10 of a cosine ranking."""
    found: dict[int, list[float]] = {5: [], 10: []}
    turn = question = 0
    for talk in talks:
        rows, queries = vectors[turn : turn + len(talk.turns)], asked[question : question + len(talk.asked)]
        for cut, shares in shares_found(queries, rows, talk.evidence, (5, 10)).items():
            found[cut] += shares
        turn, question = turn + len(talk.turns), question + len(talk.asked)
    return float(np.mean(found[5])), float(np.mean(found[10]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", type=Path, required=True, action="append")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    talks = read_conversations(options.data)
    texts = [text for talk in talks for text in talk.texts]
    questions = [text for talk in talks for text in talk.questions]
    figures: dict[str, Any] = {}
    for encoder in options.encoder:
        with LlamaCppAdapter(encoder, n_threads=options.threads) as adapter:
            vectors, cohort = adapter.encode_batch(texts), adapter.encode_batch(COHORT)
            asked = adapter.encode_batch(questions)
        alike = {"turns": anisotropy(vectors), "sentences": anisotropy(cohort)}
        rows = {}
        for name, correct in corrections(vectors, alike["sentences"] >= ANISOTROPIC).items():
            rows[name] = recalled(talks, correct(vectors), correct(asked))
        figures[encoder.stem] = {"mean cosine": alike, "recall": rows}
        table(
            f"{encoder.stem}: mean cosine {alike['turns']:.2f} between turns, {alike['sentences']:.2f} between the "
            f"gate's sentences; {len(questions):,} questions",
            ("correction", "turn R@5", "turn R@10"),
            [(name, f"{at_5:.3f}", f"{at_10:.3f}") for name, (at_5, at_10) in rows.items()],
        )
    write_json(options.json, {"corrections": figures})


if __name__ == "__main__":
    main()
