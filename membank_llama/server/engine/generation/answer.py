"""`write_answer()`: a whole answer on the model's thread: thought, words and calls, each told apart.

An answer is made in runs. Each ends at a text that is watched for (the tag of a thought, the opener of a
call), and the next goes on from the very tokens that are there, under another grammar or none; the KV cache
makes that cost one token. A grammar for the answer never reaches into the thought before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Event

from membank_llama.core.thoughts import THINK, ThoughtTag, is_quoted_so_far

from .decode import Tally, generate_text
from .generation_context import GenerationContext
from .logprobs import TokenLogprob
from .reasoning import Trimmer
from .sampling_options import SamplingOptions
from .tool_calls import ToolCall, Tools

_MOST_RUNS = 32


@dataclass(frozen=True)
class Delta:
    """What is new: a piece of the answer, of the thought before it, or calls; and how likely its tokens were."""

    content: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class GenerationPlan:
    """What to answer and how.

    `thinks`: thoughts are told apart, by the model's `tag`. `shows`: and given out. `opened`: the prompt ends within
    one.
    """

    tokens: Sequence[int]
    options: SamplingOptions
    grammar: str | None = None
    tools: Tools | None = None
    thinks: bool = False
    shows: bool = True
    opened: bool = False
    tag: ThoughtTag = THINK


def write_answer(
    model: GenerationContext, plan: GenerationPlan, cancelled: Event, tally: Tally | None = None
) -> Iterator[Delta | Tally]:
    """Deltas as they come, then the tally; that of the caller is kept up to date.

    Raises:
        WireError: the prompt does not fit, or a grammar can't be read.
        AbandonedError: nobody waits any more.
    """
    model.threads(plan.options.num_thread)
    runs = _Runs(model, plan, cancelled, Tally() if tally is None else tally)
    yield from runs.all()
    yield runs.tally


class _Runs:
    def __init__(self, model: GenerationContext, plan: GenerationPlan, cancelled: Event, tally: Tally) -> None:
        self._model, self._plan, self._cancelled = model, plan, cancelled
        self._prompt = list(plan.tokens)
        self._start = 0
        self._said = ""
        self._limit = self._bare = self._done = self._fresh = self._spoken = False
        self._watch: list[str] = []
        self.tally = tally

    def all(self) -> Iterator[Delta]:
        plan = self._plan
        if plan.opened:
            yield from self._think()
        elif plan.thinks and (plan.grammar or (plan.tools and plan.tools.forced)):
            yield from self._peek()
        if self._limit:
            return
        if plan.grammar or (plan.tools and plan.tools.forced):
            self._begin_answer()
        if plan.tools is not None and plan.tools.forced:
            yield from self._forced(plan.tools)
        else:
            yield from self._words()

    def _run(self, watch: Sequence[str], grammar: str | None = None) -> Iterator[str]:
        self._start, self._said = len(self.tally.tokens), ""
        pieces = generate_text(
            self._model, self._prompt, self._plan.options, self._cancelled, self.tally, grammar=grammar, watch=watch
        )
        with closing(pieces):  # type: ignore[type-var]
            for text in pieces:
                self._said += text
                yield text
        self._limit = self.tally.reason == "length"

    def _advance(self, text: str) -> None:
        """Go on behind `text`, what this run has said; with the tokens that said it, if they said no more."""
        tokens = self.tally.tokens[self._start :]
        said = b"".join(self._model.piece(token) for token in tokens).decode("utf-8", "replace")
        self._prompt += tokens if said == text else self._model.tokenize(text, whole=False)

    def _think(self) -> Iterator[Delta]:
        trimmer, end = Trimmer(), self._plan.tag.closing
        for _ in range(_MOST_RUNS):
            for text in self._run([end]):
                yield from self._thought(trimmer.push(text))
            if not self.tally.watched:
                self._limit = True
                return
            self._advance(self._said + end)
            if not is_quoted_so_far(self._said):
                return
            # it thinks about the tag
            yield from self._thought(trimmer.push(end))

    def _thought(self, text: str) -> Iterator[Delta]:
        if text and self._plan.shows:
            yield Delta(thinking=text)

    def _peek(self) -> Iterator[Delta]:
        """See whether a thought comes first; if not, nothing was said."""
        begun, opening = len(self.tally.tokens), self._plan.tag.opening
        with closing(self._run([opening])) as pieces:  # type: ignore[type-var]
            for _ in pieces:
                if self._said.strip():
                    break
        if self.tally.watched == opening and not self._said.strip():
            self._advance(self._said + opening)
            yield from self._think()
        else:
            self.tally.forget(begun)
            self._limit = False

    def _begin_answer(self) -> None:
        """What an answer begins with where its first token has to be one of a grammar's."""
        if self._plan.thinks and self._plan.tag.answer:
            self._prompt += self._model.tokenize(self._plan.tag.answer, whole=False)

    def _words(self) -> Iterator[Delta]:
        plan, tools = self._plan, self._plan.tools
        self._watch = [plan.tag.opening, *plan.tag.frames] if plan.thinks and plan.grammar is None else []
        if tools is not None:
            self._watch.append(tools.style.opener)
        self._fresh = plan.thinks or tools is not None
        for _ in range(_MOST_RUNS):
            trimmer = Trimmer(head=self._fresh, tail=tools is not None)
            for text in self._heard(None if self._spoken else tools):
                shown = trimmer.push(text)
                if shown:
                    self._spoken = True
                    yield Delta(content=shown)
            if not self.tally.watched and not self._bare:
                if trimmer.held:
                    yield Delta(content=trimmer.held)
                return
            self._fresh = True
            yield from self._turn()
            if self._limit or self._done:
                return

    def _turn(self) -> Iterator[Delta]:
        """What a watched text, or a call without one, leads to."""
        tools, hit = self._plan.tools, self.tally.watched
        if self._bare and tools is not None:
            self.tally.forget(self._start)
            yield from self._call(tools, tools.bare_grammar)
            self._done = True
            return
        self._advance(self._said + hit)
        if hit in self._plan.tag.frames:
            return
        if hit != self._plan.tag.opening and tools is not None:
            yield from self._call(tools, tools.grammar)
            self._done, self._spoken = not self.tally.watched, True
            return
        if self._spoken:
            self._watch.remove(hit)
            self._fresh = False
            yield Delta(content=hit)
        else:
            yield from self._think()

    def _heard(self, tools: Tools | None) -> Iterator[str]:
        """The text of a run; kept back while it may be a call without an opener, and dropped if it is one."""
        self._bare, held, open_ = False, "", tools is not None
        with closing(self._run(self._watch, self._plan.grammar)) as pieces:  # type: ignore[type-var]
            for text in pieces:
                if not open_ or tools is None:
                    yield text
                    continue
                held += text
                leads = tools.leading(held)
                if leads:
                    self._bare = True
                    return
                if leads is False:
                    open_ = False
                    yield held
        if open_ and held:
            yield held

    def _forced(self, tools: Tools) -> Iterator[Delta]:
        prefix = tools.prefix()
        if prefix:
            self._prompt += self._model.tokenize(prefix, whole=False)
        yield from self._call(tools, tools.grammar)

    def _call(self, tools: Tools, grammar: str) -> Iterator[Delta]:
        closer = tools.style.closer
        for _ in self._run([closer] if closer and grammar is tools.grammar else [], grammar):
            pass
        calls = tools.read(self._said)
        if calls:
            yield Delta(calls=tuple(calls))
        elif self._said:
            yield Delta(content=self._said)
        if self.tally.watched:
            self._advance(self._said + closer)
            if tools.forced:
                self._limit, self.tally.reason = True, "stop"
