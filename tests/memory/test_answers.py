"""Memory works: the answers of the embedded model, told in one place and asked in another.

The model knows nothing but what stands in its prompt, so a right answer is the memory's doing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from support.terminals import ROOT, environment, membank

import membank_llama
from membank_llama import LlamaCppAdapter, MemBank
from membank_llama.gguf.builtin import NOTED, UNKNOWN, embedded_model
from membank_llama.memory.prompt_injection import MemoryOptions

OPTIONS: dict[str, Any] = {"n_ctx": 1024, "n_threads": 1, "n_threads_batch": 1, "verbose": False}
LOCK = "The code of my bicycle lock is 4719."
ASK_LOCK = "What is the code of my bicycle lock?"
LOCK_ANSWER = "The code of your bicycle lock is 4719."
SISTER = "My sister is called Ilse."
ASK_SISTER = "What is my sister called?"
SISTER_ANSWER = "Your sister is called Ilse."
ASK_BROTHER = "What is my brother called?"


def say(llm: llama_cpp.Llama, *texts: str, **options: Any) -> str:
    """The reply to the last of a user's messages, each in a conversation of one."""
    answer: Any = None
    for text in texts:
        messages: Any = [{"role": "user", "content": text}]
        answer = llm.create_chat_completion(messages, temperature=0.0, max_tokens=64, **options)
    return str(answer["choices"][0]["message"]["content"])


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return tmp_path / "bank"


def remembering(bank: Path, **options: Any) -> membank_llama.Llama:
    return membank_llama.Llama(model_path=str(embedded_model()), memory=bank, **OPTIONS, **options)


@pytest.fixture
def told(bank: Path) -> Path:
    """A bank whose owner was told two things and closed."""
    llm = remembering(bank)
    assert say(llm, LOCK) == NOTED
    assert say(llm, SISTER) == NOTED
    llm.close()
    return bank


@pytest.fixture
def plain() -> Iterator[llama_cpp.Llama]:
    llm = llama_cpp.Llama(model_path=str(embedded_model()), **OPTIONS)
    yield llm
    llm.close()


# -- the drop-in


def test_without_memory_it_does_not_know(plain: llama_cpp.Llama) -> None:
    assert [say(plain, text) for text in (ASK_LOCK, ASK_SISTER, ASK_BROTHER)] == [UNKNOWN] * 3


def test_told_closed_opened_asked(told: Path) -> None:
    llm = remembering(told)
    assert say(llm, ASK_LOCK) == LOCK_ANSWER
    assert say(llm, ASK_SISTER) == SISTER_ANSWER
    assert say(llm, ASK_BROTHER) == UNKNOWN
    llm.close()


def test_a_streamed_answer(told: Path) -> None:
    llm = remembering(told)
    chunks: Any = llm.create_chat_completion(
        [{"role": "user", "content": ASK_LOCK}], temperature=0.0, max_tokens=64, stream=True
    )
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == LOCK_ANSWER
    llm.close()


def test_a_raw_prompt(told: Path) -> None:
    llm = remembering(told)
    prompt = f"<|im_start|>user\n{ASK_SISTER}<|im_end|>\n<|im_start|>assistant\n"
    answer: Any = llm.create_completion(prompt, temperature=0.0, max_tokens=64)
    assert answer["choices"][0]["text"] == SISTER_ANSWER
    llm.close()


def test_a_conversation_of_several_turns(told: Path) -> None:
    llm = remembering(told)
    messages: list[dict[str, str]] = []
    answers = []
    for text in (ASK_SISTER, ASK_BROTHER, "My brother is called Osei.", ASK_BROTHER, ASK_LOCK):
        messages.append({"role": "user", "content": text})
        answer: Any = llm.create_chat_completion(messages, temperature=0.0, max_tokens=64)
        messages.append(answer["choices"][0]["message"])
        answers.append(messages[-1]["content"])
    assert answers == [SISTER_ANSWER, UNKNOWN, NOTED, "Your brother is called Osei.", LOCK_ANSWER]
    llm.close()


def test_what_is_told_last_holds(told: Path) -> None:
    llm = remembering(told)
    say(llm, "I changed the code of my bicycle lock to 8236.")
    llm.close()
    llm = remembering(told)
    assert say(llm, ASK_LOCK) == "The code of your bicycle lock is 8236."
    llm.close()


def test_another_namespace_knows_nothing(told: Path) -> None:
    llm = remembering(told, memory_options=MemoryOptions(namespace="work"))
    assert say(llm, ASK_LOCK) == UNKNOWN
    llm.close()


def test_recall_switched_off(told: Path) -> None:
    llm = remembering(told, memory_options=MemoryOptions(recall=False))
    assert say(llm, ASK_LOCK) == UNKNOWN
    llm.close()


