"""`LlamaCppAdapter`: one vector a text from a GGUF model, by llama.cpp on this machine.

A decoder gives the residual stream of one layer (a fifth of the depth by default, see `pooling.content_layer`), pooled
over the text's tokens; a model made for embeddings gives the vector that its own file asks for. Both give the states of
the tokens beside it. A text longer than the window is cut into windows whose results are combined, never dropped. All
settings are resolved when the adapter is made, and `model_id()` names those that change a vector.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import EncodingError, InvalidInputError, ModelError
from membank_llama.core.types import Progress, Vector
from membank_llama.gguf.fingerprint import fingerprint

from ..base import ModelAdapter
from ..pooling import (
    TRIAL,
    Reader,
    Window,
    check_options,
    content_layer,
    groups,
    pool,
    resolve_layer,
    unit_length,
)
from ..prompt_templates import Pooling, pools_apart, template_mark
from ..token_states import CALIBRATION, Standard, TokenStates, content_pooled, words_of
from .capture import CaptureContext, CapturePlan
from .layer_choice import LayerChoice, choose_layer
from .loaded_model import POOLING_NONE, POOLING_RANK, LoadedModel, default_threads, quiet

DEEP = 14
"""Layers from which on the seventh is in the lower half. Shallower models are taken at half depth, averaged."""

_log = logging.getLogger("membank_llama")
_told: set[str] = set()


class LlamaCppAdapter(ModelAdapter):
    """Encodes texts with a GGUF model; safe to call from several threads.

    Args:
        model: a loaded `llama_cpp.Llama`, whose weights are shared and whose context is left alone, or a
        path.
            A LoRA of that Llama is not applied: the vectors are those of the file.
        layer: ``"auto"`` (a fifth of the depth; with another pooling half of it), a 0-based layer (negative: from the
        last), or a share of the depth, 0.0..1.0.
            A model whose file names a pooling type gives its pooled output unless a layer is asked for.
            ``"best"`` tries the layers on sentences of its own (see layer_choice.py), once, which takes a moment: as
            long as the whole model takes for 120 short texts. See `choice`.
        pooling: over the tokens: ``"content"`` (standardised, stop words and punctuation weigh little; see
        token_states.py), ``"mean"``, ``"last"``, or ``"weighted"`` (weights rise with the position); default: what
        belongs to the template, or ``"content"``; with ``layer="best"``, and of models of fewer than `DEEP` layers,
        ``"mean"``.
        template: ``"echo"``, ``"one-word"`` (see prompt_templates.py), or text around the input, with ``{text}`` where
        it goes; control tokens in it are parsed as such.
        n_threads: default: as the given Llama, or half the processors.
        n_gpu_layers: for a path: layers to put on the GPU, -1 for all.
        window: longest stretch of tokens evaluated at once; at most what the model was trained for.
        max_sequences: most texts in one evaluation.
        name: how a person calls the model; default: the name in the file.
        progress: told about the choice of a layer.

    Raises:
        ModelFileError: the file is missing, damaged or no GGUF.
        ModelError: the model gives no vectors (a reranker).
        InvalidInputError: an argument is out of range.
    """

    def __init__(
        self,
        model: llama_cpp.Llama | str | Path,
        *,
        layer: str | int | float = "auto",
        pooling: Pooling | None = None,
        template: str | None = None,
        n_threads: int | None = None,
        n_gpu_layers: int = 0,
        window: int = 512,
        max_sequences: int = 16,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        counts: dict[str, Any] = {"window": window, "max_sequences": max_sequences, "n_threads": n_threads}
        best = layer == "best"
        check_options(pooling, template, **counts)
        self._standard: Standard | None = None
        self._model = loaded = LoadedModel(model, n_gpu_layers=n_gpu_layers)
        try:
            default: Pooling = "mean" if best or loaded.n_layer < DEEP else "content"
            self.pooling, wording = check_options(pooling, template, default=default, **counts)
            content = self.pooling == "content"
            plan = _plan(loaded, "auto" if best else layer, window, max_sequences, n_threads, content=content)
            self._reader = Reader.of(
                loaded.tokenize, wording, plan.window, adds_space=loaded.adds_space, opening="\n" if content else ""
            )
            self.choice = _chosen(loaded, plan, self._reader, self.pooling, progress) if best else None
            if self.choice is not None:
                plan = _plan(loaded, self.choice.layer, window, max_sequences, n_threads)
            self._context = _open_context(loaded, plan)
            if self._context.plan.pooled and pools_apart(template):
                raise InvalidInputError(
                    f"{loaded.path} pools its states itself, over all tokens, which template {template!r} cannot do "
                    "with; leave the template out, or choose a model that chats"
                )
            self._name = name or loaded.meta("general.name") or loaded.path.stem
            self._id = self._identify(template)
        except BaseException:
            loaded.close()
            raise

    choice: LayerChoice | None
    """What ``layer="best"`` found, where it was asked for and there was something to choose."""

    def _identify(self, template: str | None) -> str:
        plan = self._context.plan
        state = "final" if plan.layer is None else f"L{plan.layer}"
        what = "pooled" if plan.pooled else f"{state}-{self.pooling}"
        return f"{self._model.architecture}-{fingerprint(self._model.path)[:16]}-{what}{template_mark(template)}"

    @property
    def hidden_dim(self) -> int:
        return self._context.dim

    @property
    def layer(self) -> int | None:
        """The layer captured, 0-based; None where the model's final state is taken."""
        return self._context.plan.layer

    @property
    def pooled(self) -> bool:
        """Whether the model's file names a pooling, and its pooled output is taken."""
        return self._context.plan.pooled

    @property
    def plan(self) -> CapturePlan:
        """What the capture context was made for."""
        return self._context.plan

    @property
    def loaded_model(self) -> LoadedModel:
        """The loaded model, for whoever captures other states of it; freed with the adapter."""
        return self._model

    @property
    def name(self) -> str:
        return self._name

    @property
    def source(self) -> str | None:
        return str(self._model.path)

    def model_id(self) -> str:
        """Architecture, fingerprint of the file, what is captured of it, name or hash of the template."""
        return self._id

    def encode(self, text: str) -> Vector:
        """Encode one text: float32 ``(hidden_dim,)``, of unit length.

        Raises:
            EncodingError: the text holds no token, or the model gave NaN.
            ModelError: the adapter, or the Llama it was made from, is closed.
        """
        vector: Vector = self.encode_batch([text])[0]
        return vector

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """Encode several texts, as many at once as fit: float32 ``(len(texts), hidden_dim)``."""
        sums = np.zeros((len(texts), self.hidden_dim), np.float64)
        for window, rows in self._evaluated(texts, self._context.states):
            sums[window.text] += self._pooled(window, rows)
        return unit_length(sums, self.name)

    @property
    def token_dim(self) -> int:
        plan = self._context.plan
        # the tokens of a shallow decoder say too little of what is meant
        gives = plan.tokens if plan.pooled else self._model.n_layer >= DEEP
        return self._context.token_dim if gives else 0

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenStates]:
        """Encode several texts in one pass: of each its vector, and its tokens' standardised states.

        Raises:
            EncodingError: as `encode`; or the graph of an embedding model does not show what it pools.
        """
        if not self.token_dim:
            return super().encode_tokens(texts)
        sums = np.zeros((len(texts), self.hidden_dim), np.float64)
        parts: dict[int, list[tuple[int, Vector, tuple[str, ...]]]] = {number: [] for number in range(len(texts))}
        for window, (pooled, rows) in self._evaluated(texts, self._both):
            states, words = self._tokens(window, rows)
            by_content = self.pooling == "content" and not self._context.plan.pooled
            sums[window.text] += content_pooled(states, words) if by_content else self._pooled(window, pooled)
            parts[window.text].append((window.position, states, words))
        found = []
        for vector, windows in zip(unit_length(sums, self.name), parts.values(), strict=True):
            windows.sort(key=lambda part: part[0])
            said = tuple(word for _, _, words in windows for word in words)
            found.append(TokenStates(vector, np.concatenate([states for _, states, _ in windows]), said))
        return found

    def _evaluated(self, texts: Sequence[str], evaluate: Callable[[list[list[int]]], Sequence[Any]]) -> Iterator[Any]:
        """Each window of some texts with what `evaluate` gives of it."""
        windows = [window for number, text in enumerate(texts) for window in self._reader.windows(number, text)]
        for group in groups(windows, self._context.capacity, self._context.plan.max_sequences):
            yield from zip(group, evaluate([window.tokens for window in group]), strict=True)

    def _both(self, sequences: list[list[int]]) -> Sequence[tuple[Vector, Vector]]:
        return list(zip(*self._context.states_and_tokens(sequences), strict=True))

    def _pooled(self, window: Window, rows: Vector) -> npt.NDArray[np.float64]:
        """What a window adds to the sum of its text."""
        if self._context.plan.pooled:
            # the file's own pooling leaves one row a window: "last" weighs it by its number of tokens
            return pool(window, rows, "last")
        if self.pooling != "content":
            return pool(window, rows, self.pooling)
        return content_pooled(*self._tokens(window, rows))

    def _tokens(self, window: Window, rows: Vector) -> tuple[Vector, tuple[str, ...]]:
        """The standardised states of a window's own tokens, of the rows of all, and the word that each is part of."""
        own = slice(window.start, window.end)
        words = words_of([self._model.piece(token) for token in window.tokens[own]])
        return self._standardised().rows(rows[own]), words

    def _standardised(self) -> Standard:
        """By what this model's states are standardised; measured when it is first asked for."""
        if self._standard is None:
            rows = [rows[window.start : window.end] for window, (_, rows) in self._evaluated(CALIBRATION, self._both)]
            self._standard = Standard.of(np.concatenate(rows))
        return self._standard

    def close(self) -> None:
        """Free the capture context, and the weights if the adapter loaded them."""
        self._context.close()
        self._model.close()


