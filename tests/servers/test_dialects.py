"""Told, restarted, asked: `membank serve` in front of llama.cpp's own llama-server, by every dialect that this speaks.

A dialect is a row of the table: where it is asked, what a request is, and where a reply's text stands in an answer and
in the events of a stream.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.proxies import user
from support.serve_process import started

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
MOST = 24


@dataclass(frozen=True)
class Dialect:
    """One way to ask.

    Args:
        request: a body that says one thing.
        reply: the text in an answer.
        piece: the text in an event of a stream; empty where there is none.
        events: the kinds of events that a stream must have, where it names them.
        served: whether the proxy gives it a memory.
    """

    path: str
    request: Callable[[str], dict[str, Any]]
    reply: Callable[[dict[str, Any]], str]
    piece: Callable[[dict[str, Any]], str]
    events: tuple[str, ...] = ()
    served: bool = True


def _chat(text: str) -> dict[str, Any]:
    return {"model": "smollm2", "messages": [user(text)], "max_tokens": MOST, "temperature": 0}


def _prompt(text: str) -> dict[str, Any]:
    prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return {"model": "smollm2", "prompt": prompt, "max_tokens": MOST, "temperature": 0}


def _completion(text: str) -> dict[str, Any]:
    prompt = _prompt(text)["prompt"]
    return {"model": "smollm2", "prompt": prompt, "n_predict": MOST, "temperature": 0}


def _responses(text: str) -> dict[str, Any]:
    return {"model": "smollm2", "input": text, "max_output_tokens": MOST, "temperature": 0}


def _of_choice(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def _of_delta(event: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))


def _of_text(answer: dict[str, Any]) -> str:
    return "".join(choice.get("text") or "" for choice in answer.get("choices", ()))


def _of_content(answer: dict[str, Any]) -> str:
    return str(answer.get("content", ""))


def _of_message(answer: dict[str, Any]) -> str:
    return "".join(block.get("text", "") for block in answer["content"])


def _of_block(event: dict[str, Any]) -> str:
    return str(event["delta"].get("text", "")) if event["type"] == "content_block_delta" else ""


def _of_output(answer: dict[str, Any]) -> str:
    parts = [part for item in answer["output"] for part in item.get("content") or ()]
    return "".join(part.get("text", "") for part in parts)


def _of_output_delta(event: dict[str, Any]) -> str:
    return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""


_ANTHROPIC = ("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
              "message_stop")  # fmt: skip
_RESPONSES = ("response.created", "response.output_text.delta", "response.completed")

DIALECTS = (
    Dialect("/v1/chat/completions", _chat, _of_choice, _of_delta),
    Dialect("/v1/completions", _prompt, _of_text, _of_text),
    # the proxy lets these by without a memory so far
    Dialect("/chat/completions", _chat, _of_choice, _of_delta, served=False),
    Dialect("/completion", _completion, _of_content, _of_content, served=False),
    Dialect("/completions", _completion, _of_content, _of_content, served=False),
    Dialect("/v1/messages", _chat, _of_message, _of_block, _ANTHROPIC, served=False),
    Dialect("/v1/responses", _responses, _of_output, _of_output_delta, _RESPONSES, served=False),
    Dialect("/responses", _responses, _of_output, _of_output_delta, _RESPONSES, served=False),
)
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
SERVED = pytest.mark.parametrize("dialect", [d for d in DIALECTS if d.served], ids=lambda d: d.path)
NOT_SERVED = pytest.mark.parametrize("dialect", [d for d in DIALECTS if not d.served], ids=lambda d: d.path)


def ask(client: httpx.Client, dialect: Dialect, text: str, *, streamed: bool) -> tuple[str, httpx.Headers]:
    """What was answered, and the headers."""
    body = dialect.request(text)
    if not streamed:
        response = client.post(dialect.path, json=body)
        assert response.status_code == 200, response.text
        return dialect.reply(response.json()), response.headers
    said, kinds = [], []
    with client.stream("POST", dialect.path, json={**body, "stream": True}) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            field, _, value = line.partition(":")
            if field == "data" and value.strip() != "[DONE]":
                event = json.loads(value)
                kinds.append(event.get("type", ""))
                said.append(dialect.piece(event))
    # in this order, others between them
    rest = iter(kinds)
    assert all(kind in rest for kind in dialect.events), kinds
    return "".join(said), response.headers


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
@SERVED
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


@SERVED
def test_a_model_that_can_answers_from_it(
    tmp_path: Path, qwen_server: str, recall_tiny: Path, dialect: Dialect
) -> None:
    said, _, _ = told_and_asked_again(tmp_path, qwen_server, recall_tiny, dialect, streamed=False)
    assert "Porto" in said


@SERVED
def test_without_a_memory_where_none_is_wanted(
    tmp_path: Path, smollm2_server: str, recall_tiny: Path, dialect: Dialect
) -> None:
    with started(tmp_path, "--upstream", smollm2_server, "--encoder", recall_tiny) as (_, client):
        ask(client, dialect, FACT, streamed=False)
        stored(client)
        bare = client.post(dialect.path, json=dialect.request(QUESTION), headers={"x-membank": "off"})
        assert bare.headers["x-membank"] == "off"
        assert FACT not in prompt_of(smollm2_server)


@BOTH
@NOT_SERVED
def test_what_has_no_memory_yet_is_passed_on(
    tmp_path: Path, smollm2_server: str, recall_tiny: Path, dialect: Dialect, streamed: bool
) -> None:
    with started(tmp_path, "--upstream", smollm2_server, "--encoder", recall_tiny) as (_, client):
        said, headers = ask(client, dialect, QUESTION, streamed=streamed)
        assert said.strip()
        assert "x-membank-memories" not in headers
        assert QUESTION in prompt_of(smollm2_server)
