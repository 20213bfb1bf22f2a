"""Which states of a model find best: layers, poolings and templates side by side, on one model.

Without any label each kind is judged on the sentences of `paraphrases.py` (see layer_choice.py). Where conversations
with questions are given, the turns that answer a question are looked for among all turns of its conversation, by the
plain cosine; ``centred``, after the mean of the turns is taken off both sides; and ``apart``, after it is taken off the
turns and the mean of the questions of `paraphrases.py` off the question.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.adapters.llama_cpp.capture import CaptureContext
from membank_llama.adapters.llama_cpp.layer_choice import (
    SearchQuality,
    best_of,
    centred,
    encode_layers,
    paraphrase_texts,
    search_quality,
    spread_layers,
    watching,
)
from membank_llama.adapters.llama_cpp.loaded_model import quiet
from membank_llama.adapters.pooling import Reader
from membank_llama.adapters.prompt_templates import TEMPLATES, Pooling, template_wording
from membank_llama.core.types import Progress, Vector

from .locomo import LabelledConversation, shares_found

CUTS = (5, 10)
_CHUNK = 128
PLAIN: tuple[Pooling, ...] = ("mean", "weighted", "last")


@dataclass(frozen=True)
class State:
    """One kind of state: a layer (0-based; None: the model's own output), a pooling and a template."""

    layer: int | None
    pooling: str
    template: str | None


@dataclass(frozen=True)
class Figures:
    """What one kind of state gives. `found`: ``R@5``, ``R@10``, both also ``centred`` and ``apart``; or empty."""

    state: State
    quality: SearchQuality
    found: dict[str, float] = field(default_factory=dict)
    texts_per_second: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self.state),
            "score": self.quality.score,
            "mrr": self.quality.mrr,
            **self.found,
            "texts_per_second": self.texts_per_second,
        }


@dataclass(frozen=True)
class Report:
    """All kinds that were tried; `shown` are those worth a line, `choice` is the one that ``--layer best`` takes."""

    model: str
    depth: int
    questions: int
    tried: tuple[Figures, ...]
    shown: tuple[Figures, ...]
    choice: State
    default: State

    @property
    def agreement(self) -> float | None:
        """Spearman's rank correlation of score and R@10 over all kinds tried; None without data, or of one kind."""
        if len(self.tried) < 2 or not self.questions:
            return None
        columns = ([f.quality.score for f in self.tried], [f.found["R@10"] for f in self.tried])
        ranks = [np.argsort(np.argsort(column, kind="stable")) for column in columns]
        both: Any = np.corrcoef(np.array(ranks))
        return float(both[0, 1])


def compare_states(
    path: Path, conversations: Sequence[LabelledConversation], *, threads: int | None, progress: Progress, name: str
) -> Report:
    """Every figure of one model.

    Raises:
        ModelFileError, ModelError: the model cannot be opened.
        EncodingError: a state is NaN.
    """
    with LlamaCppAdapter(path, n_threads=threads, name=name) as adapter:
        depth = adapter.loaded_model.n_layer
        questions = sum(len(one.questions) for one in conversations)
        if adapter.layer is None:
            own = _own_output(adapter, conversations, progress)
            return Report(
                model=name,
                depth=depth,
                questions=questions,
                tried=(own,),
                shown=(own,),
                choice=own.state,
                default=own.state,
            )
        half = adapter.layer
        tried: list[Figures] = []
        for template in (None, *TEMPLATES):
            tried += _one_pass(adapter, template, conversations, progress)
        means = {f.state.layer: f.quality for f in tried if (f.state.pooling, f.state.template) == ("mean", None)}
        best = best_of({layer: quality for layer, quality in means.items() if layer is not None}, half)
        shown = []
        chosen = _worth_a_line(tried)
        for number, figures in enumerate(chosen):
            progress("speed", number, len(chosen))
            shown.append(_timed(adapter, figures))
        progress("speed", len(chosen), len(chosen))
        return Report(
            model=name,
            depth=depth,
            questions=questions,
            tried=tuple(tried),
            shown=tuple(shown),
            choice=State(best, "mean", None),
            default=State(half, "mean", None),
        )


