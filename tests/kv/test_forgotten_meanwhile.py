"""What is forgotten while a prompt that shows it is answered is not kept behind the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.asgi_server import serve
from support.banks import files_with, wait_for
from support.proxies import GREEDY, engine_of

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.kv.piece_store import PieceStore
from membank_llama.memory.bank import MemBank
from membank_llama.memory.llama_with_memory import SafeLlama, remember
from membank_llama.memory.prompt_injection import MemoryOptions
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.proxy_memory import ProxyMemory

FACT = "My sister Ana lives in Porto near the river."
ASKED = "Where does my sister Ana live?"
OTHER = "Once upon a time there was a little girl. She liked to play in the park with her red ball."


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        yield bank


@pytest.fixture
def llm(bank: MemBank, stories_chatml_gguf: Path) -> Iterator[Any]:
    made = SafeLlama(str(stories_chatml_gguf), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
    yield remember(made, bank, MemoryOptions(remember=False))
    made.close()


def asked(llm: Any, text: str = ASKED, **more: Any) -> Any:
    return llm.create_chat_completion([{"role": "user", "content": text}], max_tokens=8, temperature=0.0, **more)


def kept_nothing_of_it(llm: Any, bank: MemBank) -> None:
    """And what comes next is kept again."""
    assert "Porto" in llm.memory.last.block
    llm.kv.flush()
    assert files_with(bank.path / "kv", b"Porto") == []
    asked(llm, OTHER)
    llm.kv.flush()
    assert files_with(bank.path / "kv", b"red ball")


def test_by_the_drop_in_while_it_writes(llm: Any, bank: MemBank) -> None:
    memory = bank.ingest(FACT).memory_id
    for n, _ in enumerate(asked(llm, stream=True)):
        if n == 2:
            bank.forget(memory)
    kept_nothing_of_it(llm, bank)


def test_between_the_recall_and_the_model(llm: Any, bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = bank.ingest(FACT).memory_id
    inner = llm.memory.for_messages

    def recalled(*args: Any) -> Any:
        found = inner(*args)
        bank.forget(memory)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(llm.memory, "for_messages", recalled)
        asked(llm)
    kept_nothing_of_it(llm, bank)


def test_in_a_prompt_of_ones_own(llm: Any, bank: MemBank) -> None:
    memory = bank.ingest(FACT).memory_id
    for n, _ in enumerate(llm.create_completion(f"{ASKED}\n", max_tokens=8, temperature=0.0, stream=True)):
        if n == 2:
            bank.forget(memory)
    kept_nothing_of_it(llm, bank)


def test_by_the_engine_behind_a_proxy(bank: MemBank, tmp_path: Path, recall_tiny: Path) -> None:
    memory = bank.ingest(FACT).memory_id
    recalling = ProxyMemory(bank)
    inner = recalling.recall

    async def recalled(*args: Any, **more: Any) -> Any:
        found = await inner(*args, **more)
        if found.memories:
            bank.forget(memory)
        return found

    recalling.recall = recalled  # type: ignore[method-assign]
    store = PieceStore(bank.path)
    with ExitStack() as stack:
        url = stack.enter_context(serve(Proxy(engine_of(tmp_path, recall_tiny, kv_store=store), recalling)))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        for text in (ASKED, OTHER):
            body = {"model": "recall-tiny", "messages": [{"role": "user", "content": text}], "stream": False}
            answered = client.post("/api/chat", json={**body, "options": GREEDY})
            assert (answered.headers["x-membank-memories"] == "1") == (text is ASKED), answered.text
        wait_for(store.files)
    assert files_with(bank.path / "kv", b"Porto") == []
    assert files_with(bank.path / "kv", b"red ball")
