"""What the benchmarks of the bank share: made-up texts and vectors, timing, tables and JSON.

Import it before numpy: it keeps linear algebra to one thread. Vectors are unit vectors around random centres, so
that neighbours exist as they do in real banks; texts are sentences of words whose frequencies fall as Zipf's law says.
"""

# ruff: noqa: E402 (numpy reads these when it is imported)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import platform
import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.token_states import TokenStates
from membank_llama.core.types import Vector
from membank_llama.recall.relevance_gate import COHORT

DIM = 768
VOCABULARY = 20_000
CONSOLE = Console()


def clustered(count: int, dim: int = DIM, *, centres: int = 256, noise: float = 0.8, seed: int = 0) -> Vector:
    """Unit vectors, float32 (count, dim), around `centres` random directions; the same centres for every seed."""
    around = np.random.default_rng(1).standard_normal((centres, dim), np.float32)
    rng = np.random.default_rng(seed)
    rows = np.empty((count, dim), np.float32)
    for start in range(0, count, 10_000):
        size = min(10_000, count - start)
        piece = around[rng.integers(0, centres, size)] + noise * rng.standard_normal((size, dim), np.float32)
        rows[start : start + size] = piece / np.linalg.norm(piece, axis=1, keepdims=True)
    return rows


def falling(count: int, dim: int, *, centres: int = 4096, seed: int = 0) -> Vector:
    """Unit vectors, float32 (count, dim), whose variance falls from axis to axis as a sentence encoder's does.

    Its variance along axis j goes with (j + 14)⁻¹·⁶, which fits that of all-MiniLM-L6-v2 over the LoCoMo turns (shares
    of the leading axes within .012); half of each vector is one of `centres`, half its own. The axes are turned, so
    that no dimension is one.
    """
    spread = ((np.arange(dim) + 14.0) ** -0.8).astype(np.float32)
    fixed = np.random.default_rng(1)
    turn = np.linalg.qr(fixed.standard_normal((dim, dim)))[0].astype(np.float32)
    around = fixed.standard_normal((centres, dim), np.float32)
    rng = np.random.default_rng(seed)
    rows = around[rng.integers(0, centres, count)] + rng.standard_normal((count, dim), np.float32)
    rows = (rows * spread) @ turn
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _vocabulary() -> list[str]:
    rng = np.random.default_rng(2)
    consonants, vowels = list("bcdfghjklmnprstvwz"), list("aeiou")
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        pairs = rng.integers(1, 5)
        words["".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(pairs))] = None
    return list(words)


def sentences(count: int, words: int, seed: int) -> list[str]:
    """Sentences of about `words` words each, Zipf-distributed."""
    vocabulary = np.array(_vocabulary())
    shares = 1 / np.arange(3, VOCABULARY + 3)
    edges = np.cumsum(shares / shares.sum())
    rng = np.random.default_rng(seed)
    lengths = rng.integers(max(1, words // 2), 3 * words // 2 + 1, count)
    drawn = vocabulary[np.minimum(np.searchsorted(edges, rng.random(int(lengths.sum()))), VOCABULARY - 1)]
    ends = np.cumsum(lengths)
    return [" ".join(drawn[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


class Precomputed(ModelAdapter):
    """Hands out vectors made beforehand, so that what is measured is the bank; with `tokens` those of a text's words
    too, one or, of every third word, two."""

    def __init__(self, vectors: dict[str, Vector], dim: int = DIM, *, tokens: bool = False) -> None:
        self._dim = dim
        self._has_tokens = tokens
        self._words: dict[str, Vector] = {}
        self._vectors = dict(zip(COHORT, clustered(len(COHORT), dim, seed=99), strict=True)) | vectors

    @property
    def hidden_dim(self) -> int:
        return self._dim

    def model_id(self) -> str:
        return f"precomputed-{self._dim}"

    def encode(self, text: str) -> Vector:
        return self._vectors[text]

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        return np.stack([self._vectors[text] for text in texts])

    @property
    def token_dim(self) -> int:
        return self._dim if self._has_tokens else 0

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenStates]:
        found = []
        for text in texts:
            words = [word.strip("?.,!") for word in text.split()]
            # a word's tokens differ from text to text as they do in context: its own state, and some of the text's
            parts = [self._states(word) for word in words]
            states = np.concatenate(parts) + 0.4 * self._vectors[text]
            states /= np.linalg.norm(states, axis=1, keepdims=True)
            said = tuple(word for word, part in zip(words, parts, strict=True) for _ in part)
            found.append(TokenStates(self._vectors[text], states, said))
        return found

    def _states(self, word: str) -> Vector:
        if word not in self._words:
            seed = zlib.crc32(word.encode())
            rows = np.random.default_rng(seed).standard_normal((1 + (seed % 3 == 0), self._dim), np.float32)
            self._words[word] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return self._words[word]

    def validate(self) -> None:
        """Nothing to encode before the texts are known."""


def nearest(vectors: Vector, query: Vector, count: int) -> list[int]:
    """Rows of the `count` largest inner products, best first, by exact search."""
    scores = vectors @ query
    best = np.argpartition(-scores, count)[:count]
    return best[np.argsort(-scores[best])].tolist()  # type: ignore[no-any-return]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def percentiles(times: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile, milliseconds."""
    values: npt.NDArray[np.float64] = np.percentile(times, [50, 95]) * 1000
    return float(values[0]), float(values[1])


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print one table; all columns but the first are numbers."""
    made = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        made.add_column(column, justify="right" if place else "left")
    for row in rows:
        made.add_row(*row)
    CONSOLE.print(made)
    CONSOLE.print("one thread\n")


def parser(description: str | None, default: int, full: int) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--n", type=int, default=default, help=f"memories in the bank (default {default:,})")
    made.add_argument("--full", action="store_const", dest="n", const=full, help=f"the same as --n {full}")
    made.add_argument("--json", type=Path, help="write the figures here")
    return made


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    if path is not None:
        about = {"machine": platform.machine(), "python": platform.python_version(), "threads": 1}
        path.write_text(json.dumps(about | figures, indent=2) + "\n", encoding="utf-8")


def holds(text: str, value: str) -> bool:
    """Whether a value stands in a text, as a word or the beginning of one."""
    return re.search(rf"(?<!\w){re.escape(value.casefold())}", text.casefold()) is not None


def reply_of(llm: Any, messages: Sequence[Mapping[str, str]], tokens: int) -> str:
    """What a chat model says at temperature 0, of so many tokens at most."""
    result = llm.create_chat_completion(list(messages), max_tokens=tokens, temperature=0.0)
    return str(result["choices"][0]["message"]["content"])
