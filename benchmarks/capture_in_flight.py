"""Hidden states taken from a chat's own evaluation instead of from a pass of their own: what they find, what is saved.

    python benchmarks/capture_in_flight.py MODEL.gguf DATA.json [--conversations 2] [--window 1024] [--rounds 9]
                                           [--no-recall] [--json FILE]

Every turn of LoCoMo-shaped conversations is captured at the layer, with the standardisation and the pooling that a bank
uses, in several ways: alone, as now; in flight, its tokens' states given all of its session that stands ahead in the
window; the same with earlier sessions ahead; and alone behind a block of the four earlier turns nearest to it, which is
what a prompt with memories holds. Questions are always encoded alone. Turns are then looked for by the cosine of the
pooled vectors (`centred`: their mean taken off both sides) and by `MemBank.recall`, whose gate is asked as well: shares
of questions given something in their own conversation and in another one.

The speed of a chat with the callback in its context, which ends nothing, stands beside that of one without: both on the
same weights, in turns. The separate pass is timed turn by turn, with its pooling apart, which either way needs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from bankbench import seconds, table, write_json  # ahead of numpy  # isort: skip

import llama_cpp
import numpy as np
from chat_pieces import pieces_around

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.adapters.llama_cpp.capture import CaptureContext
from membank_llama.adapters.llama_cpp.eval_callback import EvalCallback, _ggml
from membank_llama.adapters.llama_cpp.layer_choice import centred
from membank_llama.adapters.llama_cpp.loaded_model import LoadedModel, quiet
from membank_llama.adapters.pooling import Reader
from membank_llama.adapters.token_states import CALIBRATION, Standard, TokenStates, content_pooled, words_of
from membank_llama.cli.bench.locomo import LabelledConversation, read_conversations, shares_found
from membank_llama.cli.bench.recall import RecallBench
from membank_llama.core.types import Vector
from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN, HEADER

CUTS = (5, 10)
GATE = ("own conversation", "another conversation")
"""Shares of questions for which something is injected: asked where they belong, and where they do not."""

IN_BLOCK = 4
PROMPT, REPLY = 512, 64
"""Tokens of a prompt and of a reply whose speed is measured."""


# -- what is captured


@dataclass(frozen=True)
class CapturedTurn:
    """A turn's tokens and their states as the model gave them."""

    tokens: list[int]
    rows: Vector


@dataclass(frozen=True)
class Stretch:
    """Tokens of a prompt; those of a turn, if they are one's."""

    tokens: list[int]
    turn: int | None = None


