"""`LlamaCppAdapter`: one vector a text from a GGUF model, by llama.cpp on this machine.

A decoder gives the residual stream of one layer (half depth by default), pooled over the text's tokens; a model
made for embeddings gives the vector its own file asks for. A text longer than the window is cut into windows whose
results are combined, never dropped. All settings are resolved when the adapter is made; `model_id()` names them.

The first position is evaluated but not pooled where there are others: it is where attention goes to rest, and its
state, often a hundred times longer than the rest, says nothing of the text.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import llama_cpp
import numpy as np

from ..capture import POOLING_NONE, POOLING_RANK, Context, Plan, Weights
from ..errors import EncodingError, InvalidInputError, ModelError
from ..gguf_file import fingerprint
from ..types import Vector
from .base import ModelAdapter, check_vectors

_log = logging.getLogger("membank_llama")
_told: set[str] = set()

Pooling: TypeAlias = Literal["mean", "last", "weighted"]
POOLINGS = ("mean", "last", "weighted")
_TRIAL = "a b c"


class LlamaCppAdapter(ModelAdapter):
    """Encodes texts with a GGUF model; safe to call from several threads.

    Args:
        model: a loaded `llama_cpp.Llama`, whose weights are shared and whose context is left alone, or a path.
        layer: ``"auto"`` (half depth), a 0-based layer (negative: from the last), or a share of the depth in 0..1.
        pooling: over the tokens: ``"mean"``, ``"last"``, or ``"weighted"`` (weights rise with the position).
        template: text around the input, with ``{text}`` where it goes; control tokens in it are parsed as such.
        n_threads: default: as the given Llama, or half the processors.
        window: longest stretch of tokens evaluated at once.
        max_sequences: most texts in one evaluation.

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
        pooling: Pooling = "mean",
        template: str | None = None,
        n_threads: int | None = None,
        n_gpu_layers: int = 0,
        window: int = 512,
        max_sequences: int = 16,
        name: str | None = None,
    ) -> None:
        _check_options(pooling, template, window, max_sequences, n_threads)
        self.pooling = pooling
        self._weights = weights = Weights(model, n_gpu_layers=n_gpu_layers)
        try:
            plan = _plan(weights, layer, window, max_sequences, n_threads)
            self._context = _open_context(weights, plan)
            self._frame = _frame(weights, template, plan.window)
            self._name = name or weights.meta("general.name") or weights.path.stem
            self._id = self._identify(template)
        except BaseException:
            weights.close()
            raise

    def _identify(self, template: str | None) -> str:
        plan = self._context.plan
        what = (
            "pooled"
            if plan.pooled
            else f"{'final' if plan.layer is None else f'L{plan.layer}'}-{self.pooling}"
        )
        mark = "" if template is None else "-t" + hashlib.sha256(template.encode()).hexdigest()[:8]
        return f"{self._weights.architecture}-{fingerprint(self._weights.path)[:16]}-{what}{mark}"

    @property
    def hidden_dim(self) -> int:
        return self._weights.n_embd if self.layer is not None else self._weights.n_embd_out

    @property
    def layer(self) -> int | None:
        """The layer captured, 0-based; None where the model's final state is taken."""
        return self._context.plan.layer

    @property
    def name(self) -> str:
        return self._name

    @property
    def source(self) -> str | None:
        return str(self._weights.path.resolve())

    def model_id(self) -> str:
        """Architecture, fingerprint of the file, what is captured of it, and a hash of the template if there is one."""
        return self._id

    def encode(self, text: str) -> Vector:
        """Encode one text: float32 ``(hidden_dim,)``, unit length.

        Raises:
            EncodingError: the text holds no token, or the model gave NaN.
        """
        vector: Vector = self.encode_batch([text])[0]
        return vector

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """Encode several texts, as many in one evaluation as fit: float32 ``(len(texts), hidden_dim)``."""
        totals = np.zeros((len(texts), self.hidden_dim), np.float64)
        windows = [
            window for number, text in enumerate(texts) for window in self._frame.windows(number, text)
        ]
        for group in _groups(windows, self._context.capacity, self._context.plan.max_sequences):
            for window, rows in zip(group, self._context.states([w.tokens for w in group]), strict=True):
                totals[window.text] += self._pool(window, rows)
        lengths = np.linalg.norm(totals, axis=1, keepdims=True)
        if len(texts) and not lengths.min() > 0:  # NaN lands here too
            bad = int(np.argmin(np.nan_to_num(lengths[:, 0], nan=-1.0)))
            raise EncodingError(f"{self.name} gave no usable vector for text {bad}: {texts[bad][:60]!r}")
        return check_vectors((totals / lengths).astype(np.float32), len(texts), self.hidden_dim, self.name)

    def _pool(self, window: _Window, rows: Vector) -> Vector:
        """What a window adds to the sum of its text. Only the direction of the sum is used: no division here."""
        count = window.end - window.start
        if self._context.plan.pooled:
            return rows[0] * np.float32(count)
        if self.pooling == "last":
            return rows[-1] * np.float32(count)
        own = rows[window.start : window.end]
        if self.pooling == "mean":
            return own.sum(axis=0, dtype=np.float64)  # type: ignore[no-any-return]
        return np.arange(window.position, window.position + count, dtype=np.float64) @ own  # type: ignore[no-any-return]

    def close(self) -> None:
        """Free the capture context, and the weights if the adapter loaded them."""
        self._context.close()
        self._weights.close()


