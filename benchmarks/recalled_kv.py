"""Recalled memories put into the context as cells instead of being evaluated as text: what is lost, what is won.

    python benchmarks/recalled_kv.py MODEL.gguf [MODEL.gguf ...] [--left line|head|template|sink]
                                     [--context 2048] [--flash-attention] [--questions 48] [--json FILE]

Each line of the memory block is evaluated once, alone, behind a left context that is always the same, and its cells of
the KV cache are exported. At recall six such pieces, of which one answers, are read back behind the prompt's head,
moved to their places by llama.cpp's own position shift, and joined to the conversation; only the question is evaluated
then. The dial is the share of each memory's tokens, its first ones, that is evaluated nevertheless, in place and with
all in sight that stands ahead: at 1 only the batches differ from text. `--left` says what a line has seen when it was
evaluated: the whole head of the prompt with the block's opening (`head`), a line that says nothing besides (`line`),
the template's head (`template`), or its first token, on which attention rests (`sink`).

Beside text: whether the first 16 greedy tokens are the same, the log-probability of the right answer after the opening
of a reply, right answers, and the time to the first token, with the head of the prompt in the cache in either case. The
ways take turns on one context, question by question. "none" is the question without any memory.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timezone
from pathlib import Path
from typing import Any

from bankbench import holds, table, write_json  # ahead of numpy  # isort: skip

import llama_cpp
import numpy as np
import numpy.typing as npt
from chat_pieces import pieces_around
from made_up_facts import FACTS, MadeUpFact

from membank_llama.adapters.llama_cpp.loaded_model import LoadedModel, quiet
from membank_llama.memory.block_lines import lines_of
from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN, HEADER

SHARES = (0.0, 0.15, 0.5, 1.0)
IN_BLOCK, GREEDY, SHOWN = 6, 16, 20
"""Memories in a block; tokens compared; tokens of a reply that are looked through for the answer."""

EMPTY = "- 2025-01-01 (1 January 2025), I said: Hello, how are you today?"
"""A line that stands for those ahead of a memory."""

NOW, DAY = 1_795_780_800.0, 86_400.0
TALK, ALONE = 0, IN_BLOCK + 1
"""Sequences: the conversation, and the one in which a line is evaluated alone; those between hold what is placed."""

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Told:
    """A fact as a memory, as a line of the block is made of it."""

    memory_id: int
    text: str
    created_at: float
    role: str = "user"
    source: str | None = None
    metadata: Any = None


@dataclass(frozen=True)
class Cells:
    """A line's tokens and its exported cells, which stand from position `start` on."""

    tokens: list[int]
    start: int
    data: Any
    size: int


@dataclass(frozen=True)
class Answered:
    """What one way gave for one question; the log-probability is the mean over the answer's tokens."""

    tokens: list[int]
    text: str
    log_probability: float
    seconds: float


# -- llama.cpp


