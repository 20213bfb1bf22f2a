"""Whether a chat model answers rightly with memories in its prompt: one question under several conditions.

Every conversation is a namespace of one bank. A question is asked alone, then with what recall finds for it written in
each of some renderings, then with the turns that hold the answer and nothing else, in the rendering that did best. The
model's reply, at temperature 0, is compared with the known answer by its words (answer_measures.py). What is in the
block is chosen as the drop-in chooses it; all but the block is the same in every condition.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timezone
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.llama_cpp.vocabulary import Vocabulary
from membank_llama.core.errors import InvalidInputError, ModelError
from membank_llama.core.types import Progress
from membank_llama.memory.bank import MemBank
from membank_llama.memory.block_lines import Remembered
from membank_llama.memory.prompt_block import Block, Neutraliser, build_block, excerpted
from membank_llama.memory.prompt_injection import MemoryOptions
from membank_llama.memory.text_splitting import clean_text

from .answer_measures import answer_scores
from .locomo import LabelledConversation, LabelledQuestion
from .renderings import VARIANTS, Rendering, RenderingMaker, SessionMemory

if TYPE_CHECKING:
    from membank_llama.memory.llama_with_memory import SafeLlama

INSTRUCTION = "Answer in a few words."
ANSWER_TOKENS = 32
NONE, EVIDENCE = "none", "evidence"
RENDERINGS: Mapping[str, RenderingMaker] = {"lines": lambda now: partial(build_block, now=now)} | dict(VARIANTS)
"""Ways to write a block, by name; `lines` is the one that prompts are given."""

_SEED = 20231
_ZONE = timezone.utc

Item = TypeVar("Item")


@dataclass(frozen=True)
class AnswerCase:
    """A question with the conversation it is asked of."""

    talk: LabelledConversation
    question: LabelledQuestion


@dataclass(frozen=True)
class TimedReply:
    """What the model said, and what it took."""

    text: str
    prompt_tokens: int
    seconds: float


@dataclass
class ConditionResult:
    """The replies of one condition, question by question, and whether evidence stood in the block."""

    name: str
    replies: list[TimedReply] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    shown: list[bool | None] = field(default_factory=list)

    def mean(self, measure: str, rows: Sequence[int] | None = None) -> float | None:
        """Over the questions that have it; None where none has."""
        chosen = self.scores if rows is None else [self.scores[row] for row in rows]
        return _mean([scores[measure] for scores in chosen if measure in scores])

    def as_dict(self, categories: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """For JSON."""
        return {
            **self._means(None),
            "categories": {
                name: {"questions": len(rows), **self._means(rows)} for name, rows in sorted(categories.items())
            },
            "evidence_in_block": _mean([float(shown) for shown in self.shown if shown is not None]),
            "prompt_tokens_p50": statistics.median(reply.prompt_tokens for reply in self.replies),
            "seconds_p50": statistics.median(reply.seconds for reply in self.replies),
        }

    def _means(self, rows: Sequence[int] | None) -> dict[str, float]:
        names = list(dict.fromkeys(name for scores in self.scores for name in scores))
        found = {name: self.mean(name, rows) for name in names}
        return {name: value for name, value in found.items() if value is not None}


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def chosen_renderings(names: str) -> list[str]:
    """Names as typed, parted by commas; ``all`` for every one.

    Raises:
        InvalidInputError: there is none of this name.
    """
    found = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if found == ["all"]:
        return list(RENDERINGS)
    unknown = [name for name in found if name not in RENDERINGS]
    if unknown or not found:
        raise InvalidInputError(
            f"{unknown[0] if unknown else names!r} is no rendering; choose of {', '.join(RENDERINGS)}, or all"
        )
    return found


def answer_cases(talks: Sequence[LabelledConversation], most: int | None = None) -> list[AnswerCase]:
    """The questions whose answers are known, or so many of them, spread evenly over categories and conversations.

    Raises:
        InvalidInputError: there is none.
    """
    cases = [AnswerCase(talk, one) for talk in talks for one in talk.asked if one.answers is not None]
    if not cases:
        raise InvalidInputError("no question of the data has an answer; give another file")
    if most is None or most >= len(cases):
        return cases
    draw = np.random.default_rng(_SEED)
    groups: dict[str, dict[str, list[AnswerCase]]] = {}
    for row in draw.permutation(len(cases)).tolist():
        case = cases[row]
        groups.setdefault(case.question.category, {}).setdefault(case.talk.name, []).append(case)
    names = [talk.name for talk in talks]
    queues = []
    for place, category in enumerate(sorted(groups)):
        # each category begins with another conversation
        order = [names[(place + step) % len(names)] for step in range(len(names))]
        queues.append(_in_turns([groups[category].get(name, []) for name in order]))
    return _in_turns(queues)[:most]


def _in_turns(queues: Sequence[Sequence[Item]]) -> list[Item]:
    """The first of each, then the second of each, and so on."""
    return [item for tier in zip_longest(*queues) for item in tier if item is not None]


class AnswerBench:
    """A bank of the conversations asked, and a chat model to ask.

    Args:
        path: where the bank is made; it must hold none yet.
    """

    def __init__(
        self,
        cases: Sequence[AnswerCase],
        adapter: ModelAdapter,
        llm: SafeLlama,
        path: Path,
        progress: Progress | None = None,
    ) -> None:
        self.cases = cases
        self._llm = llm
        self._progress = progress
        self._options = MemoryOptions()
        self._tokens = Vocabulary(llm)
        self._neutralise = Neutraliser(self._tokens.controls)
        self._replies: dict[str, TimedReply] = {}
        talks = list({case.talk.name: case.talk for case in cases}.values())
        turns = [turn for talk in talks for turn in talk.turns]
        self.turns, self.talks = len(turns), len(talks)
        self.bank = MemBank(adapter, path)
        stored = [result.memory_id for result in self.bank.ingest_many(turns, progress=progress)]
        self.bank.flush()
        self._ids: dict[str, list[int]] = {}
        for talk in talks:
            self._ids[talk.name], stored = stored[: len(talk.turns)], stored[len(talk.turns) :]

    def close(self) -> None:
        self.bank.close()

    @cached_property
    def categories(self) -> dict[str, list[int]]:
        """Places of the questions, by category."""
        found: dict[str, list[int]] = {}
        for row, case in enumerate(self.cases):
            found.setdefault(case.question.category, []).append(row)
        return found

    # -- what a prompt is given

    @property
    def budget(self) -> int:
        """Tokens that a block may take, as `MemoryOptions` has it."""
        return self._options.budget or int(self._options.share * self._tokens.n_ctx)

    def recalled(self, case: AnswerCase) -> list[SessionMemory]:
        """What the drop-in would put into the prompt, were it asked at this time in a conversation of its own."""
        results = self.bank.recall(
            clean_text(case.question.text),
            2 * self._options.top_k,
            namespace=case.talk.name,
            now=case.question.now,
            zone=_ZONE,
        )
        relevant = [result for result in results if result.relevant][: self._options.top_k]
        return [_shown(excerpted(one, self.budget, self._tokens.count), one.conversation) for one in relevant]

    def evidence(self, case: AnswerCase) -> list[SessionMemory]:
        """The turns that hold the answer."""
        found = [self.bank.get(memory) for memory in sorted(self._evidence_ids(case))]
        return [
            SessionMemory(m.id, _unnamed(m.text, m.role), m.role, m.created_at, m.conversation, m.source, m.metadata)
            for m in found
        ]

    def _evidence_ids(self, case: AnswerCase) -> frozenset[int]:
        ids = self._ids[case.talk.name]
        return frozenset(ids[row] for row in case.question.evidence)

    def block(self, memories: Sequence[SessionMemory], rendering: Rendering) -> Block:
        """The memories as a prompt has them; none where they hold a control token of the model, as in the drop-in."""
        if not memories:
            return Block()
        block = rendering(memories, self.budget, self._tokens.count, self._neutralise, _ZONE)
        return block if not block.text or self._tokens.is_clean(block.text) else Block()

    # -- asking

    def ask(self, question: str, block: Block) -> TimedReply:
        """The reply to a question behind its block; the same prompt is asked once.

        Raises:
            ModelError: the model cannot answer, as where the prompt is longer than its context.
        """
        prompt = f"{block.text}{question}\n{INSTRUCTION}"
        if prompt not in self._replies:
            start = time.perf_counter()
            try:
                # the model keeps the states of what this prompt has in common with the last one
                said: Any = self._llm.create_chat_completion(
                    [{"role": "user", "content": prompt}], temperature=0.0, max_tokens=ANSWER_TOKENS, seed=1
                )
            except (ValueError, RuntimeError) as exc:
                raise ModelError(f"the model could not answer {question!r}: {exc}") from exc
            text = str(said["choices"][0]["message"].get("content") or "").strip()
            spent = time.perf_counter() - start
            self._replies[prompt] = TimedReply(text, int(said["usage"]["prompt_tokens"]), spent)
        return self._replies[prompt]

    def run(self, renderings: Sequence[str]) -> list[ConditionResult]:
        """Every condition, evidence last."""
        results = {name: ConditionResult(name) for name in (NONE, *renderings)}
        for number, case in enumerate(self.cases, 1):
            memories = self.recalled(case)
            self._answer(results[NONE], case, Block())
            for name in renderings:
                made = RENDERINGS[name](case.question.now)
                self._answer(results[name], case, self.block(memories, made))
            self._tell("answering", number)
        best = max((results[name] for name in renderings), key=lambda result: result.mean("f1") or 0.0).name
        last = ConditionResult(f"{EVIDENCE}, {best}")
        for number, case in enumerate(self.cases, 1):
            made = RENDERINGS[best](case.question.now)
            self._answer(last, case, self.block(self.evidence(case), made))
            self._tell("answering from evidence", number)
        return [*results.values(), last]

    def _answer(self, result: ConditionResult, case: AnswerCase, block: Block) -> None:
        reply = self.ask(case.question.text, block)
        ids = self._evidence_ids(case)
        result.replies.append(reply)
        result.scores.append(answer_scores(reply.text, case.question.answers or (), case.question.wrong))
        result.shown.append(bool(ids & set(block.ids)) if ids else None)

    def _tell(self, label: str, number: int) -> None:
        if self._progress is not None:
            self._progress(label, number, len(self.cases))


def _shown(memory: Remembered, conversation: str | None) -> SessionMemory:
    text = _unnamed(memory.text, memory.role)
    return SessionMemory(
        memory.memory_id, text, memory.role, memory.created_at, conversation, memory.source, memory.metadata
    )


def _unnamed(text: str, role: str) -> str:
    """Without the speaker that a turn begins with: a line of the block names it already."""
    return text.removeprefix(f"{role}: ")


def answer_report(
    cases: Sequence[AnswerCase],
    adapter: ModelAdapter,
    llm: SafeLlama,
    renderings: Sequence[str],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Every figure and every reply, JSON-able."""
    with tempfile.TemporaryDirectory(prefix="membank-bench-") as folder:
        bench = AnswerBench(cases, adapter, llm, Path(folder) / "bank", progress)
        try:
            results = bench.run(renderings)
            return {
                "encoder": adapter.name,
                "conversations": bench.talks,
                "turns": bench.turns,
                "questions": len(cases),
                "context": int(llm.n_ctx()),
                "conditions": {result.name: result.as_dict(bench.categories) for result in results},
                "replies": [_one(row, case, results) for row, case in enumerate(cases)],
            }
        finally:
            bench.close()


def _one(row: int, case: AnswerCase, results: Sequence[ConditionResult]) -> dict[str, Any]:
    question = case.question
    return {
        "conversation": case.talk.name,
        "category": question.category,
        "question": question.text,
        "answers": list(question.answers or ()),
        "wrong": list(question.wrong),
        "replies": {result.name: result.replies[row].text for result in results},
    }