@dataclass(frozen=True)
class _Window:
    """A stretch of tokens of one text. Rows `start` to `end` are pooled; `position` is the 1-based place of the first."""

    text: int
    tokens: list[int]
    start: int
    end: int
    position: int


@dataclass(frozen=True)
class _Frame:
    """What stands before and after every window: the model's own special tokens, and the template."""

    weights: Weights
    before: list[int]
    after: list[int]
    lead: str
    size: int

    def windows(self, number: int, text: str) -> Iterator[_Window]:
        """The windows of a text; their pooled rows together are its tokens, each once.

        Raises:
            EncodingError: nothing in the text becomes a token.
        """
        body = self.weights.tokenize(self.lead + text, specials=False, add=False)
        head = len(self.before)
        if not body:
            if not head + len(self.after):
                raise EncodingError(
                    f"nothing in {text[:60]!r} is a token to {self.weights.path.name}; leave it out"
                )
            yield _Window(number, self.before + self.after, 0, head + len(self.after), 1)
            return
        at = 0
        while at < len(body):
            # without anything before it, a window begins with the token ahead of it, or with one not pooled
            context = [] if self.before or at == 0 else body[at - 1 : at]
            end = min(len(body), at + self.size - len(context))
            skip = 1 if not self.before and at == 0 and end > 1 else 0
            tokens = self.before + context + body[at:end] + self.after
            start = head + len(context) + skip
            yield _Window(number, tokens, start, head + len(context) + end - at, at + skip + 1)
            at = end


def _frame(weights: Weights, template: str | None, window: int) -> _Frame:
    full = weights.tokenize(_TRIAL, specials=False, add=True)
    bare = weights.tokenize(_TRIAL, specials=False, add=False)
    at = next((i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare), 0)
    before, after, lead = full[:at], full[at + len(bare) :], ""
    if template is not None:
        pre, post = template.split("{text}")
        # the space between the template and the text belongs to the text's first token
        lead = " " if pre.endswith(" ") and not weights.adds_space else ""
        pre = pre.removesuffix(" ")
        before = before + weights.tokenize(pre, specials=True, add=False) if pre else before
        after = weights.tokenize(post, specials=True, add=False) + after if post else after
    size = window - len(before) - len(after)
    if size < 4:
        raise InvalidInputError(f"the template leaves {size} of {window} tokens for the text; shorten it")
    return _Frame(weights, before, after, lead, size)


