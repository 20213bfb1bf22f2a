"""Which layer of a model finds best, judged without labels: by whether a text is found from its paraphrases.

Of every triple in `paraphrases.py` the told text is searched with the other two, by cosine after the mean over its own
kind is taken off each: questions have in common what statements have not. A search counts by how far the right text is
out: its cosine less the mean of the others, in their standard deviations. All layers come out of one pass. Half depth
is kept unless a layer is clearly better, so that a choice is never made by chance; nothing in it is random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from membank_llama.core.types import Progress, Vector

from ..pooling import Reader, groups, pool, resolve_layer, unit_length
from ..prompt_templates import Pooling
from .capture import CaptureContext, CapturePlan
from .loaded_model import LoadedModel, quiet
from .paraphrases import PARAPHRASES

MOST_LAYERS = 12
CLEARLY = 2.0
"""Standard errors of the paired difference that make a layer clearly better."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SearchQuality:
    """How well one kind of state finds texts from their paraphrases.

    `margins`: for each search, how far the right text stands out of the others, in their standard deviations.
    `reciprocal_ranks`: for each search, 1 / its rank.
    """

    margins: _Floats
    reciprocal_ranks: _Floats

    @property
    def score(self) -> float:
        """The mean margin."""
        return float(self.margins.mean())

    @property
    def mrr(self) -> float:
        """The mean reciprocal rank."""
        return float(self.reciprocal_ranks.mean())

    def leads(self, other: SearchQuality) -> float:
        """The mean lead over `other` in standard errors of the paired difference."""
        lead = self.margins - other.margins
        error = float(lead.std(ddof=1) / np.sqrt(len(lead)))
        return float(lead.mean()) / error if error > 0 else 0.0


@dataclass(frozen=True)
class LayerChoice:
    """A layer, 0-based, and why: what each layer that was tried gives."""

    layer: int
    half: int
    depth: int
    tried: dict[int, SearchQuality]

    def __str__(self) -> str:
        how = f"chosen on {len(PARAPHRASES)} sentences, each said in three ways"
        kept = "no other is clearly better" if self.layer == self.half else f"half depth is {self.half}"
        return f"layer {self.layer} of 0 to {self.depth - 1}, {how}; {kept}"


def paraphrase_texts() -> list[str]:
    """All texts of `PARAPHRASES`: first those told, then those told again, then those asked."""
    return [text for column in zip(*PARAPHRASES, strict=True) for text in column]


def centred(vectors: Vector, mean: Vector) -> Vector:
    """Rows of unit length after `mean` is taken off; a row that was the mean itself stays zero."""
    rows = vectors - mean
    unit: Vector = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


def search_quality(vectors: Vector) -> SearchQuality:
    """What states of `paraphrase_texts()` give; shape ``(3 n, dim)``."""
    told, again, asked = (centred(part, part.mean(axis=0)) for part in np.split(vectors, 3))
    parts = [_searched(queries.astype(np.float64) @ told.T) for queries in (again, asked)]
    return SearchQuality(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def _searched(cosines: _Floats) -> tuple[_Floats, _Floats]:
    """Margins and reciprocal ranks of ``(n, n)`` cosines whose diagonal is right."""
    n = len(cosines)
    right = np.diag(cosines)
    others = cosines[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    margins = (right - others.mean(axis=1)) / np.maximum(others.std(axis=1), 1e-12)
    return margins, 1.0 / (1.0 + (others >= right[:, np.newaxis]).sum(axis=1))


def spread_layers(depth: int, most: int = MOST_LAYERS) -> list[int]:
    """At most so many layers, evenly over the depth, with the last and half depth among them."""
    if depth <= most:
        return list(range(depth))
    some = {round((n + 1) * depth / (most - 1)) - 1 for n in range(most - 1)}
    return sorted(some | {resolve_layer("auto", depth)})


def watching(plan: CapturePlan, layers: Sequence[int]) -> CapturePlan:
    """The same plan for the states after several layers in one pass."""
    *below, deepest = sorted(layers)
    return replace(plan, layer=deepest, below=tuple(below), pooled=False, outputs=True)


def encode_layers(
    context: CaptureContext,
    reader: Reader,
    texts: Sequence[str],
    poolings: Sequence[Pooling],
    report: Callable[[int, int], None] | None = None,
) -> dict[tuple[int, Pooling], Vector]:
    """One pass over texts: for each layer of the context's plan and each pooling ``(len(texts), dim)``.

    `report` is told the windows done and all windows.

    Raises:
        EncodingError: the model gave NaN, or no state after one of the layers.
    """
    sums: dict[tuple[int, Pooling], _Floats] = {}
    windows = [window for number, text in enumerate(texts) for window in reader.windows(number, text)]
    done = 0
    for group in groups(windows, context.capacity, context.plan.max_sequences):
        for layer, states in context.states_by_layer([window.tokens for window in group]).items():
            for pooling in poolings:
                total = sums.setdefault((layer, pooling), np.zeros((len(texts), context.dim)))
                for window, rows in zip(group, states, strict=True):
                    total[window.text] += pool(window, rows, pooling)
        done += len(group)
        if report is not None:
            report(done, len(windows))
    return {(layer, pooling): unit_length(total, f"layer {layer}") for (layer, pooling), total in sums.items()}


def choose_layer(
    model: LoadedModel, plan: CapturePlan, reader: Reader, pooling: Pooling, progress: Progress | None = None
) -> LayerChoice:
    """The layer whose states find best: half depth, or the best of those that are clearly better.

    Raises:
        EncodingError: the model's graph does not name its layers.
    """
    depth = model.n_layer
    half = resolve_layer("auto", depth)
    with closing(CaptureContext(model, watching(plan, spread_layers(depth)))) as context, quiet():
        report = None if progress is None else partial(progress, "choosing a layer")
        states = encode_layers(context, reader, paraphrase_texts(), [pooling], report)
    tried = {layer: search_quality(vectors) for (layer, _), vectors in states.items()}
    return LayerChoice(best_of(tried, half), half, depth, tried)


def best_of(tried: Mapping[int, SearchQuality], half: int) -> int:
    """The layer of the highest score among those clearly better than half depth; half depth where there is none."""
    better = [layer for layer, quality in tried.items() if quality.leads(tried[half]) > CLEARLY]
    return max(better, key=lambda layer: tried[layer].score, default=half)
