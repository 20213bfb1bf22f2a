"""Embeddings, on all three ways that clients ask for them: `/api/embed`, `/api/embeddings`, `/v1/embeddings`."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any, TypeAlias

import numpy as np

from membank_llama.core.errors import EncodingError
from membank_llama.core.types import Vector

from ...asgi import AbandonedError, WireError, outward
from .. import durations, fields
from ..exchange import Exchange
from ..generation.generation_context import GenerationContext
from ..generation.sampling_options import resolve
from ..runtime.async_bridge import Work
from ..runtime.embedder import Embedder
from ..runtime.generation_service import GenerationService

_MOST_TEXTS = 2048
_Part: TypeAlias = tuple[Vector, int]
_AT_ONCE = 16
_LONGEST = 64
"""Characters of a text a token of context; what is longer is cut there."""


async def embed(service: GenerationService, x: Exchange) -> None:
    """`POST /api/embed`."""
    began = time.perf_counter_ns()
    texts = _inputs(x.body, "input")
    vectors, tokens, load_ns = await _vectors(service, x.body, texts)
    await x.reply(
        {
            "model": fields.model_name(x.body),
            "embeddings": [row.tolist() for row in vectors],
            "total_duration": time.perf_counter_ns() - began,
            "load_duration": load_ns,
            "prompt_eval_count": tokens,
        }
    )


async def embeddings(service: GenerationService, x: Exchange) -> None:
    """`POST /api/embeddings`, which newer clients don't use."""
    prompt = fields.text(x.body, "prompt")
    vectors, _, _ = await _vectors(service, x.body, [prompt] if prompt else [])
    await x.reply({"embedding": vectors[0].tolist() if vectors else []})


async def openai_embeddings(service: GenerationService, x: Exchange) -> None:
    """`POST /v1/embeddings`."""
    texts, form = _inputs(x.body, "input"), fields.text(x.body, "encoding_format", "float")
    if not texts:
        raise WireError(400, "invalid input: it is empty")
    if form not in ("float", "base64"):
        raise WireError(400, f"encoding_format must be float or base64, not {form[:40]!r}")
    vectors, tokens, _ = await _vectors(service, x.body, texts)
    shown: Callable[[Vector], Any] = _base64 if form == "base64" else lambda row: row.tolist()
    data = [{"object": "embedding", "embedding": shown(row), "index": n} for n, row in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    await x.reply({"object": "list", "data": data, "model": fields.model_name(x.body), "usage": usage})


def _base64(row: Vector) -> str:
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode("ascii")


def _inputs(body: Mapping[str, Any], name: str) -> list[str]:
    given = body.get(name)
    if given is None or given == "":
        return []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise WireError(400, "invalid input type: it must be a string or a list of strings")
    if len(texts) > _MOST_TEXTS:
        raise WireError(400, f"invalid input: {len(texts):,} texts at once, at most {_MOST_TEXTS:,} are taken")
    return texts


async def _vectors(
    service: GenerationService, body: Mapping[str, Any], texts: list[str]
) -> tuple[list[Vector], int, int]:
    """The vectors of texts, all their tokens, and the time that the model took to load."""
    name = fields.model_name(body)
    truncate, dimensions = fields.flag(body, "truncate", True), fields.integer(body, "dimensions")
    keep_alive, given = durations.keep_alive(body.get("keep_alive")), fields.mapping(body, "options")
    if dimensions is not None and dimensions < 0:
        raise WireError(400, '"dimensions" must not be negative')
    target = await service.find(name)
    if not target.facts.embeds:
        raise WireError(400, f'"{name}" does not support embeddings')
    n_ctx = resolve(target.served.parameters, given).num_ctx

    vectors: list[Vector] = []
    tokens = 0
    async with service.stream(target, n_ctx, keep_alive, _work(name, texts, truncate)) as (stream, load_ns):
        try:
            async for rows, count in stream:
                vectors.extend(_shortened(row, dimensions) for row in rows)
                tokens += count
        except EncodingError as exc:
            raise WireError(400, outward(exc)) from exc
        except AbandonedError as exc:
            raise WireError(503, "the server is closing") from exc
    return vectors, tokens, load_ns


def _work(name: str, texts: Sequence[str], truncate: bool) -> Callable[[GenerationContext | Embedder], Work[_Part]]:
    def on(native: GenerationContext | Embedder) -> Work[_Part]:
        def work(cancelled: Event) -> Iterator[_Part]:
            if not isinstance(native, Embedder):
                raise WireError(400, f'"{name}" does not support embeddings')
            for some in _batches(texts, native.n_ctx):
                if cancelled.is_set():
                    raise AbandonedError
                yield _encode(native, some, truncate)

        return work

    return on


def _batches(texts: Sequence[str], n_ctx: int) -> Iterator[list[str]]:
    """So many texts that nobody waits long until it is asked whether anybody still listens."""
    batch: list[str] = []
    for text in texts:
        if batch and (len(batch) == _AT_ONCE or sum(map(len, batch)) + len(text) > _LONGEST * n_ctx):
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def _encode(model: Embedder, texts: Sequence[str], truncate: bool) -> tuple[Vector, int]:
    most = _LONGEST * model.n_ctx
    if not truncate and any(len(text) > most for text in texts):
        raise WireError(400, "the input length exceeds the context length")
    texts = [text[:most] for text in texts]
    counts = [model.count(text) for text in texts]
    if max(counts) > model.n_ctx and not truncate:
        raise WireError(400, "the input length exceeds the context length")
    return model.encode(texts), sum(counts)


def _shortened(row: Vector, dimensions: int | None) -> Vector:
    if not dimensions or dimensions >= len(row):
        return row
    head = row[:dimensions]
    shorter: Vector = head / max(float(np.linalg.norm(head)), 1e-12)
    return shorter
