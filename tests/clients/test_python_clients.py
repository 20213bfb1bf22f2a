"""Clients for Python, told a fact in one process and asked in another through `membank serve`; see programs.py."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.chat_models import cache
from support.client_programs import Served, client_python
from support.serve_process import started

QWEN = "qwen2.5-0.5b-instruct-q4_k_m.gguf"
PROGRAMS = Path(__file__).resolve().parent / "programs.py"
FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
ANSWER = "Your sister lives in Porto."
BOTH = ("whole", "streamed")
CLIENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    # the package that a program needs, and the ways in which it can
    "anthropic": ("anthropic", (*BOTH, "async")),
    "instructor": ("instructor", ()),
    "langchain-anthropic": ("langchain_anthropic", BOTH),
    "langchain-ollama": ("langchain_ollama", BOTH),
    "langchain-openai": ("langchain_openai", (*BOTH, "responses")),
    "litellm-anthropic": ("litellm", BOTH),
    "litellm-ollama": ("litellm", BOTH),
    "litellm-openai": ("litellm", BOTH),
    "llm-ollama": ("llm_ollama", BOTH),
    "ollama": ("ollama", (*BOTH, "async", "generate")),
    "openai-agents": ("agents", BOTH),
    "openai-chat": ("openai", BOTH),
    "openai-responses": ("openai", (*BOTH, "async")),
    "pydantic-ai": ("pydantic_ai", BOTH),
}
CASES = [(name, how) for name, (_, ways) in CLIENTS.items() for how in ways]


def say(folder: Path, name: str, url: str, how: str, text: str) -> str:
    python = client_python("light", CLIENTS[name][0])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"HOME": str(folder), "LLM_USER_PATH": str(folder / "llm"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [python, str(PROGRAMS), name, url, how, text]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(("name", "how"), CASES, ids=[f"{name}-{how}" for name, how in CASES])
def test_told_and_asked(
    tmp_path: Path, served: Served, name: str, how: str, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    namespace = f"{name}-{how}"
    url = f"{served.url}/ns/{namespace}"
    told = say(tmp_path, name, url, how, FACT)
    assert say(tmp_path, name, url, how, QUESTION) == ANSWER
    # what else such a client sends leaves nothing
    assert eventually(lambda: served.texts(namespace) == [FACT, told, QUESTION, ANSWER])


def test_instructor_reads_a_memory_into_a_model(tmp_path: Path) -> None:
    model = cache() / QWEN
    if not model.is_file():
        pytest.skip(f"needs {QWEN} in {cache()}")
    with started(tmp_path, "--model", model, "--encoder", model, "--deadline", 30_000) as (_, client):
        url = str(client.base_url).rstrip("/")
        say(tmp_path, "instructor", url, "whole", FACT)
        assert say(tmp_path, "instructor", url, "whole", "In which city does my sister Ana live?") == "Porto"
