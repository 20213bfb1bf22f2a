"""`ConversationRequest`: what a client wants written, whichever API it came by, and the plan a model makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from membank_llama.core.message_layouts import TemplateMessage
from membank_llama.core.thoughts import THINK
from membank_llama.gguf.capabilities import ModelFacts

from ...asgi import WireError
from ..library.served_model import ServedModel
from .answer import GenerationPlan
from .context_window import Render, enlarge, fitting, too_long, with_system
from .generation_context import GenerationContext
from .reasoning import Think
from .sampling_options import SamplingOptions
from .tool_calls import Tools

_TAIL = 48
_MOST_COUNTED = 2**20


@dataclass(frozen=True)
class RequestedModel:
    """The model of a request: as the client named it, as it is served, and what its file says."""

    name: str
    served: ServedModel
    facts: ModelFacts


@dataclass(frozen=True)
class ConversationRequest:
    """A conversation to go on with.

    `before`: tokens of an earlier answer to go in front, of `/api/generate`'s `context`. `truncate`: whether old
    turns may be left out. `alternatives`: as `Tally` has it.
    """

    target: RequestedModel
    messages: Sequence[TemplateMessage]
    options: SamplingOptions
    grammar: str | None = None
    tools: Tools | None = None
    think: Think = field(default_factory=Think)
    before: Sequence[int] = ()
    truncate: bool = True
    alternatives: int | None = None

    def plan(self, model: GenerationContext, cancelled: Event | None = None) -> GenerationPlan:
        """Render, tokenize and fit; on the model's thread."""
        tag, wanted, most = self.target.facts.thought_tag, self.options.num_predict, _most(model, self.options)
        messages, render = self._renderer(model, cancelled)
        tokens = fitting(model, messages, render, wanted, cancelled, most=most, truncate=self.truncate)
        if self.before:
            tokens = [*self.before, *_without_bos(model, tokens)]
            enlarge(model, len(tokens), wanted, most)
        return GenerationPlan(
            tokens=tokens,
            options=self.options,
            grammar=self.grammar,
            tools=self.tools,
            thinks=tag is not None,
            tag=tag or THINK,
            shows=self.think.wanted is not False,
            opened=tag is not None and model.spell(tokens[-_TAIL:]).rstrip().endswith(tag.opening),
        )

    def count(self, model: GenerationContext, cancelled: Event | None = None) -> int:
        """Tokens of the whole conversation, whether it fits or not; on the model's thread.

        Raises:
            WireError: it is certainly more than the model was made for.
        """
        messages, render = self._renderer(model, cancelled)
        text = render(messages)
        if model.exceeds(text, _MOST_COUNTED):
            raise too_long(model)
        return len(model.tokenize(text))

    def _renderer(self, model: GenerationContext, cancelled: Event | None) -> tuple[list[TemplateMessage], Render]:
        """The messages as the template is given them, and the template."""
        facts, tools = self.target.facts, self.tools
        template = (facts.template, model.bos, model.eos)
        given: Mapping[str, Any] = self.think.given(facts)
        messages, shown = list(self.messages), (tools.given if tools is not None and facts.knows_tools else ())
        if tools is not None and not shown:
            messages = _with_note(messages, tools.note())

        def render(some: Sequence[TemplateMessage]) -> str:
            return model.renderer.render(template, some, shown, given, cancelled)

        return messages, render


@dataclass(frozen=True)
class RawRequest:
    """Text to go on with as it is; with a `suffix`, what lies between the two is written."""

    target: RequestedModel
    prompt: str
    options: SamplingOptions
    grammar: str | None = None
    suffix: str = ""
    before: Sequence[int] = ()
    alternatives: int | None = None

    def plan(self, model: GenerationContext, cancelled: Event | None = None) -> GenerationPlan:
        """Tokenize; on the model's thread.

        Raises:
            WireError: the model does not fill in, or the text is certainly longer than its context.
        """
        most = _most(model, self.options)
        if model.exceeds(self.prompt, most) or model.exceeds(self.suffix, most):
            raise too_long(model)
        tokens = self._tokens(model)
        enlarge(model, len(tokens), self.options.num_predict, most)
        return GenerationPlan(tokens, self.options, self.grammar)

    def _tokens(self, model: GenerationContext) -> list[int]:
        if not self.suffix:
            return [*self.before, *model.tokenize(self.prompt)]
        marks = model.infill()
        if marks is None:
            raise WireError(400, f'"{self.target.name}" does not support insert')
        prefix, suffix, middle = marks
        head = model.tokenize("")
        before, after = (model.tokenize(text, whole=False) for text in (self.prompt, self.suffix))
        return [*head, prefix, *before, suffix, *after, middle]


def _most(model: GenerationContext, options: SamplingOptions) -> int:
    """What the context may grow to for a request: nothing more where it says itself how large it is."""
    return model.most if options.num_ctx is None else model.n_ctx


def conversation(
    target: RequestedModel, messages: Sequence[TemplateMessage], *, system: str = "", fresh: bool = True
) -> list[TemplateMessage]:
    """The Modelfile's system message and examples before what the request says."""
    said = [*(target.served.messages if fresh else ()), *messages]
    if messages and messages[0]["role"] == "system":
        examples = said[: len(said) - len(messages)]
        return [messages[0], *examples, *messages[1:]]
    return with_system(said, system or target.served.system)


def _with_note(messages: list[TemplateMessage], note: str) -> list[TemplateMessage]:
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{note}"}, *messages[1:]]
    return [{"role": "system", "content": note}, *messages]


def _without_bos(model: GenerationContext, tokens: list[int]) -> list[int]:
    head = model.tokenize("")
    return tokens[len(head) :] if head and tokens[: len(head)] == head else tokens
