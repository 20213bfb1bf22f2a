"""Told, restarted, asked: `membank serve` in front of llama.cpp's own llama-server, by every dialect that this speaks.

A dialect is a row of the table: where it is asked, what a request is, and where a reply's text stands in an answer and
in the events of a stream.
"""

from __future__ import annotations

import time
from pathlib import Path

import httpx
from support.dialects import BOTH, EACH_DIALECT, Dialect, ask
from support.serve_process import started

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"


def stored(client: httpx.Client) -> int:
    """Memories, once nothing waits to be stored."""
    until = time.monotonic() + 60
    while True:
        status = client.get("/membank/status").json()
        if not status["waiting_to_be_stored"]:
            return int(status["memories"])
        assert time.monotonic() < until
        time.sleep(0.02)


def prompt_of(server: str) -> str:
    """What llama-server saw last."""
    (slot,) = httpx.get(f"{server}/slots").json()
    return str(slot["prompt"])


def told_and_asked_again(
    folder: Path, server: str, encoder: Path, dialect: Dialect, *, streamed: bool
) -> tuple[str, httpx.Headers, str]:
    """Tell a fact, kill the proxy, start it anew and ask: the answer, its headers, and the prompt that was seen."""
    arguments = ("--upstream", server, "--encoder", encoder, "--deadline", 30_000)
    with started(folder, *arguments) as (process, client):
        said, headers = ask(client, dialect, FACT, streamed=streamed)
        assert said.strip()
        assert headers["x-membank"] == "none"
        assert stored(client) >= 1
        process.kill()
        process.wait(30)
    with started(folder, *arguments) as (_, client):
        said, headers = ask(client, dialect, QUESTION, streamed=streamed)
        return said, headers, prompt_of(server)


@BOTH
@EACH_DIALECT
def test_told_restarted_asked(
    tmp_path: Path, smollm2_server: str, recall_tiny: Path, dialect: Dialect, streamed: bool
) -> None:
    said, headers, prompt = told_and_asked_again(tmp_path, smollm2_server, recall_tiny, dialect, streamed=streamed)
    assert said.strip()
    assert headers["x-membank"] == "on"
    assert int(headers["x-membank-memories"]) >= 1
    # as a memory, ahead of the question, and once
    assert prompt.count(FACT) == prompt.count(QUESTION) == 1
    assert prompt.index(FACT) < prompt.index(QUESTION)


@EACH_DIALECT
def test_a_model_that_can_answers_from_it(
    tmp_path: Path, qwen_server: str, recall_tiny: Path, dialect: Dialect
) -> None:
    said, _, _ = told_and_asked_again(tmp_path, qwen_server, recall_tiny, dialect, streamed=False)
    assert "Porto" in said


@EACH_DIALECT
def test_without_a_memory_where_none_is_wanted(
    tmp_path: Path, smollm2_server: str, recall_tiny: Path, dialect: Dialect
) -> None:
    with started(tmp_path, "--upstream", smollm2_server, "--encoder", recall_tiny) as (_, client):
        ask(client, dialect, FACT, streamed=False)
        stored(client)
        bare = client.post(dialect.path, json=dialect.request(QUESTION), headers={"x-membank": "off"})
        assert bare.headers["x-membank"] == "off"
        assert FACT not in prompt_of(smollm2_server)