class Capture:
    """Captures turns in several ways, on one context that ends after the layer.

    What is behind a layer does not change it, so that the rows are those of a chat that goes on.
    """

    def __init__(self, adapter: LlamaCppAdapter, window: int) -> None:
        self.model, self._window = adapter.loaded_model, window
        self._context = CaptureContext(self.model, replace(adapter.plan, window=window, max_sequences=1))
        tokenize, adds_space = self.model.tokenize, self.model.adds_space
        self._reader = Reader.of(tokenize, None, window, adds_space=adds_space, opening="\n")
        self.standard = Standard.of(np.concatenate([turn.rows for turn in self.alone(CALIBRATION)]))

    def close(self) -> None:
        self._context.close()

    def alone(self, texts: Sequence[str]) -> list[CapturedTurn]:
        """As a bank captures them."""
        found = []
        for number, text in enumerate(texts):
            parts = []
            for window in self._reader.windows(number, text):
                own = slice(window.start, window.end)
                parts.append((window.tokens[own], self._context.states([window.tokens])[0][own]))
            tokens = [token for part, _ in parts for token in part]
            found.append(CapturedTurn(tokens, np.concatenate([rows for _, rows in parts])))
        return found

    def in_flight(self, talk: LabelledConversation, *, sessions_apart: bool) -> list[CapturedTurn]:
        """Each turn behind what stands ahead of it in the conversation, as far as the window reaches."""
        captured: dict[int, CapturedTurn] = {}
        chats: dict[str, list[int]] = {}
        for row, session in enumerate(talk.sessions):
            chats.setdefault(session if sessions_apart else "", []).append(row)
        for rows in chats.values():
            for stretches in self._windows(self._laid_out(talk, rows)):
                self._take(stretches, captured)
        return [captured[row] for row in range(len(talk.turns))]

    def behind_block(self, talk: LabelledConversation, nearest: Sequence[Sequence[int]]) -> list[CapturedTurn]:
        """Each turn as the first message of a chat, behind a block of some earlier turns."""
        captured: dict[int, CapturedTurn] = {}
        before, after = pieces_around(self.model, ["user"], reply=False)
        for row, text in enumerate(talk.texts):
            lines = [f"- {talk.texts[other]}" for other in sorted(nearest[row])]
            block = "\n".join([BLOCK_OPEN, HEADER, *lines, BLOCK_CLOSE]) + "\n\n" if lines else ""
            self._take([self._frame(before + block), self._body(text, row), self._frame(after)], captured)
        return [captured[row] for row in range(len(talk.turns))]

    def _frame(self, text: str) -> Stretch:
        return Stretch(self.model.tokenize(text, specials=True, add=False))

    def _body(self, text: str, row: int) -> Stretch:
        return Stretch(self.model.tokenize(text, specials=False, add=False), row)

    def _laid_out(self, talk: LabelledConversation, rows: Sequence[int]) -> list[Stretch]:
        """A chat of the first speaker as the person with the second as the model."""
        first = talk.turns[rows[0]].role
        roles = ["user" if talk.turns[row].role == first else "assistant" for row in rows]
        pieces = pieces_around(self.model, roles, reply=False)
        laid_out = [self._frame(pieces[0])]
        for row, piece in zip(rows, pieces[1:], strict=True):
            laid_out += [self._body(talk.texts[row], row), self._frame(piece)]
        return laid_out

    def _windows(self, laid_out: Sequence[Stretch]) -> Iterator[list[Stretch]]:
        """The chat as it fits; when the window is full, the older half is left out, but for the head."""
        head, held = laid_out[0], [laid_out[0]]
        for stretch in laid_out[1:]:
            if sum(len(one.tokens) for one in (*held, stretch)) > self._window:
                yield held
                kept: list[Stretch] = []
                for one in reversed(held[1:]):
                    if sum(len(other.tokens) for other in (head, *kept, one, stretch)) > self._window // 2:
                        break
                    kept.insert(0, one)
                held = [head, *kept]
            held.append(stretch)
        yield held

    def _take(self, stretches: Sequence[Stretch], captured: dict[int, CapturedTurn]) -> None:
        """Evaluate a window; a turn's states are those it had when it was said."""
        rows = self._context.states([[token for one in stretches for token in one.tokens]])[0]
        at = 0
        for one in stretches:
            end = at + len(one.tokens)
            if one.turn is not None:
                captured.setdefault(one.turn, CapturedTurn(one.tokens, rows[at:end]))
            at = end

    def pooled(self, turn: CapturedTurn, standard: Standard) -> TokenStates:
        states, words = standard.rows(turn.rows), words_of([self.model.piece(token) for token in turn.tokens])
        summed = content_pooled(states, words)
        return TokenStates((summed / np.linalg.norm(summed)).astype(np.float32), states, words)


class CapturedTexts(ModelAdapter):
    """An adapter that has captured some texts already, and leaves the others to the model."""

    def __init__(self, inner: LlamaCppAdapter, captured: dict[str, TokenStates]) -> None:
        self._inner, self._captured = inner, captured

    @property
    def hidden_dim(self) -> int:
        return self._inner.hidden_dim

    @property
    def token_dim(self) -> int:
        return self._inner.token_dim

    def model_id(self) -> str:
        return self._inner.model_id()

    def encode(self, text: str) -> Vector:
        return self.encode_tokens([text])[0].vector

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenStates]:
        return [self._captured.get(text) or self._inner.encode_tokens([text])[0] for text in texts]


# -- what is found


Encoded: TypeAlias = list[tuple[list[TokenStates], list[TokenStates]]]
"""Of each conversation its turns and its questions."""


