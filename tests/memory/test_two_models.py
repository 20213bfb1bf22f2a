"""One model talks, another encodes: chat, drop-in, recall and why on one bank, closed and opened again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.terminals import membank

import membank_llama
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.errors import BankFormatError, ModelMismatchError

FACTS = ("The code of my bicycle lock is 4719.", "My sister is called Ilse.", "I work as a gardener in Lisbon.")
QUESTION = "What is my sister called?"
PAIRS = (("minilm_gguf", "recall_tiny"), ("recall_tiny", "tiny_gguf"), ("recall_tiny", "stories_chatml_gguf"))


@pytest.fixture(params=PAIRS, ids=[f"{encoder}-{chat}".replace("_gguf", "") for encoder, chat in PAIRS])
def models(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    encoder, chat = request.param
    return request.getfixturevalue(encoder), request.getfixturevalue(chat)


def dim_of(path: Path) -> tuple[str, int]:
    with LlamaCppAdapter(path, n_threads=1) as adapter:
        return adapter.model_id(), adapter.hidden_dim


def test_in_the_terminal(models: tuple[Path, Path], tmp_path: Path) -> None:
    encoder, chat = models
    talk = (
        "--bank",
        tmp_path,
        "chat",
        chat,
        "--threads",
        "1",
        "--max-tokens",
        "24",
        "--temperature",
        "0",
        "--ctx",
        "512",
    )
    told = membank(*talk, "--encoder", encoder, stdin="\n".join(FACTS) + "\n")
    assert told.code == 0, told.err
    # the encoder is the bank's from then on: nobody names it again
    asked = membank(*talk, stdin=f"{QUESTION}\n/why\n")
    assert asked.code == 0, asked.err
    assert "encoded by" in asked.err
    assert "Ilse" in asked.out + asked.err
    if chat.name == "recall-tiny.gguf":
        assert "Your sister is called Ilse." in asked.out
    stats = json.loads(membank("--bank", tmp_path, "stats", "--json").out)
    assert (stats["model"]["id"], stats["model"]["dim"]) == dim_of(encoder)
    found = json.loads(membank("--bank", tmp_path, "recall", QUESTION, "--json", "--threads", "1").out)
    assert any("Ilse" in result["text"] for result in found[:3])
    assert found[0]["score_l0"] is not None
    why = membank("--bank", tmp_path, "why", "--threads", "1")
    assert why.code == 0
    assert QUESTION in why.out and "Ilse" in " ".join(why.out.split())
    assert membank("--bank", tmp_path, "verify").code == 0


def test_in_python(models: tuple[Path, Path], tmp_path: Path) -> None:
    encoder, chat = models
    options = {"model_path": str(chat), "n_ctx": 512, "n_threads": 1, "verbose": False, "seed": 1}
    llm = membank_llama.Llama(**options, memory=tmp_path / "bank", encoder=encoder)
    for fact in FACTS:
        llm.create_chat_completion([{"role": "user", "content": fact}], max_tokens=8, temperature=0.0)
    llm.close()
    llm = membank_llama.Llama(**options, memory=tmp_path / "bank", encoder=encoder)
    llm.create_chat_completion([{"role": "user", "content": QUESTION}], max_tokens=8, temperature=0.0)
    last = llm.memory.last
    assert last is not None and last.error is None and "Ilse" in last.block
    assert llm.memory.bank.model.id == dim_of(encoder)[0]
    llm.close()
    with pytest.raises(ModelMismatchError, match=dim_of(encoder)[0]):
        membank_llama.Llama(**options, memory=tmp_path / "bank")


def test_the_drop_in_opens_a_bank_as_it_was_made(tmp_path: Path, recall_tiny: Path) -> None:
    note = tmp_path / "a.txt"
    note.write_text(FACTS[1], encoding="utf-8")
    kind = ("--layer", "1", "--pooling", "weighted", "--template", "echo")
    made = membank("--bank", tmp_path / "bank", "ingest", note, "-m", recall_tiny, *kind, "--threads", "1")
    assert made.code == 0, made.err
    options = {"model_path": str(recall_tiny), "n_ctx": 512, "n_threads": 1, "verbose": False}
    for encoder in (None, recall_tiny):
        llm = membank_llama.Llama(**options, memory=tmp_path / "bank", encoder=encoder)
        reply = llm.create_chat_completion([{"role": "user", "content": QUESTION}], max_tokens=24, temperature=0.0)
        assert llm.memory.bank.model.id.endswith("-L1-weighted-echo")
        assert reply["choices"][0]["message"]["content"] == "Your sister is called Ilse."
        llm.close()


def test_a_bank_that_was_hardly_begun_is_begun_again(tmp_path: Path, recall_tiny: Path) -> None:
    (tmp_path / "bank.sqlite").touch()
    llm = membank_llama.Llama(model_path=str(recall_tiny), memory=tmp_path, n_ctx=128, n_threads=1, verbose=False)
    assert llm.memory.bank.stats()["memories"] == 0
    llm.close()
    (tmp_path / "bank.sqlite").write_bytes(b"nothing that SQLite knows " * 400)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"bank.sqlite{suffix}").unlink(missing_ok=True)
    with pytest.raises(BankFormatError, match="choose another directory"):
        membank_llama.Llama(model_path=str(recall_tiny), memory=tmp_path, n_ctx=128, n_threads=1, verbose=False)
