"""`Sampler`: the next token out of the logits, by llama.cpp's own samplers.

A grammar is asked about the chosen token alone, and only where it says no are all candidates put through it:
the cost of a grammar is then paid at the few places where it matters, as in llama.cpp's own server. A grammar
that no token can continue ends in an error here; llama.cpp itself would abort the process. Penalties count
the answer's tokens, not those of the prompt: an answer may repeat what it was told.
"""

from __future__ import annotations

import ctypes
import random
from contextlib import ExitStack
from threading import Event
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import ModelError

from .generation_context import GenerationContext
from .grammar_worker import CANDIDATE, candidates
from .sampling_options import SamplingOptions

_MIROSTAT_M = 100


class Sampler:
    """Chooses tokens for one answer; a context manager, used on the model's thread.

    Raises:
        WireError: llama.cpp can't read the grammar, or takes too long to follow it.
        AbandonedError: `cancelled` was set meanwhile.
    """

    def __init__(
        self,
        model: GenerationContext,
        options: SamplingOptions,
        grammar: str | None = None,
        cancelled: Event | None = None,
    ) -> None:
        self._model = model
        self._stack = ExitStack()
        self._data = np.zeros(model.n_vocab, CANDIDATE)
        self._ids = np.arange(model.n_vocab, dtype=np.int32)
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        self._stack.callback(llama_cpp.llama_sampler_free, self._chain)
        for sampler in _samplers(model, options):
            llama_cpp.llama_sampler_chain_add(self._chain, sampler)
        self._constraint = None
        if grammar is not None:
            try:
                self._constraint = model.constraint(grammar, cancelled or Event())
            except BaseException:
                self._stack.close()
                raise

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def next(self) -> int:
        """Choose the token that follows what the model has evaluated.

        Raises:
            ModelError: the grammar admits none of the vocabulary's tokens.
        """
        token = self._choose()
        if self._constraint is not None:
            admitted = self._constraint.take(token)
            if admitted is not None:
                token = self._choose(admitted)
                self._constraint.taken(token)
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def _choose(self, admitted: npt.NDArray[np.bool_] | None = None) -> int:
        data = self._data
        data["id"], data["logit"], data["p"] = self._ids, self._model.logits(), 0
        if admitted is not None:
            data["logit"][~admitted] = -np.inf
            if not np.isfinite(data["logit"].max()):
                raise ModelError("the model's vocabulary cannot write what the format asks for; change the schema")
        array = candidates(data)
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        chosen = array.selected if 0 <= array.selected < array.size else 0
        return int(array.data[chosen].id)


def _samplers(model: GenerationContext, options: SamplingOptions) -> list[Any]:
    """The chain in Ollama's order; greedy where there is no temperature."""
    c, o = llama_cpp, options
    last = model.n_ctx if o.repeat_last_n < 0 else min(o.repeat_last_n, model.n_ctx)
    penalties = [last, o.repeat_penalty, o.frequency_penalty, o.presence_penalty]
    if len(c.llama_sampler_init_penalties.argtypes) > len(penalties):
        penalties.insert(0, model.n_vocab)  # newer than the oldest llama-cpp-python we take
    chain = [c.llama_sampler_init_penalties(*penalties)]
    if o.temperature <= 0:
        return [*chain, c.llama_sampler_init_greedy()]
    seed = random.getrandbits(32) if o.seed < 0 else o.seed & 0xFFFFFFFF
    if o.mirostat in (1, 2):
        chain.append(c.llama_sampler_init_temp(o.temperature))
        if o.mirostat == 1:
            args = (model.n_vocab, seed, o.mirostat_tau, o.mirostat_eta, _MIROSTAT_M)
            return [*chain, c.llama_sampler_init_mirostat(*args)]
        return [*chain, c.llama_sampler_init_mirostat_v2(seed, o.mirostat_tau, o.mirostat_eta)]
    return [
        *chain,
        c.llama_sampler_init_top_k(o.top_k),
        c.llama_sampler_init_typical(o.typical_p, 1),
        c.llama_sampler_init_top_p(o.top_p, 1),
        c.llama_sampler_init_min_p(o.min_p, 1),
        c.llama_sampler_init_temp(o.temperature),
        c.llama_sampler_init_dist(seed),
    ]