def test_an_encoder_beside_it(bank: Path, minilm_gguf: Path) -> None:
    for text, expected in ((LOCK, NOTED), (ASK_LOCK, LOCK_ANSWER), (ASK_BROTHER, UNKNOWN)):
        llm = remembering(bank, encoder=str(minilm_gguf))
        assert say(llm, text) == expected
        llm.close()


def test_a_process_killed_after_it_was_told(bank: Path) -> None:
    code = (
        "import os, signal, sys, membank_llama\n"
        "from membank_llama.gguf.builtin import embedded_model\n"
        f"llm = membank_llama.Llama(model_path=str(embedded_model()), memory=sys.argv[1], **{OPTIONS!r})\n"
        f"llm.create_chat_completion([{{'role': 'user', 'content': {LOCK!r}}}], temperature=0.0)\n"
        "llm.memory.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bank)], env=environment(), timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    llm = remembering(bank)
    assert say(llm, ASK_LOCK) == LOCK_ANSWER
    llm.close()


# -- the library


def test_a_bank_filled_by_hand_and_a_model_that_exists(bank: Path, plain: llama_cpp.Llama) -> None:
    with MemBank(LlamaCppAdapter(plain, n_threads=1), bank) as opened:
        kept = opened.ingest(LOCK)
        for number, text in enumerate(("My aunt lives in Dunvar.", "My brother is called Osei.", SISTER)):
            opened.ingest(text, created_at=1_700_000_000.0 + 86_400 * number)
        assert opened.recall(ASK_LOCK, 1)[0].text == LOCK
        llm = membank_llama.remember(plain, opened)
        assert say(llm, ASK_LOCK) == LOCK_ANSWER
        assert say(llm, "Where does my aunt live?") == "Your aunt lives in Dunvar."
        llm.memory.close()
        assert kept.memory_id


def test_what_is_forgotten_is_not_known(bank: Path, plain: llama_cpp.Llama) -> None:
    with MemBank(LlamaCppAdapter(plain, n_threads=1), bank) as opened:
        kept = opened.ingest(LOCK)
        llm = membank_llama.remember(plain, opened, MemoryOptions(remember=False))
        assert say(llm, ASK_LOCK) == LOCK_ANSWER
        opened.forget(kept.memory_id)
        assert say(llm, ASK_LOCK) == UNKNOWN
        llm.memory.close()


# -- the chat


def chat(bank: Path, *lines: str) -> list[str]:
    done = membank("--bank", bank, "chat", "--threads", "1", stdin="\n".join(lines) + "\n")
    assert done.code == 0, done.err
    assert "toy" in done.err
    return [line for line in done.out.splitlines() if line.strip()]


def test_the_chat_without_a_model_named(bank: Path) -> None:
    assert chat(bank, LOCK, "My neighbour Tomasz feeds the cat.") == [NOTED, NOTED]
    answers = chat(bank, ASK_LOCK, "Who feeds the cat?", ASK_BROTHER)
    assert answers == [LOCK_ANSWER, "Your neighbour Tomasz feeds the cat.", UNKNOWN]


def test_the_chat_without_memory(bank: Path) -> None:
    done = membank("chat", "--no-memory", "--threads", "1", stdin=f"{ASK_LOCK}\n")
    assert done.code == 0, done.err
    assert done.out.strip() == UNKNOWN


def test_the_toy_has_a_bank_of_its_own(tmp_path: Path) -> None:
    homes = {name: str(tmp_path) for name in ("HOME", "XDG_DATA_HOME", "LOCALAPPDATA")}
    done = membank("chat", "--threads", "1", stdin=f"{LOCK}\n", **homes)
    assert done.code == 0, done.err
    banks = [path.parent.name for path in tmp_path.rglob("bank.sqlite")]
    assert banks == ["recall-tiny"]


# -- a program that knows nothing of memory


def test_a_program_under_the_hook(bank: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom llama_cpp import Llama\n"
        f"llm = Llama(sys.argv[1], **{OPTIONS!r})\n"
        "reply = llm.create_chat_completion([{'role': 'user', 'content': sys.argv[2]}], temperature=0.0)\n"
        "print(reply['choices'][0]['message']['content'])\n",
        encoding="utf-8",
    )
    answers = []
    for text in (LOCK, ASK_LOCK):
        done = subprocess.run(
            [sys.executable, str(ROOT / "hooks" / "run_with_memory.py"), str(program), str(embedded_model()), text],
            env={**environment(), "MEMBANK_BANK": str(bank), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout.strip())
    assert answers == [NOTED, LOCK_ANSWER]