def _groups(windows: list[_Window], capacity: int, most: int) -> Iterator[list[_Window]]:
    """Fill batches, longest windows first; each window goes into the first batch that has room for it."""
    groups: list[list[_Window]] = []
    room: list[int] = []
    first = 0
    for window in sorted(windows, key=lambda w: -len(w.tokens)):
        size = len(window.tokens)
        for number in range(first, len(groups)):
            if size <= room[number] and len(groups[number]) < most:
                break
        else:
            number = len(groups)
            groups.append([])
            room.append(capacity)
        groups[number].append(window)
        room[number] -= size
        while first < len(groups) and (len(groups[first]) == most or room[first] < 4):
            first += 1
    yield from groups


def resolve_layer(layer: str | int | float, depth: int) -> int:
    """The 0-based layer meant by ``"auto"``, a number or a share of the depth; layers above it are not computed.

    Raises:
        InvalidInputError: out of range, or something else.
    """
    if isinstance(layer, str) and layer == "auto":
        layer = 0.5
    if isinstance(layer, float) and math.isfinite(layer) and 0 <= layer <= 1:
        return max(1, int(layer * depth + 1e-9)) - 1
    if isinstance(layer, int) and not isinstance(layer, bool) and -depth <= layer < depth:
        return layer % depth
    raise InvalidInputError(
        f"layer must be 'auto', a layer from {-depth} to {depth - 1}, or a share of the depth from 0.0 to 1.0, not {layer!r}"
    )


def _check_options(
    pooling: str, template: str | None, window: int, max_sequences: int, n_threads: int | None
) -> None:
    if pooling not in POOLINGS:
        raise InvalidInputError(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}")
    if template is not None and template.count("{text}") != 1:
        raise InvalidInputError(
            f"the template must hold {{text}} once, where the text goes; it is {template!r}"
        )
    for name, value, least in (
        ("window", window, 8),
        ("max_sequences", max_sequences, 1),
        ("n_threads", n_threads, 1),
    ):
        if value is not None and value < least:
            raise InvalidInputError(f"{name} must be at least {least}, not {value}")


def _plan(
    weights: Weights, layer: str | int | float, window: int, max_sequences: int, n_threads: int | None
) -> Plan:
    if weights.pooling == POOLING_RANK:
        raise ModelError(
            f"{weights.path} ranks pairs of texts and gives no vectors; take a chat or embedding model"
        )
    index = resolve_layer(layer, weights.n_layer)
    pooled = layer == "auto" and weights.pooling != POOLING_NONE
    return Plan(
        layer=None if pooled else index,
        window=min(window, weights.n_ctx_train or window),
        max_sequences=1 if weights.is_recurrent else max_sequences,
        n_threads=n_threads or _threads(weights.host),
        pooled=pooled,
        outputs=index == weights.n_layer - 1,
    )


def _threads(host: llama_cpp.Llama | None) -> int:
    return int(host.n_threads_batch) if host is not None else max(1, (os.cpu_count() or 2) // 2)


def _open_context(weights: Weights, plan: Plan) -> Context:
    """The context of the plan, or the next best that this architecture's graph allows."""
    trial = weights.tokenize(_TRIAL, specials=False, add=True)
    final = replace(plan, layer=None, outputs=True, pooled=weights.pooling != POOLING_NONE)
    for choice in dict.fromkeys((plan, replace(plan, outputs=True), final)):
        context = Context(weights, choice)
        try:
            context.states([trial])
        except EncodingError:
            context.close()
            continue
        if choice.layer != plan.layer and weights.architecture not in _told:
            _told.add(weights.architecture)
            _log.warning(
                "%s names no layer %s in its graph: memories are made from its final state",
                weights.architecture, plan.layer,
            )  # fmt: skip
        return context
    raise ModelError(f"{weights.path} ({weights.architecture}) gives no hidden states; choose another model")
