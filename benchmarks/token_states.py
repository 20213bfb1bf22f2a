"""What the states of single tokens find, alone, by what is kept of them and by layer.

    python benchmarks/token_states.py DATA.json --encoder MODEL.gguf [--encoder ...] [--conversations 2] [--layers 2 4]
                                      [--plot FILE.svg] [--json FILE] [--threads 1]

Every question of LoCoMo-shaped conversations searches its own conversation by one signal alone: the cosine of pooled
vectors, or late interaction (each of the question's tokens takes the memory's nearest, weighed by its word's rarity,
and all are added up) over the tokens' standardised states. Those are compared as they are, with two and one digit base
2 a dimension, by bit counts as a bank compares them, along 128 principal axes, and without stop words. With `--layers`
a decoder is read after several layers, each by late interaction and by its content-pooled vector.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bankbench import table, write_json
from tokens_plot import draw

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.adapters.token_states import TokenStates
from membank_llama.cli.bench.locomo import LabelledConversation, read_conversations
from membank_llama.core.stop_words import STOP_WORDS
from membank_llama.core.types import Vector
from membank_llama.hgns.token_codes import AskedTokens, best_matches, token_bytes, token_codes
from membank_llama.recall.query_terms import rarities
from membank_llama.recall.question_tokens import POWER, STOP_WORTH, TOKEN_UNIT

CUTS = (5, 10)
LEAD, TWO_DIGITS = 128, (0.4528, 1.5104)
"""Principal axes kept, and where two digits of a normal source of unit variance stand (Max 1960)."""

Kept = Callable[[TokenStates], TokenStates]


def whole(one: TokenStates) -> TokenStates:
    return one


def without_stop_words(one: TokenStates) -> TokenStates:
    kept = [place for place, word in enumerate(one.words) if word and word not in STOP_WORDS]
    return TokenStates(one.vector, one.states[kept], tuple(one.words[place] for place in kept)) if kept else one


class Talk:
    """One conversation, encoded, with what each of a question's tokens weighs in it."""

    def __init__(self, talk: LabelledConversation, model: LlamaCppAdapter) -> None:
        self.evidence = talk.evidence
        self.turns = [one for text in _batches(talk.texts) for one in model.encode_tokens(text)]
        self.questions = [one for text in _batches(talk.questions) for one in model.encode_tokens(text)]
        held: dict[str, int] = {}
        for turn in self.turns:
            for word in set(turn.words):
                held[word] = held.get(word, 0) + 1
        self._held = held

    def weights(self, question: TokenStates) -> Vector:
        rare = rarities(np.array([self._held.get(word, 0) for word in question.words]), len(self.turns))
        plain = np.array([word in STOP_WORDS for word in question.words])
        worth: Vector = np.where(plain, np.float32(STOP_WORTH), rare**POWER / TOKEN_UNIT)
        worth[[not word for word in question.words]] = 0
        return worth


def _batches(texts: Sequence[str], size: int = 64) -> list[list[str]]:
    return [list(texts[start : start + size]) for start in range(0, len(texts), size)]


def found(talks: Sequence[Talk], scores: Callable[[Talk], Callable[[TokenStates], Vector]]) -> dict[str, float]:
    """The share of each question's evidence among the first turns, averaged."""
    shares: dict[int, list[float]] = {cut: [] for cut in CUTS}
    for talk in talks:
        score = scores(talk)
        for question, wanted in zip(talk.questions, talk.evidence, strict=True):
            order = np.argsort(-score(question), kind="stable")
            for cut in CUTS:
                shares[cut].append(len(wanted & set(order[:cut].tolist())) / len(wanted))
    return {f"R@{cut}": float(np.mean(values)) for cut, values in shares.items()}


def pooled(talk: Talk) -> Callable[[TokenStates], Vector]:
    vectors = np.stack([turn.vector for turn in talk.turns])
    return lambda question: vectors @ question.vector


def by_digits(kept: Kept) -> Callable[[Talk], Callable[[TokenStates], Vector]]:
    """As a bank compares them."""

    def of(talk: Talk) -> Callable[[TokenStates], Vector]:
        codes = [token_codes(kept(turn).states) for turn in talk.turns]
        counts, every = np.array([len(one) for one in codes]), np.concatenate(codes)
        return lambda question: talk.weights(question) @ best_matches(AskedTokens.of(question.states), every, counts)

    return of


def by_states(change: Callable[[Vector], Vector], kept: Kept) -> Callable[[Talk], Callable[[TokenStates], Vector]]:
    """By the cosines of states, changed in some way."""

    def of(talk: Talk) -> Callable[[TokenStates], Vector]:
        parts = [change(kept(turn).states) for turn in talk.turns]
        starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
        every = np.concatenate(parts)
        return lambda question: talk.weights(question) @ np.maximum.reduceat(question.states @ every.T, starts, axis=1)

    return of


