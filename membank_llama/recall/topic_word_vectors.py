"""Vectors of memories by their words, for the topics of a bank that no model encodes.

There the stored vector is the sum of all words alike, and topics would be found by "the" and "my". Here a word counts
by its rarity, one that stands in a single memory for nothing. Each stem points in a direction drawn from its own
letters, so that the same memories give the same vectors.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from membank_llama.core.types import Rows, Vector

from .topic_clusters import LeadingAxes, of_unit_length
from .topic_names import stems_of_texts

DIM = 256


class WordVectors:
    """Of texts, one a line; a text that shares no word with another is zero."""

    width = DIM

    def __init__(self, texts: Sequence[str]) -> None:
        stems = stems_of_texts(texts)
        holding = Counter(stem for held in stems for stem in held)
        shared = [stem for stem, count in holding.items() if count > 1]
        place = {stem: n for n, stem in enumerate(shared)}
        self._words: Vector = np.zeros((len(shared), DIM), np.float32)
        for n, stem in enumerate(shared):
            drawn = np.random.default_rng(zlib.crc32(stem.encode("utf-8", "surrogatepass")))
            self._words[n] = math.log((len(texts) + 1) / holding[stem]) * drawn.standard_normal(DIM, np.float32)
        self._held = [np.array([place[stem] for stem in held if stem in place], np.intp) for held in stems]

    def first(self, lines: Rows) -> Vector:
        """The vectors of some lines, of unit length."""
        found = np.zeros((len(lines), DIM), np.float32)
        for at, line in enumerate(lines.tolist()):
            found[at] = self._words[self._held[line]].sum(axis=0)
        return of_unit_length(found)

    def along(self, axes: LeadingAxes, lines: Rows, level: int) -> Vector:
        """Some lines along axes, of unit length; there are no levels."""
        rows = self.first(lines)
        found = of_unit_length(axes.along(rows))
        found[~rows.any(axis=1)] = 0
        return found