class Context:
    """A native context of several sequences in one cache."""

    def __init__(self, model: LoadedModel, size: int, *, flash: bool) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = size
        params.n_ubatch = 512
        params.n_seq_max = IN_BLOCK + 2
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = int(flash)
        with quiet():
            self.handle = llama_cpp.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise SystemExit(f"llama.cpp makes no context of {size} tokens")
        self.memory = llama_cpp.llama_get_memory(self.handle)
        if not llama_cpp.llama_memory_can_shift(self.memory):
            raise SystemExit(f"{model.path.name}: llama.cpp cannot move the cells of this model")
        self.vocabulary = llama_cpp.llama_n_vocab(llama_cpp.llama_model_get_vocab(model.handle))
        self._batch = llama_cpp.llama_batch_init(size, 0, 1)

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self.handle)

    def evaluate(self, tokens: Sequence[int], start: int, sequence: int = TALK, *, every: bool = False) -> Logits:
        """The logits after the last token ``(1, n_vocab)``, or after `every` one."""
        batch, last = self._batch, len(tokens) - 1
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, start + place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, sequence
            batch.logits[place] = every or place == last
        if llama_cpp.llama_decode(self.handle, batch) != 0:
            raise SystemExit(f"llama.cpp did not evaluate {len(tokens)} tokens at {start}")
        rows = range(len(tokens)) if every else (last,)
        found = [
            np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.handle, n), (self.vocabulary,)) for n in rows
        ]
        return np.array(found)

    def forget(self, sequence: int, start: int, end: int = -1) -> None:
        llama_cpp.llama_memory_seq_rm(self.memory, sequence, start, end)

    def exported(self, sequence: int) -> tuple[Any, int]:
        size = llama_cpp.llama_state_seq_get_size(self.handle, sequence)
        data = (ctypes.c_uint8 * size)()
        llama_cpp.llama_state_seq_get_data(self.handle, data, size, sequence)
        return data, size

    def put(self, cells: Cells, sequence: int, start: int) -> None:
        """Read exported cells into a sequence, and have them stand from `start` on."""
        if llama_cpp.llama_state_seq_set_data(self.handle, cells.data, cells.size, sequence) == 0:
            raise SystemExit("llama.cpp refuses cells that it exported itself")
        llama_cpp.llama_memory_seq_add(self.memory, sequence, -1, -1, start - cells.start)

    def join(self, sequence: int) -> None:
        """Make the cells of a sequence the conversation's."""
        llama_cpp.llama_memory_seq_cp(self.memory, sequence, TALK, -1, -1)
        self.forget(sequence, -1)


@contextmanager
def opened(path: Path, size: int, *, flash: bool) -> Iterator[tuple[LoadedModel, Context]]:
    model = LoadedModel(path)
    context = Context(model, size, flash=flash)
    try:
        yield model, context
    finally:
        context.close()
        model.close()


# -- the prompt


@dataclass(frozen=True)
class Prompt:
    """A model's prompt in pieces: the template's head, the block's opening, what stands behind the block's lines."""

    model: LoadedModel
    head: list[int]
    opening: list[int]

    @classmethod
    def of(cls, model: LoadedModel) -> Prompt:
        before, _ = pieces_around(model, ["user"], reply=True)
        return cls(model, _tokens(model, before), _tokens(model, f"{BLOCK_OPEN}\n{HEADER}\n"))

    def line(self, line: str) -> list[int]:
        return _tokens(self.model, f"{line}\n")

    def tail(self, question: str, *, block: bool = True) -> list[int]:
        _, after = pieces_around(self.model, ["user"], reply=True)
        closing = f"{BLOCK_CLOSE}\n\n" if block else ""
        return _tokens(self.model, closing + question + after)

    def whole(self, lines: Sequence[str], question: str) -> list[int]:
        """The same prompt tokenised at once."""
        before, after = pieces_around(self.model, ["user"], reply=True)
        block = "\n".join([BLOCK_OPEN, HEADER, *lines, BLOCK_CLOSE]) + "\n\n"
        return _tokens(self.model, before + block + question + after)


def _tokens(model: LoadedModel, text: str) -> list[int]:
    return model.tokenize(text, specials=True, add=False)


# -- one question, one way