def two_digits(states: Vector) -> Vector:
    """Each coordinate as one of four values."""
    wide = states * np.float32(np.sqrt(states.shape[1]))
    low, high = TWO_DIGITS
    stands = np.sign(wide) * np.where(np.abs(wide) < 0.9816, np.float32(low), np.float32(high))
    return (stands / np.linalg.norm(stands, axis=1, keepdims=True)).astype(np.float32)


def along_axes(axes: npt.NDArray[np.float32]) -> Callable[[Vector], Vector]:
    """The leading axes, two digits each, back in the space of the states."""
    return lambda states: two_digits(states @ axes) @ axes.T


def measured(talks: Sequence[Talk]) -> list[dict[str, Any]]:
    """Every kind of one encoder."""
    dim = talks[0].turns[0].states.shape[1]
    sample = np.concatenate([turn.states for talk in talks for turn in talk.turns])
    axes = np.linalg.eigh(np.cov(sample[:: max(1, len(sample) // 20_000)].T))[1][:, : -LEAD - 1 : -1].astype(np.float32)
    turns = [turn for talk in talks for turn in talk.turns]

    def row(kind: str, each: float, kept: Kept, scores: Any) -> dict[str, Any]:
        tokens = float(np.mean([len(kept(turn).words) for turn in turns])) if each else 0.0
        return {"kind": kind, "bytes a token": each, "tokens a turn": tokens} | found(talks, scores)

    digits = float(token_bytes(dim))
    return [
        row("pooled vector, cosine", 0, whole, pooled),
        row("tokens, float32", 4.0 * dim, whole, by_states(np.asarray, whole)),
        row("tokens, 2 digits", dim / 4, whole, by_states(two_digits, whole)),
        row("tokens, 1 digit", digits, whole, by_digits(whole)),
        row(f"tokens, {LEAD} axes, 2 digits", LEAD / 4, whole, by_states(along_axes(axes), whole)),
        row(
            "1 digit, no marks, no repetition: a bank's",
            digits,
            TokenStates.worth_keeping,
            by_digits(TokenStates.worth_keeping),
        ),
        row("1 digit, no stop words either", digits, without_stop_words, by_digits(without_stop_words)),
    ]


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("data", type=Path)
    made.add_argument("--encoder", type=Path, action="append", required=True, help="a GGUF; may be given again")
    made.add_argument("--conversations", type=int, default=2)
    made.add_argument("--layers", type=int, nargs="*", default=[], help="0-based, of decoders")
    made.add_argument("--threads", type=int, default=1, help="of llama.cpp")
    made.add_argument("--plot", type=Path)
    made.add_argument("--json", type=Path)
    options = made.parse_args()
    talks = read_conversations(options.data, options.conversations)
    figures: dict[str, Any] = {}
    for encoder in options.encoder:
        with LlamaCppAdapter(encoder, n_threads=options.threads) as model:
            encoded = [Talk(talk, model) for talk in talks]
            name = encoder.stem if model.pooled else f"{encoder.stem}, layer {model.layer}"
            figures[name] = rows = measured(encoded)
            decoder = not model.pooled
        table(
            f"{name}: {sum(len(talk.questions) for talk in talks)} questions, one signal alone",
            ["", "bytes a token", "tokens a turn", *(f"turn R@{cut}" for cut in CUTS)],
            [
                [row["kind"], *(f"{row[key]:,.0f}" if row[key] else "–" for key in ("bytes a token", "tokens a turn")),
                 *(f"{row[f'R@{cut}']:.3f}" for cut in CUTS)]
                for row in rows
            ],
        )  # fmt: skip
        if decoder and options.layers:
            figures[f"{name}, by layer"] = layers = _by_layer(encoder, options.layers, talks, options.threads)
            table(
                f"{encoder.stem}: by layer",
                ["layer", "tokens R@5", "R@10", "content-pooled R@5", "R@10"],
                [[str(layer), *(f"{value:.3f}" for value in values)] for layer, *values in layers],
            )
    write_json(options.json, figures)
    if options.plot is not None:
        plain = {name: rows for name, rows in figures.items() if "by layer" not in name}
        options.plot.write_text(draw(plain), encoding="utf-8")


def _by_layer(
    encoder: Path, layers: Sequence[int], talks: Sequence[LabelledConversation], threads: int
) -> list[tuple[float, ...]]:
    rows = []
    for layer in layers:
        with LlamaCppAdapter(encoder, n_threads=threads, layer=layer, pooling="content") as model:
            encoded = [Talk(talk, model) for talk in talks]
        both = [found(encoded, by_digits(TokenStates.worth_keeping)), found(encoded, pooled)]
        rows.append((layer, *(one[f"R@{cut}"] for one in both for cut in CUTS)))
    return rows


if __name__ == "__main__":
    main()