def _plan(
    model: LoadedModel,
    layer: str | int | float,
    window: int,
    max_sequences: int,
    n_threads: int | None,
    *,
    content: bool = False,
) -> CapturePlan:
    if model.pooling == POOLING_RANK:
        raise ModelError(f"{model.path} ranks pairs of texts and gives no vectors; choose a chat or an embedding model")
    index = content_layer(model.n_layer) if content and layer == "auto" else resolve_layer(layer, model.n_layer)
    pooled = layer == "auto" and model.pooling != POOLING_NONE
    return CapturePlan(
        layer=None if pooled else index,
        window=min(window, model.n_ctx_train or window),
        max_sequences=1 if model.is_recurrent else max_sequences,
        n_threads=n_threads or _threads(model.host),
        pooled=pooled,
        outputs=pooled or index == model.n_layer - 1,
        tokens=pooled,
    )


def _chosen(
    model: LoadedModel, plan: CapturePlan, reader: Reader, pooling: Pooling, progress: Progress | None
) -> LayerChoice | None:
    """The best layer; None of a model that pools by itself, or whose graph does not name its layers."""
    if plan.pooled:
        return None
    try:
        return choose_layer(model, plan, reader, pooling, progress)
    except EncodingError:
        # opening it at half depth says what there is to say
        return None


