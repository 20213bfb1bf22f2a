"""`generate_text()`: an answer's text, piece by piece, from a prompt of tokens.

Pieces are whole characters however tokens split them, and never hold any part of a stop string: text that
may be the beginning of one waits until that is known. `Tally` says at the end what was counted, and may be
carried on from one run to the next where an answer is made in several (a thought, then a call).
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event

from ...asgi import AbandonedError, WireError
from .generation_context import GenerationContext
from .logprobs import TokenLogprob, read_logprobs
from .sampler import Sampler
from .sampling_options import SamplingOptions


@dataclass
class Tally:
    """What an answer came to. Durations in nanoseconds.

    `reason`: ``"stop"`` at its end or a stop string (`stopped_at`), ``"length"`` where it was cut, ``"watch"`` at a
    watched text. `alternatives`: so many are kept beside each token's probability; None: no probabilities.
    """

    cached_tokens: int = 0
    fresh_tokens: int = 0
    prompt_ns: int = 0
    eval_ns: int = 0
    prompt: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    reason: str = "stop"
    watched: str = ""
    stopped_at: str = ""
    alternatives: int | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def take(self, model: GenerationContext, token: int) -> None:
        """Count a token that was chosen and is not evaluated yet."""
        self.tokens.append(token)
        if self.alternatives is not None and not model.ends(token):
            self.logprobs.append(read_logprobs(model, token, self.alternatives))

    def forget(self, begun: int) -> None:
        """Take back the tokens from the one numbered `begun` on."""
        del self.tokens[begun:], self.logprobs[begun:]


@dataclass(frozen=True)
class PromptCount:
    """What a prompt came to: its tokens, and those of them that the cache held."""

    total: int
    cached: int


def longest_overlap(text: str, words: Sequence[str]) -> int:
    """Length of the longest end of `text` that is a proper beginning of one of `words`."""
    longest = 0
    for word in words:
        for length in range(min(len(text), len(word) - 1), longest, -1):
            if word.startswith(text[-length:]):
                longest = length
                break
    return longest


def first_of(text: str, words: Sequence[str]) -> tuple[int, str] | None:
    """Where the earliest of `words` begins in `text`, and which it is."""
    found = [(at, word) for word in words if (at := text.find(word)) >= 0]
    return min(found, default=None)


class _Gate:
    """Lets text through up to the first word of `words`, holding back what may become one."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(words)
        self._held = ""
        self.hit: str | None = None

    def push(self, text: str, *, last: bool = False) -> str:
        text = self._held + text
        found = first_of(text, self._words)
        if found is not None:
            self.hit, self._held = found[1], ""
            return text[: found[0]]
        keep = 0 if last else longest_overlap(text, self._words)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def generate_text(
    model: GenerationContext,
    prompt: Sequence[int],
    options: SamplingOptions,
    cancelled: Event,
    tally: Tally,
    *,
    grammar: str | None = None,
    watch: Sequence[str] = (),
) -> Iterator[str]:
    """Pieces of text; `tally` is kept up to date.

    Args:
        watch: texts that end this run as a stop string does, named in ``tally.watched``.

    Raises:
        WireError: the prompt does not fit into the context, or the grammar can't be read.
        AbandonedError: nobody waits any more.
    """
    if not prompt:
        raise WireError(400, "the prompt is empty")
    if min(prompt) < 0 or max(prompt) >= model.n_vocab:
        raise WireError(400, '"context" holds tokens that this model does not have')
    if len(prompt) >= model.n_ctx:
        raise WireError(
            400,
            f"the input length exceeds the context length: {len(prompt):,} tokens, the context holds {model.n_ctx:,}; "
            "shorten it or ask for a larger num_ctx",
        )
    with Sampler(model, options, grammar, cancelled) as sampler:
        started = time.perf_counter_ns()
        cost = model.evaluate(prompt, cancelled)
        tally.prompt_ns += time.perf_counter_ns() - started
        if not tally.prompt:
            tally.prompt, tally.cached_tokens, tally.fresh_tokens = list(prompt), cost.cached, cost.fresh
        yield from _answer(model, sampler, options, cancelled, tally, watch)


def _answer(
    model: GenerationContext,
    sampler: Sampler,
    options: SamplingOptions,
    cancelled: Event,
    tally: Tally,
    watch: Sequence[str],
) -> Iterator[str]:
    gate = _Gate((*options.stop, *watch))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    tally.reason, tally.watched = "length", ""
    while not 0 <= options.num_predict <= len(tally.tokens):
        if cancelled.is_set():
            raise AbandonedError
        started = time.perf_counter_ns()
        token = sampler.next()
        tally.take(model, token)
        if model.ends(token):
            tally.reason = "stop"
            tally.eval_ns += time.perf_counter_ns() - started
            break
        text = gate.push(decoder.decode(model.piece(token)))
        if gate.hit is None and model.room > 0:
            model.push(token)
        tally.eval_ns += time.perf_counter_ns() - started
        if text:
            yield text
        if gate.hit is not None or model.room <= 0:
            break
    if gate.hit is None:
        text = gate.push(decoder.decode(b"", final=True), last=True)
        if text:
            yield text
    if gate.hit is not None:
        watched = gate.hit in watch
        tally.reason, tally.watched = ("watch", gate.hit) if watched else ("stop", "")
        tally.stopped_at = "" if watched else gate.hit
