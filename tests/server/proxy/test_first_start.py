"""The first start: before Ollama is up, without an embedding model, and with one that is gone or comes later."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.asgi_server import serve
from support.proxies import engine_of, user
from support.serve_process import environment, free_port, started

from membank_llama.adapters import deferred
from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.deferred import DeferredAdapter
from membank_llama.adapters.hashing import MockAdapter, WordsAdapter
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.cli.commands.encoders import encoder_for, needed_encoder
from membank_llama.core.errors import InvalidInputError, ModelError, ModelMismatchError
from membank_llama.memory.bank import MemBank
from membank_llama.server.proxy.bank_mover import BankMover
from membank_llama.server.proxy.priority_adapter import PriorityAdapter
from membank_llama.store.model_record import recorded_model

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"


def until(is_so: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def status(client: httpx.Client) -> dict[str, Any]:
    return dict(client.get("/membank/status").json())


# -- an empty bank


def test_begun_by_words_alone_and_taken_by_the_encoder_that_comes(tmp_path: Path, recall_tiny: Path) -> None:
    nobody = ("--upstream", f"http://127.0.0.1:{free_port()}")
    with started(tmp_path, *nobody) as (_, client):
        assert status(client)["encoder"] == "words alone"
    with started(tmp_path, *nobody, "--encoder", recall_tiny) as (_, client):
        assert status(client)["encoder"] == "recall-tiny"
    # nothing was told: it takes the next one as well, and by itself the one that began it
    with started(tmp_path, *nobody) as (_, client):
        assert status(client)["encoder"] == "recall-tiny"


def test_a_chat_takes_a_bank_that_holds_nothing(tmp_path: Path, recall_tiny: Path) -> None:
    bank = tmp_path / "bank"
    MemBank(WordsAdapter(), bank).close()
    with pytest.raises(InvalidInputError, match="holds nothing yet"):
        needed_encoder(bank, None, threads=1)
    command = [sys.executable, "-m", "membank_llama", "chat", str(recall_tiny), "--bank", str(bank), "--threads", "1"]
    done = subprocess.run(
        command, input=f"{FACT}\n", capture_output=True, text=True, env=environment(tmp_path), timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    card = recorded_model(bank)
    assert card is not None and card["name"] == "recall-tiny"


def test_a_bank_of_words_is_gone_on_with_by_words(tmp_path: Path) -> None:
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        bank.ingest(FACT)
    adapter = encoder_for(tmp_path / "bank", None, threads=1)
    assert adapter is not None and adapter.model_id() == WordsAdapter().model_id()


# -- a model that comes later


def test_an_upstream_with_an_embedding_model_that_comes_later(tmp_path: Path, minilm_gguf: Path) -> None:
    found: list[ModelAdapter] = []
    bank = tmp_path / "bank"
    with ExitStack() as stack:
        opened = stack.enter_context(MemBank(PriorityAdapter(WordsAdapter()), bank))
        mover = BankMover(opened, lambda: found[0] if found else None, look_seconds=0.02)
        mover.start()
        time.sleep(0.1)
        assert opened.model.name == "words alone"
        found.append(stack.enter_context(LlamaCppAdapter(minilm_gguf, n_threads=1)))
        until(lambda: opened.adapter is not None and opened.adapter.name == found[0].name)
        opened.ingest(FACT)
        opened.ingest("The boiler was serviced in March.")
        assert opened.recall("In which town is Ana's home?", 1)[0].text == FACT
        mover.stop()
    assert recorded_model(bank) == {**vars(opened.model)}


@pytest.mark.parametrize("move", [False, True])
def test_one_with_memories_is_moved_where_that_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, move: bool
) -> None:
    own = PriorityAdapter(WordsAdapter())
    own.is_busy = lambda: False
    with MemBank(own, tmp_path / "bank") as bank:
        bank.ingest_many([FACT, *(f"Locker {number} has the code {7000 + number}." for number in range(100))])
        mover = BankMover(bank, lambda: MockAdapter(64), move=move, look_seconds=0.02)
        with caplog.at_level("INFO", "membank_llama"):
            mover.start()
            until(lambda: not mover._thread.is_alive())
        mover.stop()
        mover.close()
        assert bank.model.name == ("mock" if move else "words alone")
        assert ("membank reencode 'mock-1-64'" in caplog.text or "membank reencode 'mock'" in caplog.text) is not move
        assert bank.recall(QUESTION, 1)[0].text == FACT
        assert isinstance(bank.adapter, PriorityAdapter)
        # the same recalls go first, and the same threads can wait
        assert bank.adapter.is_busy is own.is_busy
        with own.in_background():
            assert bank.adapter._can_wait
        bank.ingest("The boiler was serviced in March.")
        assert bank.verify().problems == ()


class Slow(MockAdapter):
    """Takes its time for each text."""

    def encode(self, text: str) -> Any:
        time.sleep(0.01)
        return super().encode(text)


def test_a_server_that_ends_leaves_the_bank_as_it_was(tmp_path: Path) -> None:
    with MemBank(PriorityAdapter(WordsAdapter()), tmp_path / "bank") as bank:
        bank.ingest_many([f"Locker {number} has the code {7000 + number}." for number in range(1500)])
        mover = BankMover(bank, lambda: Slow(64), move=True)
        mover.start()
        until(lambda: bank.store.unfinished is not None)
        mover.stop()
        mover.close()
        assert bank.model.name == "words alone"
        assert bank.recall("What is the code of locker 7?", 1)[0].text == "Locker 7 has the code 7007."


@pytest.mark.parametrize("move", [False, True], ids=["offered", "moved"])
def test_a_bank_of_words_in_front_of_an_embedding_model(tmp_path: Path, minilm_gguf: Path, move: bool) -> None:
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        bank.ingest(FACT)
    with (
        serve(engine_of(tmp_path, minilm_gguf)) as url,
        started(tmp_path, "--upstream", url, "--deadline", 30_000, *(["--move"] if move else [])) as (_, client),
    ):
        log = tmp_path / "serve.log"
        if move:
            until(lambda: status(client)["encoder"].endswith("(through Ollama)"))
        else:
            until(lambda: f"membank reencode '{url}#" in log.read_text(encoding="utf-8"))
            assert status(client)["encoder"] == "words alone"
        asked = {"model": "", "messages": [user("In which town is Ana's home?" if move else QUESTION)]}
        found = client.post("/membank/recall", json=asked).json()
        assert found["state"] == "on" and FACT in found["messages"][0]["content"]


def test_moved_by_hand_to_a_model_that_a_server_has(tmp_path: Path, minilm_gguf: Path) -> None:
    bank = tmp_path / "bank"
    with MemBank(WordsAdapter(), bank) as opened:
        opened.ingest(FACT)
    with serve(engine_of(tmp_path, minilm_gguf)) as url:
        for arguments in (["reencode", url], ["recall", "In which town is Ana's home?", "--encoder", url]):
            command = [sys.executable, "-m", "membank_llama", *arguments, "--bank", str(bank)]
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment(tmp_path), timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr
        assert FACT in " ".join(done.stdout.split())
        card = recorded_model(bank)
        assert card is not None and card["source"].startswith(f"{url}#")
        with pytest.raises(InvalidInputError, match="name it with --model"):
            needed_encoder(bank, None, threads=1)


# -- one that is gone, or not there yet


def test_a_model_whose_file_is_gone(tmp_path: Path, recall_tiny: Path) -> None:
    model = tmp_path / "mine.gguf"
    shutil.copy(recall_tiny, model)
    with LlamaCppAdapter(model, n_threads=1) as adapter, MemBank(adapter, tmp_path / "bank") as bank:
        bank.ingest(FACT)
    model.unlink()
    with serve(engine_of(tmp_path, recall_tiny)) as url, started(tmp_path, "--upstream", url) as (_, client):
        assert status(client)["encoder"] == "none (recall-tiny is gone)"
        answer = client.post("/api/chat", json={"model": "recall-tiny", "messages": [user(QUESTION)], "stream": False})
        assert answer.headers["x-membank"] == "on"
    said = " ".join((tmp_path / "serve.log").read_text(encoding="utf-8").split())
    assert f"is gone from {model}: memories are found by their words, and nothing new is remembered" in said
    assert "membank reencode MODEL" in said


def test_an_ollama_that_is_not_up_yet_is_waited_for(
    tmp_path: Path, minilm_gguf: Path, recall_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred, "AGAIN_SECONDS", 0.0)
    port, opened = free_port(), []

    def open_it() -> ModelAdapter:
        if not opened:
            raise ModelError("nobody there")
        return opened[0]

    real = MockAdapter(32)
    adapter = DeferredAdapter(real.model_id(), "mock", f"http://127.0.0.1:{port}#m", 32, open_it)
    with MemBank(adapter, tmp_path / "bank", auto_validate_adapter=False) as bank:
        assert not adapter.is_there
        with pytest.raises(ModelError, match="nobody there"):
            bank.ingest(FACT)
        opened.append(real)
        bank.ingest(FACT)
        assert adapter.is_there
        assert bank.recall(QUESTION, 1)[0].text == FACT
    other = DeferredAdapter("mock-1-31", "mock", None, 31, lambda: MockAdapter(32))
    with pytest.raises(ModelMismatchError, match="another model by now"):
        other.encode("x")


def test_serving_begins_before_the_upstream_that_encodes(tmp_path: Path, minilm_gguf: Path) -> None:
    engine = engine_of(tmp_path, minilm_gguf)
    with serve(engine) as url, started(tmp_path, "--upstream", url, "--encoder", f"{url}") as (process, client):
        name = status(client)["encoder"]
        assert name.endswith("(through Ollama)")
        client.post("/membank/learn", json={"model": "", "messages": [user(FACT)]})
        until(lambda: status(client)["memories"] == 1)
        process.terminate()
        process.wait(60)
    # it is gone now
    with started(tmp_path, "--upstream", url) as (_, client):
        assert status(client)["encoder"] == name
        assert status(client)["memories"] == 1