class Asking:
    """Asks one model in every way.

    Args:
        left: what stands ahead of a line when it is evaluated alone.
    """

    def __init__(self, context: Context, prompt: Prompt, left: list[int]) -> None:
        self.context, self.prompt, self._left = context, prompt, left
        self._start = len(prompt.head) + len(prompt.opening)
        context.evaluate([*prompt.head, *prompt.opening], 0)

    def cells(self, line: str) -> Cells:
        """A line evaluated alone."""
        tokens, start = self.prompt.line(line), len(self._left)
        self.context.forget(ALONE, -1)
        self.context.evaluate([*self._left, *tokens], 0, ALONE)
        self.context.forget(ALONE, 0, start)
        data, size = self.context.exported(ALONE)
        self.context.forget(ALONE, -1)
        return Cells(tokens, start, data, size)

    def answered(self, way: str | float, pieces: Sequence[Cells], fact: MadeUpFact) -> Answered:
        """What the model says to a question, the head of the prompt being in the cache."""
        begin = self._start if way != "none" else len(self.prompt.head)
        self.context.forget(TALK, begin)
        tail = self.prompt.tail(fact.question, block=way != "none")
        started = time.perf_counter()
        if isinstance(way, float):
            at = self._placed(pieces, way)
            first = self.context.evaluate(tail, at)[0]
        else:
            written = [token for piece in pieces for token in piece.tokens] if way == "text" else []
            first, at = self.context.evaluate([*written, *tail], begin)[0], begin + len(written)
        seconds, at = time.perf_counter() - started, at + len(tail)
        opening = _tokens(self.prompt.model, fact.opening)
        forced = [*opening, *_tokens(self.prompt.model, f" {fact.answer}")]
        rows = self.context.evaluate(forced, at, every=True)[len(opening) - 1 : -1].astype(np.float64)
        chances = [
            row[token] - np.logaddexp.reduce(row) for row, token in zip(rows, forced[len(opening) :], strict=True)
        ]
        self.context.forget(TALK, at)
        said = self._said(first, at)
        if way == "none":
            self.context.forget(TALK, begin)
            self.context.evaluate(self.prompt.opening, begin)
        text = "".join(map(self.prompt.model.piece, said))
        return Answered(said[:GREEDY], text, float(np.mean(chances)), seconds)

    def _placed(self, pieces: Sequence[Cells], share: float) -> int:
        """Put memories behind the prompt's head; where they end."""
        at, places = self._start, []
        for piece in pieces:
            places.append(at)
            at += len(piece.tokens)
        anew = [round(share * len(piece.tokens) + 0.499) if share else 0 for piece in pieces]
        for number, (piece, place, count) in enumerate(zip(pieces, places, anew, strict=True), 1):
            if count < len(piece.tokens):
                self.context.put(piece, number, place)
                self.context.forget(number, place, place + count)
        # llama.cpp takes a sequence's tokens in order only: what is evaluated anew goes piece by piece
        for number, (piece, place, count) in enumerate(zip(pieces, places, anew, strict=True), 1):
            if count:
                self.context.evaluate(piece.tokens[:count], place)
            if count < len(piece.tokens):
                self.context.join(number)
        return at

    def _said(self, logits: Logits, at: int) -> list[int]:
        vocabulary = llama_cpp.llama_model_get_vocab(self.prompt.model.handle)
        said: list[int] = []
        while len(said) < SHOWN:
            said.append(int(np.argmax(logits)))
            if llama_cpp.llama_vocab_is_eog(vocabulary, said[-1]):
                break
            logits = self.context.evaluate(said[-1:], at + len(said) - 1)[0]
        return said


# -- all of them


@dataclass(frozen=True)
class Row:
    """One way over all questions, beside text."""

    way: str
    same: float
    same_tokens: float
    log_probability: float
    difference: float
    right: float
    first_token_ms: float
    of_text: float


def _named(way: str | float) -> str:
    return f"{way:.0%} anew" if isinstance(way, float) else way


