"""A reply that goes on writing the block is ended there, however it streams; lists of days and quoted tags stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from support.banks import open_bank
from support.chat_models import cache

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.block_echo import EchoGuard, without_continued_block
from membank_llama.memory.conversation_keys import without_echo
from membank_llama.memory.llama_with_memory import Llama
from membank_llama.memory.prompt_block import HEADER

LINE = "- 2026-11-26 (yesterday), I said: My mule is called Bardolino."
ECHOES = [
    LINE,
    "- 2026-11-26, user: My mule is called Bardolino.",
    "- 2026-01-02 (2 January 2026), no longer so, I said: I live in Rome.",
    "- 2026-11-26 (today), so now, I said: I live in Rome.",
    "- undated, you answered: Bardolino.",
    "* 2026-11-26 (today), imported, notes: Bardolino.",
    "- 2026-11-26 (today), a tool said: 12",
    "</memory>\n\nI don't know.",
    f"<memory>\n{HEADER}\n{LINE}",
    "<memory>\nand so on",
    HEADER,
]
LEGIT = [
    "- 2026-11-26: dentist",
    "- 2026-11-26 (Thursday): dentist at ten\n- 2026-11-27: mule",
    "Your days:\n- 2026-11-26, dentist: at ten\n- 2026-11-27, vet: at two",
    "- 2026-11-26, Ana said: hello",
    "You said on 2026-11-26, I said: no.",
    "It writes `<memory>` and `</memory>` around it, as in </memory>.",
    "<memory> is the tag that opens it.",
    "```\n<memory>\n- 2026-11-26, user: x\n</memory>\n```\nThat is its form.",
    "- 12 eggs\n- undecided\n- 2026",
    "  \n\n- a\n\n\n- b\n",
    "Notes from earlier talks are kept.",
    "",
]
BLOCK = "<memory>\nNotes\n- 2026-11-26 (today), Ana: Porto it is.\n</memory>\n\n"


def guarded(text: str, size: int, **given: Any) -> tuple[str, bool]:
    guard = EchoGuard(**given)
    shown = "".join(guard.push(text[at : at + size]) for at in range(0, len(text), size))
    return shown + guard.end(), guard.is_hit


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("echo", ECHOES)
def test_the_block_is_not_gone_on_with(echo: str, size: int) -> None:
    assert guarded(echo, size) == ("", True)
    assert guarded(f"\n{echo}", size) == ("", True)
    assert guarded(f"Bardolino.\n{echo}\nMore.", size) == ("Bardolino.\n", True)
    assert guarded(f"- 2026-11-26: dentist\n\n  {echo}", size) == ("- 2026-11-26: dentist\n", True)
    assert without_continued_block(f"Bardolino.\n{echo}") == "Bardolino."


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("reply", LEGIT)
def test_what_only_looks_like_it_stays(reply: str, size: int) -> None:
    assert guarded(reply, size) == (reply, False)
    assert without_echo(reply) == reply


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_who_speaks_in_the_block_and_what_is_thought(size: int) -> None:
    of_ana = "- 2026-11-26 (today), Ana: Porto it is."
    assert guarded(of_ana, size) == (of_ana, False)
    assert guarded(of_ana, size, block=BLOCK) == ("", True)
    thought = f"<think>\nThe notes say:\n{LINE}\n</think>\n\nBardolino."
    assert guarded(thought, size) == (thought, False)
    assert guarded(f"{thought}\n{LINE}", size) == (f"{thought}\n", True)
    assert guarded(thought.removeprefix("<think>"), size, begun=True) == (thought.removeprefix("<think>"), False)
    assert guarded(f"<think>a</think>{LINE}", size) == ("<think>a</think>", True)


def test_a_block_that_is_repeated_whole_leaves_the_answer() -> None:
    assert without_echo(f"<memory>\n{HEADER}\n{LINE}\n</memory>\n\nBardolino.") == "Bardolino."


# -- through a model

OPTIONS: dict[str, Any] = {"n_ctx": 1024, "n_threads": 1, "n_threads_batch": 1, "seed": 3, "verbose": False}
ASKED = "What is my mule called?"
RAW = f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        opened.ingest("My mule is called Bardolino.")
        yield opened


@pytest.fixture
def llm(tiny_gguf: Path, bank: MemBank) -> Iterator[Any]:
    model = Llama(str(tiny_gguf), memory=bank, **OPTIONS)
    yield model
    model.close()


def script(llm: Any, text: str) -> Any:
    """Has the model say this; counts the tokens that it was asked for."""
    tokens = [*llm.tokenize(text.encode(), add_bos=False), llm.token_eos()]

    def force(ids: Any, scores: Any) -> Any:
        force.asked += 1  # type: ignore[attr-defined]
        forced = np.full_like(scores, -np.inf)
        forced[tokens[min(force.asked, len(tokens)) - 1]] = 0  # type: ignore[attr-defined]
        return forced

    force.asked = 0  # type: ignore[attr-defined]
    return force


def said(llm: Any, text: str, *, chat: bool, stream: bool, messages: Any = None) -> tuple[str, Any, int]:
    """What came, why it ended, and how many tokens that took."""
    force = script(llm, text)
    given: Any = {"max_tokens": 400, "temperature": 0.0, "stream": stream, "repeat_penalty": 1.0}
    given["logits_processor"] = llama_cpp.LogitsProcessorList([force])
    if chat:
        made = llm.create_chat_completion(messages or [{"role": "user", "content": ASKED}], **given)
    else:
        made = llm.create_completion(RAW, **given)
    if not stream:
        choice = made["choices"][0]
        return choice["message"]["content"] if chat else choice["text"], choice["finish_reason"], force.asked
    chunks = [chunk["choices"][0] for chunk in made]
    texts = [chunk["delta"].get("content") or "" if chat else chunk["text"] for chunk in chunks]
    assert [chunk["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    return "".join(texts), chunks[-1]["finish_reason"], force.asked


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("head", ["", "Bardolino."])
def test_the_model_is_stopped_and_nothing_of_it_is_stored(
    llm: Any, bank: MemBank, head: str, chat: bool, stream: bool
) -> None:
    endless = f"{head}\n{LINE}\n" + f"{LINE}\n" * 4
    text, ended, asked = said(llm, endless, chat=chat, stream=stream)
    assert (text.strip(), ended) == (head, "stop")
    assert asked < len(llm.tokenize(endless.encode(), add_bos=False)) / 2
    llm.memory.flush()
    assert [m.text for m in bank.memories() if m.role == "assistant"] == ([head] if head else [])
    assert llm.memory.last.injected == (1,)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("reply", [one for one in LEGIT if one.strip()])
def test_a_reply_that_only_looks_like_it_comes_whole(llm: Any, chat: bool, stream: bool, reply: str) -> None:
    text, ended, _ = said(llm, reply, chat=chat, stream=stream)
    assert (text.removeprefix(" "), ended) == (reply, "stop")


def test_without_a_block_nothing_is_looked_for(llm: Any, bank: MemBank) -> None:
    bank.forget([1])
    text, ended, _ = said(llm, LINE, chat=True, stream=True)
    assert (text.strip(), ended) == (LINE, "stop")


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_small_model_that_does_so(minilm_gguf: Path, tmp_path: Path, temperature: float) -> None:
    path = cache() / "gemma-3-270m-q4_k_m.gguf"
    if not path.is_file():
        pytest.skip("needs gemma-3-270m-q4_k_m.gguf in the cache of models")
    with LlamaCppAdapter(minilm_gguf, n_threads=1) as adapter, MemBank(adapter, tmp_path / "bank") as bank:
        bank.ingest_many([NewMemory("My sister Ana lives in Porto."), NewMemory("My car is a red Fiat Panda.")])
        llm: Any = Llama(str(path), memory=bank, **OPTIONS)
        try:
            for question in ("Where does my sister live?", "Which car do I drive?"):
                talk: Any = [{"role": "user", "content": question}]
                made = llm.create_chat_completion(talk, max_tokens=64, temperature=temperature)
                assert llm.memory.last.injected
                shown = made["choices"][0]["message"]["content"]
                assert ", I said:" not in shown and "</memory>" not in shown
            llm.memory.flush()
        finally:
            llm.close()
        assert not any(", I said:" in memory.text or "</memory>" in memory.text for memory in bank.memories())