def captured_talks(capture: Capture, talks: Sequence[LabelledConversation]) -> dict[str, Encoded]:
    """In each way."""
    found: dict[str, Encoded] = {}
    for talk in talks:
        alone = capture.alone(talk.texts)
        questions = [capture.pooled(one, capture.standard) for one in capture.alone(talk.questions)]
        vectors = np.stack([capture.pooled(one, capture.standard).vector for one in alone])
        nearest = [np.argsort(-(vectors[:row] @ vectors[row]))[:IN_BLOCK].tolist() for row in range(len(vectors))]
        session = capture.in_flight(talk, sessions_apart=True)
        ways = {
            "alone": alone,
            "in flight": session,
            "+ earlier sessions": capture.in_flight(talk, sessions_apart=False),
            "behind a block": capture.behind_block(talk, nearest),
        }
        for way, turns in ways.items():
            found.setdefault(way, []).append(([capture.pooled(one, capture.standard) for one in turns], questions))
        own = Standard.of(np.concatenate([one.rows for one in session]))
        way = "in flight, own standard"
        found.setdefault(way, []).append(([capture.pooled(one, own) for one in session], questions))
    return found


def dense(talks: Sequence[LabelledConversation], captured: Encoded) -> dict[str, float]:
    """By cosine alone."""
    found: dict[str, list[float]] = {}
    for talk, (turns, questions) in zip(talks, captured, strict=True):
        rows, asked = (np.stack([one.vector for one in some]) for some in (turns, questions))
        mean = rows.mean(axis=0)
        for label, some, among in (("", asked, rows), (" centred", centred(asked, mean), centred(rows, mean))):
            for cut, shares in shares_found(some, among, talk.evidence, CUTS).items():
                found.setdefault(f"R@{cut}{label}", []).extend(shares)
    return {name: statistics.fmean(shares) for name, shares in found.items()}


def recalled(adapter: LlamaCppAdapter, talks: Sequence[LabelledConversation], captured: Encoded) -> dict[str, float]:
    """By a bank that was given what was captured."""
    known: dict[str, TokenStates] = {}
    for talk, (turns, questions) in zip(talks, captured, strict=True):
        known |= dict(zip(talk.texts, turns, strict=True)) | dict(zip(talk.questions, questions, strict=True))
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(RecallBench(talks, CapturedTexts(adapter, known), Path(folder) / "bank")) as bench,
    ):
        scores, gate = bench.scores("recall", bench.recalled()), bench.gate()
    return {f"R@{cut}": scores.turn[f"R@{cut}"] for cut in CUTS} | {name: gate.get(name, 0.0) for name in GATE}


# -- what it costs


class Unending(EvalCallback):
    """Copies the rows of one layer, and lets the graph go on."""

    def __init__(self, layer: int, dim: int) -> None:
        super().__init__([layer], dim)
        wanted, get_name = f"l_out-{layer}".encode(), _ggml().ggml_get_name

        def on_node(tensor: int, ask: bool, _user: Any) -> bool:
            try:
                if ask:
                    return not self._enough and get_name(tensor) == wanted
                self._take(tensor, layer)
            except BaseException as error:  # noqa: BLE001  C cannot carry it: raised afterwards
                self._stored, self._enough = error, True
            return True

        self.c_callback = llama_cpp.ggml_backend_sched_eval_callback(on_node)


class Chat:
    """A context that generates, with a callback or without."""

    def __init__(self, model: LoadedModel, callback: Unending | None) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 1024, PROMPT, PROMPT
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = 0
        if callback is not None:
            params.cb_eval = callback.c_callback
        self._callback = callback
        with quiet():
            self._handle = llama_cpp.llama_init_from_model(model.handle, params)
        self._memory = llama_cpp.llama_get_memory(self._handle)

    def close(self) -> None:
        llama_cpp.llama_free(self._handle)

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(self._memory, False)

    def evaluate(self, tokens: Sequence[int]) -> None:
        if self._callback is not None:
            self._callback.expect(len(tokens))
        made = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(self._handle, llama_cpp.llama_batch_get_one(made, len(tokens))) != 0:
            raise SystemExit("llama.cpp did not evaluate the chat")
        if self._callback is not None:
            self._callback.raise_stored()
            self._callback.rows(next(iter(self._callback._parts)))