def _threads(host: llama_cpp.Llama | None) -> int:
    return int(host.n_threads_batch) if host is not None else default_threads()


def _plans(model: LoadedModel, plan: CapturePlan) -> Iterator[CapturePlan]:
    """The plan, then what is left where the graph gives outputs alone, or does not name its layers."""
    yield plan
    if plan.tokens:
        yield replace(plan, tokens=False)
    if plan.layer is not None:
        if not plan.outputs:
            yield replace(plan, outputs=True)
        yield replace(plan, layer=None, outputs=True, pooled=model.pooling != POOLING_NONE)


def _open_context(model: LoadedModel, plan: CapturePlan) -> CaptureContext:
    trial = model.tokenize(TRIAL, specials=False, add=True)
    cause: EncodingError | None = None
    for choice in _plans(model, plan):
        context = CaptureContext(model, choice)
        try:
            with quiet():
                context.states_and_tokens([trial])
        except EncodingError as error:
            cause = error
            context.close()
            continue
        if choice.layer != plan.layer and model.architecture not in _told:
            _told.add(model.architecture)
            _log.warning(
                "the graph of architecture %s does not give the state after layer %s: taking the final state",
                model.architecture,
                plan.layer,
            )
        return context
    raise ModelError(f"{model.path} ({model.architecture}) gives no hidden states; choose another model") from cause
