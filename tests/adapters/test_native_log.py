"""What llama.cpp prints: in the log for the command line, where it was for programs of others."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.serve_process import started
from support.terminals import environment, membank

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.adapters.llama_cpp.native_log import log_native_lines
from membank_llama.core.native_lines import native_lines_logged

GEMMA = Path.home() / ".cache" / "membank-models" / "gemma-3-270m-q4_k_m.gguf"
NATIVE = re.compile(r"(?:\w+: )?~?(?:llama|ggml|load|print_info|sched|set_abort|create)\w*: ")
CHAT = ("--threads", "1", "--max-tokens", "2", "--temperature", "0")


def native(text: str) -> list[str]:
    return [line for line in text.splitlines() if NATIVE.match(line)]


def test_nothing_of_llama_cpp_shows(tmp_path: Path, tiny_gguf: Path) -> None:
    (tmp_path / "note.txt").write_text("The lamp is green.", encoding="utf-8")
    told = membank("--bank", tmp_path / "a", "ingest", tmp_path / "note.txt", "--model", tiny_gguf, "--threads", 1)
    assert told.code == 0 and native(told.out + told.err) == []
    found = membank("--bank", tmp_path / "a", "recall", "lamp", "--threads", 1, MEMBANK_DEBUG="1")
    assert found.code == 0 and native(found.err), found.err
    assert native(found.out) == []


def test_nor_in_a_chat_with_a_model_that_it_warns_of(tmp_path: Path) -> None:
    if not GEMMA.is_file():
        pytest.skip(f"needs {GEMMA.name}")
    chat = membank("--bank", tmp_path, "chat", GEMMA, *CHAT, stdin="hello\n")
    assert chat.code == 0 and native(chat.out + chat.err) == [], chat.err


def test_nor_while_serving(tmp_path: Path, tiny_gguf: Path) -> None:
    with started(tmp_path, "--model", tiny_gguf, "--encoder", tiny_gguf, "--ctx", "256") as (_, client):
        name = client.get("/api/tags").json()["models"][0]["name"]
        asked = {"model": name, "messages": [{"role": "user", "content": "hello"}], "options": {"num_predict": 2}}
        assert client.post("/api/chat", json={**asked, "stream": False}).status_code == 200
    assert native((tmp_path / "serve.log").read_text(encoding="utf-8")) == []


def test_a_program_of_others_has_it_as_before(tiny_gguf: Path) -> None:
    code = "import sys, llama_cpp, membank_llama.adapters.llama_cpp.adapter; llama_cpp.Llama(sys.argv[1], n_ctx=64)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_gguf)],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert native(done.stderr)


def test_lines_are_put_together_and_come_at_debug_level(tiny_gguf: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "membank_llama.llama_cpp"), native_lines_logged():
        log_native_lines(True)
        LlamaCppAdapter(tiny_gguf, n_threads=1).close()
    lines = [record for record in caplog.records if record.name == "membank_llama.llama_cpp"]
    assert lines and {record.levelno for record in lines} == {logging.DEBUG}
    assert not any("\n" in record.getMessage() for record in lines)