def _worth_a_line(tried: Sequence[Figures]) -> list[Figures]:
    """The average at every layer; of every other kind the layer of the highest score."""
    kinds = dict.fromkeys((f.state.pooling, f.state.template) for f in tried)
    lines: list[Figures] = []
    for kind in kinds:
        of_kind = [f for f in tried if (f.state.pooling, f.state.template) == kind]
        lines += of_kind if kind == ("mean", None) else [max(of_kind, key=lambda f: f.quality.score)]
    return lines


def _own_output(adapter: LlamaCppAdapter, conversations: Sequence[LabelledConversation], progress: Progress) -> Figures:
    found: dict[str, list[float]] = {}
    texts = paraphrase_texts()
    states = adapter.encode_batch(texts)
    for number, one in enumerate(conversations):
        progress("its own output", number, len(conversations))
        _add(found, adapter.encode_batch(one.questions), adapter.encode_batch(one.texts), states, one)
    speed = _texts_per_second(lambda: adapter.encode_batch(texts), len(texts))
    state = State(None, "pooled" if adapter.pooled else adapter.pooling, None)
    return Figures(state, search_quality(states), _means(found), speed)


def _reader(adapter: LlamaCppAdapter, template: str | None) -> Reader:
    model = adapter.loaded_model
    return Reader.of(model.tokenize, template_wording(template), adapter.plan.window, adds_space=model.adds_space)


def _one_pass(
    adapter: LlamaCppAdapter, template: str | None, conversations: Sequence[LabelledConversation], progress: Progress
) -> Iterable[Figures]:
    """All layers with one template, every text evaluated once."""
    poolings = PLAIN if template is None else (TEMPLATES[template].pooling,)
    reader, layers = _reader(adapter, template), spread_layers(adapter.loaded_model.n_layer)
    found: dict[tuple[int, Pooling], dict[str, list[float]]] = {}
    total = sum(len(one.turns) + len(one.questions) for one in conversations)
    with closing(CaptureContext(adapter.loaded_model, watching(adapter.plan, layers))) as context, quiet():

        def encode(texts: Sequence[str], done: int) -> dict[tuple[int, Pooling], Vector]:
            parts = []
            for at in range(0, len(texts), _CHUNK):
                progress(template or "plain", done + at, total)
                parts.append(encode_layers(context, reader, texts[at : at + _CHUNK], poolings))
            return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

        states, done = encode(paraphrase_texts(), 0), 0
        for one in conversations:
            asked, turns = encode(one.questions, done), encode(one.texts, done + len(one.questions))
            done += len(one.questions) + len(one.turns)
            for key in states:
                _add(found.setdefault(key, {}), asked[key], turns[key], states[key], one)
        progress(template or "plain", total, total)
    for key, vectors in states.items():
        yield Figures(State(*key, template), search_quality(vectors), _means(found.get(key, {})))


def _add(
    found: dict[str, list[float]], asked: Vector, turns: Vector, states: Vector, one: LabelledConversation
) -> None:
    """Shares found in one conversation, in three ways; `states` are the states of `paraphrase_texts()`."""
    mean = turns.mean(axis=0)
    rows = centred(turns, mean)
    questions_mean = states[-len(states) // 3 :].mean(axis=0)
    ways = (
        ("", asked, turns),
        (" centred", centred(asked, mean), rows),
        (" apart", centred(asked, questions_mean), rows),
    )
    for label, queries, among in ways:
        for cut, shares in shares_found(queries, among, one.evidence, CUTS).items():
            found.setdefault(f"R@{cut}{label}", []).extend(shares)


def _means(found: dict[str, list[float]]) -> dict[str, float]:
    return {name: fmean(shares) for name, shares in found.items()}


def _timed(adapter: LlamaCppAdapter, figures: Figures) -> Figures:
    """The same with its speed, evaluated as far as its layer only."""
    state, texts = figures.state, paraphrase_texts()
    if state.layer is None:
        return figures
    reader = _reader(adapter, state.template)
    with closing(CaptureContext(adapter.loaded_model, watching(adapter.plan, [state.layer]))) as context, quiet():
        pooling: Any = state.pooling
        speed = _texts_per_second(lambda: encode_layers(context, reader, texts, [pooling]), len(texts))
    return Figures(state, figures.quality, figures.found, speed)


def _texts_per_second(encode: Callable[[], object], count: int) -> float:
    encode()
    start = time.perf_counter()
    encode()
    return count / (time.perf_counter() - start)