def chat_speed(adapter: LlamaCppAdapter, tokens: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds a token of prompt and of reply, without the callback and with it, and the median ratio."""
    if adapter.layer is None:
        raise SystemExit("a model that pools does not chat")
    callback = Unending(adapter.layer, adapter.hidden_dim)
    times: dict[str, dict[str, list[float]]] = {"prompt": {}, "reply": {}}
    model = adapter.loaded_model
    with closing(Chat(model, None)) as plain, closing(Chat(model, callback)) as watched:
        for number in range(rounds + 1):
            pair = [("without", plain), ("with", watched)]
            for name, chat in pair if number % 2 else pair[::-1]:
                chat.clear()
                prompt = seconds(lambda chat=chat: chat.evaluate(tokens[:PROMPT]))  # type: ignore[misc]
                reply = seconds(lambda chat=chat: [chat.evaluate([token]) for token in tokens[:REPLY]])  # type: ignore[misc]
                if number:  # the first warms up
                    times["prompt"].setdefault(name, []).append(1000 * prompt / PROMPT)
                    times["reply"].setdefault(name, []).append(1000 * reply / REPLY)
    return {
        part: {name: statistics.median(spent) for name, spent in both.items()}
        | {"speed kept": statistics.median(a / b for a, b in zip(both["without"], both["with"], strict=True))}
        for part, both in times.items()
    }


def separate_cost(adapter: LlamaCppAdapter, capture: Capture, texts: Sequence[str]) -> dict[str, float]:
    """What a turn costs that is captured by itself, one by one as a chat stores them."""
    turns = capture.alone(texts)
    count = statistics.fmean(len(turn.tokens) for turn in turns)

    def each(work: Callable[[int], object]) -> float:
        return 1000 * statistics.fmean(seconds(lambda number=number: work(number)) for number in range(len(texts)))  # type: ignore[misc]

    whole = each(lambda number: adapter.encode_tokens([texts[number]]))
    pooling = each(lambda number: capture.pooled(turns[number], capture.standard))
    return {
        "tokens a turn": count,
        "ms a turn": whole,
        "of it pooling": pooling,
        "saved, ms a token": (whole - pooling) / count,
    }


# -- all of it


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("model", type=Path, metavar="MODEL.gguf")
    made.add_argument("data", type=Path, metavar="DATA.json")
    made.add_argument("--conversations", type=int, default=2)
    made.add_argument("--window", type=int, default=1024, help="tokens of a chat that are in sight")
    made.add_argument("--rounds", type=int, default=9, help="of the speed of a chat")
    made.add_argument("--no-recall", action="store_true", help="cosines alone")
    made.add_argument("--json", type=Path)
    given = made.parse_args()
    talks = read_conversations(given.data, given.conversations)
    figures: dict[str, Any] = {}
    with LlamaCppAdapter(given.model, n_threads=1) as adapter, closing(Capture(adapter, given.window)) as capture:
        for way, captured in captured_talks(capture, talks).items():
            figures[way] = {"dense": dense(talks, captured)}
            if not given.no_recall:
                figures[way]["recall"] = recalled(adapter, talks, captured)
        _show_found(f"{given.model.stem}, layer {adapter.layer}, window of {given.window}", talks, figures)
        texts = talks[0].texts
        words = capture.model.tokenize(" ".join(texts[:100]), specials=False, add=False)
        speed = chat_speed(adapter, words, given.rounds)
        cost = separate_cost(adapter, capture, texts[:100])
    table(
        f"a chat with the callback, {PROMPT} tokens of prompt, {REPLY} of reply, median of {given.rounds}",
        ("ms a token", "without", "with", "speed kept"),
        [(part, *(f"{ms:.3f}" for ms in kinds.values())) for part, kinds in speed.items()],
    )
    table("a pass of its own", ("", ""), [(name, f"{value:.3f}") for name, value in cost.items()])
    write_json(given.json, {"found": figures, "chat": speed, "separate": cost})


def _show_found(title: str, talks: Sequence[LabelledConversation], figures: dict[str, Any]) -> None:
    names = [f"R@{cut}{label}" for label in ("", " centred") for cut in CUTS]
    from_bank = [*(f"R@{cut}" for cut in CUTS), *GATE]
    rows = []
    for way, kinds in figures.items():
        found = [kinds["dense"][name] for name in names]
        found += [kinds["recall"][name] for name in from_bank] if "recall" in kinds else []
        rows.append((way, *(f"{share:.3f}" for share in found)))
    recall = ["recall R@5", "R@10", "own", "another"] if "recall" in next(iter(figures.values())) else []
    questions = sum(len(talk.questions) for talk in talks)
    turns = sum(len(talk.turns) for talk in talks)
    table(f"{title}: {turns} turns, {questions} questions", ("", "R@5", "R@10", "centred R@5", "R@10", *recall), rows)


if __name__ == "__main__":
    main()