def measured(context: Context, prompt: Prompt, left: list[int], count: int) -> tuple[list[Row], dict[str, float]]:
    """All questions in every way, in turns."""
    asking, draw = Asking(context, prompt, left), random.Random(0)
    told = [Told(n, fact.told, NOW - DAY * (3 + 5 * n), metadata={}) for n, fact in enumerate(FACTS)]
    lines = [lines_of([one], str, timezone.utc, NOW)[0] for one in told]
    cells = [asking.cells(line) for line in lines]
    found: dict[str, list[Answered]] = {}
    alike = 0
    ways: list[str | float] = ["text", "none", *SHARES]
    asking.answered("text", cells[:IN_BLOCK], FACTS[0])  # warms up
    for number, fact in enumerate(FACTS[:count]):
        others = draw.sample([n for n in range(len(FACTS)) if n != number], IN_BLOCK - 1)
        # oldest first, as a block is written
        chosen = sorted([number, *others], reverse=True)
        pieces = [cells[n] for n in chosen]
        written = [*prompt.head, *prompt.opening, *(token for one in pieces for token in one.tokens)]
        alike += [*written, *prompt.tail(fact.question)] == prompt.whole([lines[n] for n in chosen], fact.question)
        for way in draw.sample(ways, len(ways)):
            found.setdefault(_named(way), []).append(asking.answered(way, pieces, fact))
    tokens = [len(one.tokens) for one in cells]
    about = {
        "tokens in the cache ahead": float(len(prompt.head) + len(prompt.opening)),
        "tokens of a memory's line": statistics.fmean(tokens),
        "bytes of its cells": statistics.fmean(one.size for one in cells),
        "bytes a token": sum(one.size for one in cells) / sum(tokens),
        "prompts that are the same tokens when tokenised at once": alike / count,
    }
    return [_row(_named(way), found[_named(way)], found["text"]) for way in ways], about


def _row(way: str, answers: Sequence[Answered], texts: Sequence[Answered]) -> Row:
    both = list(zip(answers, texts, strict=True))
    shares = [_share_equal(one.tokens, text.tokens) for one, text in both]
    facts = FACTS[: len(answers)]
    return Row(
        way,
        statistics.fmean(share == 1 for share in shares),
        statistics.fmean(shares),
        statistics.fmean(one.log_probability for one in answers),
        statistics.fmean(one.log_probability - text.log_probability for one, text in both),
        statistics.fmean(holds(one.text, fact.answer) for one, fact in zip(answers, facts, strict=True)),
        1000 * statistics.median(one.seconds for one in answers),
        statistics.median(one.seconds / text.seconds for one, text in both),
    )


def _share_equal(one: Sequence[int], other: Sequence[int]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=False)) / max(len(one), len(other))


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("models", type=Path, nargs="+", metavar="MODEL.gguf")
    made.add_argument("--left", choices=("line", "head", "template", "sink"), default="line")
    made.add_argument("--context", type=int, default=2048)
    made.add_argument("--flash-attention", action="store_true", help="default: without, as llama_cpp.Llama does")
    made.add_argument("--questions", type=int, default=len(FACTS))
    made.add_argument("--json", type=Path)
    given = made.parse_args()
    figures: dict[str, Any] = {}
    for path in given.models:
        with opened(path, given.context, flash=given.flash_attention) as (model, context):
            prompt = Prompt.of(model)
            opened_block = [*prompt.head, *prompt.opening]
            left = {
                "line": [*opened_block, *prompt.line(EMPTY)], "head": opened_block, "template": prompt.head,
                "sink": prompt.head[:1],
            }[given.left]  # fmt: skip
            rows, about = measured(context, prompt, left, given.questions)
        table(
            f"{path.name}: {given.questions} questions, {IN_BLOCK} memories each, evaluated alone behind "
            f"{len(left)} tokens ({given.left}), context of {given.context}",
            ("", f"all {GREEDY} same", "tokens same", "log p", "– text", "right", "ms", "of text"),
            [
                (row.way, f"{row.same:.1%}", f"{row.same_tokens:.1%}", f"{row.log_probability:.3f}",
                 f"{row.difference:+.3f}", f"{row.right:.1%}", f"{row.first_token_ms:.0f}", f"{row.of_text:.3f}")
                for row in rows
            ],
        )  # fmt: skip
        table("", ("", ""), [(name, f"{value:,.2f}") for name, value in about.items()])
        figures[path.stem] = {"left": given.left, "rows": [asdict(row) for row in rows], **about}
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
